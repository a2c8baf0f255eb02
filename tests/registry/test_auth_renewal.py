"""Credentials that end: looked up again when they are rejected."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pusher.errors import (
    CredentialsRejected,
    PusherError,
)
from pusher.registry.auth.authenticator import Authenticator
from pusher.registry.auth.credentials import Credential
from pusher.registry.client import RegistryClient
from pusher.registry.http.body import Body
from pusher.registry.http.transport import Transport
from tests.registry.guarded import DIGEST, REPOSITORY, World, opened, world
from tests.registry.sites import PATIENT, transport_of
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry


@pytest.fixture
def there() -> Iterator[World]:
    with world() as running:
        yield running


# --- credentials that end ---------------------------------------------------------------------------------

OLD = Credential("AWS", "0ld", "docker-credential-ecr-login")
NEW = Credential("AWS", "n3w", "docker-credential-ecr-login")


def test_credential_is_looked_up_again_when_it_is_rejected(there: World) -> None:
    there.tokens.login = ("AWS", "n3w")
    rejected: list[Credential | None] = []

    def renew(old: Credential | None) -> Credential:
        rejected.append(old)
        return NEW

    client = there.client(OLD, renew)
    assert not client.blob_exists(REPOSITORY, DIGEST)
    assert not client.blob_exists("other", DIGEST)
    assert rejected == [OLD]


def test_basic_credential_is_looked_up_again(blob_body: Callable[[], Body]) -> None:
    """ECR's password lives for 12 hours; it may end in the middle of a layer."""
    with (
        FakeRegistry(DISTRIBUTION_3, credentials=("AWS", "0ld")) as registry,
        transport_of(Transport(PATIENT)) as transport,
    ):
        auth = Authenticator(registry.address, OLD, renew=lambda _: NEW)
        client = RegistryClient(registry.address, transport, auth)
        location = opened(client)
        registry.credentials = ("AWS", "n3w")
        assert client.send_chunk(REPOSITORY, location, blob_body(), 0).status == 202
        [session] = registry.sessions.values()
        assert session.size == 10
        registry.credentials = ("AWS", "n3w3r")
        with pytest.raises(CredentialsRejected):
            client.blob_exists(REPOSITORY, DIGEST)


def test_a_login_that_was_missing_is_looked_up_again(there: World) -> None:
    """`pusher login` while a worker runs."""
    there.tokens.login = ("AWS", "n3w")
    client = there.client(None, lambda missing: NEW if missing is None else missing)
    assert not client.blob_exists(REPOSITORY, DIGEST)


@pytest.mark.parametrize("found", [OLD, None])
def test_the_same_credential_is_not_tried_again(there: World, found: Credential | None) -> None:
    lookups = []

    def renew(old: Credential | None) -> Credential | None:
        lookups.append(old)
        return found

    with pytest.raises(CredentialsRejected) as error:
        there.client(OLD, renew).blob_exists(REPOSITORY, DIGEST)
    assert (len(lookups), len(there.asked)) == (1, 1)
    assert "docker-credential-ecr-login" in error.value.message


def test_many_threads_look_up_once(there: World) -> None:
    there.tokens.login = ("AWS", "n3w")
    lookups = []
    lock = threading.Lock()

    def renew(old: Credential | None) -> Credential:
        with lock:
            lookups.append(old)
        return NEW

    client = there.client(OLD, renew)
    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(lambda _: client.blob_exists(REPOSITORY, DIGEST), range(16)))
    assert lookups == [OLD]


def test_what_a_lookup_raises_is_told(there: World) -> None:
    def renew(_: Credential | None) -> Credential:
        raise PusherError("docker-credential-ecr-login: expired SSO session")

    with pytest.raises(PusherError, match="expired SSO session"):
        there.client(OLD, renew).blob_exists(REPOSITORY, DIGEST)
