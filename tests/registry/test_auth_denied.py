"""Logins that may only read, logins that ran out, and a 401 that nobody can answer."""

from __future__ import annotations

import base64
from typing import Final

import pytest

from pusher.errors import PermissionDenied, RegistryFault
from pusher.registry.auth.authenticator import Authenticator
from pusher.registry.auth.credentials import Credential
from pusher.registry.client import RegistryClient
from pusher.registry.http.transport import Transport
from tests.registry.pretended import LOGIN, client_over
from tests.registry.sites import PATIENT, transport_of
from tests.support.fakeregistry import SERVERLESS, Answer, FakeRegistry, Fault, On, unauthorized

REPOSITORY: Final = "team/app"
DIGEST: Final = "sha256:" + "a" * 64
GOOD: Final = base64.b64encode(":".join(LOGIN).encode()).decode()


def test_a_login_that_may_read_and_not_push_is_told_so() -> None:
    """serverless-registry answers 401 to a POST of its read-only user."""
    with (
        FakeRegistry(SERVERLESS, credentials=LOGIN) as registry,
        transport_of(Transport(PATIENT)) as transport,
    ):
        registry.faults.add(Fault(On.OPEN, unauthorized(), times=None))
        client = client_over(transport, registry.address)
        assert not client.blob_exists(REPOSITORY, DIGEST)
        with pytest.raises(PermissionDenied, match="this login may not push"):
            client.open_upload(REPOSITORY)


def test_a_login_that_ran_out_is_looked_up_again_after_a_403() -> None:
    """ECR's: 403 DENIED, and the helper has a new one."""
    renewed: list[Credential | None] = []

    def renew(used: Credential | None) -> Credential:
        renewed.append(used)
        return Credential(*LOGIN, "a helper")

    denied = Answer(403, body=b'{"errors": [{"code": "DENIED", "message": "token has expired"}]}')
    with FakeRegistry(SERVERLESS) as registry, transport_of(Transport(PATIENT)) as transport:
        registry.faults.add(
            Fault(On.PING, unauthorized()),
            Fault(On.OPEN, denied, times=None, where=lambda r: not r.headers["authorization"].endswith(GOOD)),
        )
        old = Credential("ann", "old", "a helper")
        client = RegistryClient(
            registry.address, transport, Authenticator(registry.address, old, renew=renew)
        )
        assert client.open_upload(REPOSITORY).location
        assert renewed == [old]
        assert [record.status for record in registry.requests(On.OPEN)] == [403, 202]


def test_a_401_without_a_challenge_in_the_middle_is_an_outage() -> None:
    with FakeRegistry(SERVERLESS) as registry, transport_of(Transport(PATIENT)) as transport:
        registry.faults.add(Fault(On.OPEN, Answer(401)))
        client = client_over(transport, registry.address, login=None)
        client.ping()
        with pytest.raises(RegistryFault, match="answered 401 while opening an upload"):
            client.open_upload(REPOSITORY)
        assert client.open_upload(REPOSITORY).location
