"""One connection to each registry, shared by all jobs of a worker."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from pusher.config import Settings
from pusher.registry.auth import Authenticator
from pusher.registry.client import RegistryClient
from pusher.registry.credentials import Credential, find_credential
from pusher.registry.link import LinkFacts
from pusher.registry.tls import Trust
from pusher.registry.transport import Transport
from pusher.store.store import Store


@dataclass(frozen=True)
class Connection:
    """A client with what is known of the way to its registry."""

    client: RegistryClient
    link: LinkFacts


class Registries:
    """Opens connections on first use: one a registry and credential. Thread-safe."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._lock = threading.Lock()
        self._transport = Transport(
            settings.timeouts, trust=self._trust_in, connections=settings.parallel + 2
        )
        self._credentials: dict[tuple[str, str], Credential | None] = {}
        self._clients: dict[tuple[str, Credential | None], RegistryClient] = {}
        self._links: dict[str, LinkFacts] = {}

    def get(self, registry: str, repository: str) -> Connection:
        """The connection to ``registry`` for work on ``repository``.

        Raises CredentialsUnreadable, CredentialHelperFailed, PasswordMissing.
        """
        with self._lock:
            if (registry, repository) not in self._credentials:
                found = find_credential(registry, self._settings, repository)
                self._credentials[registry, repository] = found
            key = (registry, self._credentials[registry, repository])
            if key not in self._clients:
                self._clients[key] = self._client(*key)
            if registry not in self._links:
                facts = self._store.facts.get(registry)
                self._links[registry] = LinkFacts(profile=facts.profile, max_chunk=facts.max_chunk)
            return Connection(self._clients[key], self._links[registry])

    def _client(self, registry: str, credential: Credential | None) -> RegistryClient:
        return RegistryClient(
            registry,
            self._transport,
            Authenticator(registry, credential),
            plain_http=self._settings.at(registry).plain_http,
            commit_timeout=self._settings.timeouts.commit,
        )

    def _trust_in(self, host: str) -> Trust:
        site = self._settings.at(host)
        return Trust(site.ca_cert, insecure=site.insecure, certs_dirs=self._settings.certs_dirs)

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()
