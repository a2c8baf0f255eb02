"""A registry that demands tokens and the server that gives them, on real sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pusher.registry.auth.authenticator import Authenticator
from pusher.registry.auth.credentials import Credential
from pusher.registry.client import RegistryClient
from pusher.registry.http.transport import Transport
from tests.registry.pretended import LOGIN
from tests.registry.sites import PATIENT, transport_of
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry, On
from tests.support.quick import AT_ONCE
from tests.support.tokens import Demand, TokenServer, demand

REPOSITORY = "team/app"
PUSH = f"repository:{REPOSITORY}:pull,push"
DIGEST = "sha256:" + "a" * 64
ANN = Credential(*LOGIN, "a test")


@dataclass
class World:
    """A registry that demands tokens, their server, and a client."""

    registry: FakeRegistry
    tokens: TokenServer
    demand: Demand
    transport: Transport

    def client(
        self,
        credential: Credential | None = ANN,
        renew: Callable[[Credential | None], Credential | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> RegistryClient:
        address = self.registry.address
        return RegistryClient(
            address,
            self.transport,
            Authenticator(address, credential, renew=renew, clock=clock),
            policy=AT_ONCE,
        )

    @property
    def asked(self) -> list[tuple[str, ...]]:
        """The scopes of each token that was asked for."""
        return [asked.scopes for asked in self.tokens.asked]

    def bodies(self) -> list[int]:
        """Bytes of each chunk that arrived, whatever became of it."""
        return [record.body_received for record in self.registry.requests(On.CHUNK)]


@contextmanager
def world(**options: object) -> Iterator[World]:
    with (
        TokenServer(login=LOGIN) as tokens,
        FakeRegistry(DISTRIBUTION_3) as registry,
        transport_of(Transport(PATIENT)) as transport,
    ):
        fault = demand(tokens, **options)
        registry.faults.add(fault)
        assert isinstance(fault.action, Demand)
        yield World(registry, tokens, fault.action, transport)


def opened(client: RegistryClient) -> str:
    location = client.open_upload(REPOSITORY).location
    assert location is not None
    return location
