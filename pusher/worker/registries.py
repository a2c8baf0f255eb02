"""One connection to each registry, shared by all jobs of a worker."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from pusher.config import Settings
from pusher.registry.auth import Authenticator
from pusher.registry.client import RegistryClient
from pusher.registry.credentials import find_credential
from pusher.registry.link import LinkFacts
from pusher.registry.transport import Transport
from pusher.store.store import Store


@dataclass(frozen=True)
class Connection:
    """A client with what is known of the way to its registry."""

    client: RegistryClient
    link: LinkFacts


class Registries:
    """Opens connections on first use. Thread-safe."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._lock = threading.Lock()
        self._transport = Transport(settings.timeouts, connections=settings.parallel + 2)
        self._open: dict[str, Connection] = {}

    def get(self, registry: str) -> Connection:
        """The connection to ``registry``. Raises CredentialsUnreadable, PasswordMissing."""
        with self._lock:
            if registry not in self._open:
                facts = self._store.facts.get(registry)
                client = RegistryClient(
                    registry,
                    self._transport,
                    Authenticator(registry, find_credential(registry, self._settings)),
                    plain_http=self._settings.plain_http,
                    commit_timeout=self._settings.timeouts.commit,
                )
                self._open[registry] = Connection(
                    client, LinkFacts(profile=facts.profile, max_chunk=facts.max_chunk)
                )
            return self._open[registry]

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()
