"""Logging in with tokens: what is asked for, and when."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pusher.errors import (
    CredentialsRejected,
)
from pusher.oci.digest import of_bytes
from pusher.oci.manifest import Descriptor, build_manifest
from pusher.registry.auth.credentials import Credential
from pusher.registry.http.body import Body
from tests.registry.guarded import DIGEST, PUSH, REPOSITORY, World, opened, world
from tests.registry.pretended import LOGIN
from tests.support.fakeregistry import Action, Fault, On
from tests.support.fakeregistry.rules import Exchange
from tests.support.fakeregistry.wire import Reply


@pytest.fixture
def there() -> Iterator[World]:
    with world() as running:
        yield running


# --- tokens as they should be -----------------------------------------------------------------------------


def test_a_push_needs_one_token(there: World, blob_body: Callable[[], Body]) -> None:
    client = there.client()
    assert not client.blob_exists(REPOSITORY, DIGEST)
    location = client.location_of(client.send_chunk(REPOSITORY, opened(client), blob_body(), 0))
    assert location is not None
    digest = of_bytes(b"0123456789")
    assert client.close_upload(REPOSITORY, location, digest).ok
    layer = Descriptor("application/x", digest, 10)
    client.put_manifest(REPOSITORY, "1.0", build_manifest(layer, [layer]))
    assert client.get_manifest(REPOSITORY, "1.0") is not None
    assert there.asked == [(PUSH,)]
    assert there.tokens.asked[0].login == LOGIN
    assert there.tokens.asked[0].service == "a test"
    assert there.demand.refused == []
    assert [record.status for record in there.registry.requests()][:2] == [401, 404]
    assert {record.headers["authorization"][:7] for record in there.registry.requests()[1:]} == {"Bearer "}


def test_each_repository_has_a_token_of_its_own(there: World) -> None:
    client = there.client()
    for repository in (REPOSITORY, "other", REPOSITORY):
        client.blob_exists(repository, DIGEST)
    assert there.asked == [(PUSH,), ("repository:other:pull,push",)]


def test_many_threads_ask_for_one_token(there: World) -> None:
    client = there.client()
    with ThreadPoolExecutor(12) as pool:
        assert not any(pool.map(lambda _: client.blob_exists(REPOSITORY, DIGEST), range(48)))
    assert there.asked == [(PUSH,)]


def test_ping_proves_the_login_and_asks_once(there: World) -> None:
    client = there.client()
    client.ping()
    client.ping()
    assert there.asked == [()]
    assert [record.status for record in there.registry.requests()] == [401, 200]
    assert client.requires_login


def test_wrong_password_is_found_by_ping(there: World) -> None:
    with pytest.raises(CredentialsRejected) as error:
        there.client(Credential("ann", "wr0ng", "a test")).ping()
    assert "rejects the credential for user ann (a test)" in error.value.message
    assert there.tokens.site.address in error.value.message
    assert error.value.hint == f"pusher login {there.registry.address} stores a new one"
    assert "wr0ng" not in error.value.message


def test_a_login_for_a_push_asks_for_the_token_that_it_needs(there: World) -> None:
    client = there.client()
    client.log_in(REPOSITORY)
    assert opened(client)
    assert there.asked == [(PUSH,)]
    assert [record.status for record in there.registry.requests()] == [401, 202]
    with pytest.raises(CredentialsRejected):
        there.client(Credential("ann", "wr0ng", "a test")).log_in(REPOSITORY)


def test_registry_that_asks_nobody(there: World) -> None:
    there.registry.faults.clear()
    client = there.client()
    client.ping()
    assert not client.blob_exists(REPOSITORY, DIGEST)
    assert not client.requires_login
    assert there.asked == []


def test_mount_needs_the_right_to_read_the_source(there: World) -> None:
    digest = there.registry.add_blob("base", b"a blob")
    assert there.client().open_upload(REPOSITORY, mount=digest, source="base").location is None
    assert there.asked == [(PUSH, "repository:base:pull")]


def test_mount_from_what_may_not_be_read_is_an_upload(there: World) -> None:
    there.tokens.allowed = lambda resource, _: resource != "repository:base"
    digest = there.registry.add_blob("base", b"a blob")
    assert there.client().open_upload(REPOSITORY, mount=digest, source="base").location is not None
    assert there.asked[-1] == (PUSH,)


def test_identity_token(there: World) -> None:
    there.tokens.identity = "1d3nt1ty"
    there.tokens.rotates = True
    client = there.client(Credential("<token>", "", "a helper", identity_token="1d3nt1ty"))
    for repository in (REPOSITORY, "other"):
        client.blob_exists(repository, DIGEST)
    assert [asked.form["grant_type"] for asked in there.tokens.asked] == ["refresh_token"] * 2
    assert there.tokens.asked[0].form["refresh_token"] == "1d3nt1ty"
    assert there.tokens.asked[1].form["refresh_token"] not in ("1d3nt1ty", there.tokens.identity)


def test_registry_token_goes_as_it_is(there: World) -> None:
    token = there.tokens.make({f"repository:{REPOSITORY}": {"pull", "push"}})
    client = there.client(Credential("", "", "config.json", registry_token=token))
    assert not client.blob_exists(REPOSITORY, DIGEST)
    assert there.asked == []
    there.tokens.revoke()
    with pytest.raises(CredentialsRejected) as error:
        client.blob_exists(REPOSITORY, DIGEST)
    assert "(config.json)" in error.value.message
    assert token not in error.value.message


def test_anonymous_token(there: World) -> None:
    there.tokens.anonymous = True
    client = there.client(None)
    client.ping()
    assert opened(client)
    assert [(asked.scopes, asked.login) for asked in there.tokens.asked] == [((PUSH,), None)]


# --- tokens that end --------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


def test_token_is_renewed_before_a_chunk(there: World, blob_body: Callable[[], Body]) -> None:
    clock = Clock()
    client = there.client(clock=clock)
    location = opened(client)
    clock.ahead = 31
    client.send_chunk(REPOSITORY, location, blob_body(), 0)
    assert there.asked == [(PUSH,), (PUSH,)]
    assert there.demand.refused == []
    assert there.bodies() == [10]


def test_token_that_ended_meanwhile_costs_no_chunk(there: World, blob_body: Callable[[], Body]) -> None:
    """The registry's own clock, or a new key: 401 in the middle, the same chunk again with a new token."""
    client = there.client()
    location = opened(client)
    there.tokens.revoke()
    body = blob_body()
    assert client.send_chunk(REPOSITORY, location, body, 0).status == 202
    assert there.demand.refused == ["PATCH invalid_token"]
    assert there.asked == [(PUSH,), (PUSH,)]
    [session] = there.registry.sessions.values()
    assert session.size == 10
    assert body.sent == 20


def test_challenge_of_the_ping_is_kept(there: World) -> None:
    """gcr.io once answered 401 without a challenge (containers/image docker/docker_client.go)."""

    class Silent(Action):
        def rewrite(self, exchange: Exchange, reply: Reply) -> Reply:
            if exchange.route.kind is not On.PING:
                reply.headers.pop("WWW-Authenticate", None)
            return reply

    there.registry.faults.add(Fault(On.ANY, Silent(), times=None))
    client = there.client()
    assert not client.blob_exists(REPOSITORY, DIGEST)
    there.tokens.revoke()
    assert not client.blob_exists(REPOSITORY, DIGEST)
