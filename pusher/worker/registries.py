"""Open one connection to each registry, shared by all jobs of a worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import Final

from pusher.config import Settings
from pusher.dataclass import dataclass
from pusher.errors import CredentialsUnreadable, PusherError
from pusher.registry.auth.authenticator import Authenticator
from pusher.registry.auth.credentials import Credential, find_credential
from pusher.registry.auth.credentials.headers import read_http_headers
from pusher.registry.client import RegistryClient
from pusher.registry.endpoint import possible_bases
from pusher.registry.http.tls import Trust
from pusher.registry.upload.uplink import LinkEstimate
from pusher.store.store import Store
from pusher.worker.registry_troubles import OutageEndingTransport, RegistryTroubles
from pusher.worker.stall_notices import StallNotices
from pusher.worker.uplinks import LinkEstimates

_CONNECTIONS: Final = 64 + 4
"""Kept to a host: as many as ``parallel`` may become, and some for other requests."""


@dataclass(frozen=True)
class RegistryConnection:
    """A client and the estimate of the link to its registry."""

    client: RegistryClient
    link: LinkEstimate


class Registries:
    """Opens connections on first use: one a registry and credential. Thread-safe."""

    def __init__(
        self,
        store: Store | None,
        settings: Settings,
        note: Callable[[str], None] | None = None,
    ) -> None:
        """Without a store, start with no facts about links; ``note`` is called with registries' warnings.
        Without it they are kept for a run."""
        self.links = LinkEstimates(store)
        self._store = store
        self._settings = settings
        self._kept: list[str] = []
        self._note = note or self._kept.append
        self._sleep: Callable[[float], None] = time.sleep
        self._is_closed = False
        self._lock = threading.Lock()
        self._registry_locks: dict[str, threading.Lock] = {}  # one a registry
        self.stalls = StallNotices(self._print)
        self.troubles = RegistryTroubles(self.stalls, settings.retry.job_offline, note=self._print)
        self._transport = OutageEndingTransport(
            self.troubles, self.stalls, settings.timeouts, trust=self.trust_for, connections=_CONNECTIONS
        )
        self._reported: set[str] = set()
        self._credentials: dict[tuple[str, str], Credential | None] = {}
        self._clients: dict[tuple[str, Credential | None], RegistryClient] = {}

    def begin_run(
        self,
        store: Store,
        note: Callable[[str], None],
        limit: Callable[[], float | None],
        held_back: Callable[[], bool],
        sleep: Callable[[float], None],
    ) -> None:
        """Use these from now on; what was asked before need not be asked again. ``limit`` and ``held_back``
        are those of LinkEstimates, ``sleep`` is that of RequestRate."""
        self._store, self._note, self._sleep = store, note, sleep
        self.links = LinkEstimates(store, limit, held_back)
        while self._kept:
            note(self._kept.pop(0))

    def _print(self, text: str) -> None:
        self._note(text)

    def _wait(self, seconds: float) -> None:
        self._sleep(seconds)

    def ask_early(self, names: Iterable[str]) -> None:
        """Begin to ask registries for their APIs, without a login: the first who needs one has the response
        sooner."""
        try:
            headers = read_http_headers(self._settings.docker_config)
        except CredentialsUnreadable:  # reported once a job needs its registry
            return
        for base in self._likely_bases(names):
            self._transport.send_early(base, headers)

    def connect_early(self, names: Iterable[str]) -> None:
        """Begin to connect to registries, with TLS: for the first request, and for what is sent beside the
        next."""
        for base in self._likely_bases(names):
            self._transport.connect_ahead(base, 2)

    def _likely_bases(self, names: Iterable[str]) -> list[str]:
        sites = [(name, self._settings.at(name).plain_http) for name in names]
        return [possible_bases(name, plain_http=is_plain)[0] for name, is_plain in sites]

    def get(self, registry: str, repository: str) -> RegistryConnection:
        """Return the connection to ``registry`` for ``repository``.

        An unreadable credential store is noted; if the registry then asks for a login, the first request
        raises that error. Raises PasswordMissing.
        """
        with self._lock:
            turn = self._registry_locks.setdefault(registry, threading.Lock())
        # A helper may ask the user, or hang: only its own registry waits for it.
        with self.stalls.pause(), turn:
            credential, problem = self._credential(registry, repository)
            with self._lock:
                client = self._clients.get((registry, credential))
            if client is None:
                made = self._client(registry, repository, credential, problem)
                with self._lock:
                    client = self._clients.setdefault((registry, credential), made)
            return RegistryConnection(client, self.links.get(registry))

    def response_seconds(self, registry: str, wait: float) -> float | None:
        """Return the least time that a response of a registry took, as ``Transport`` does."""
        return self._transport.response_seconds(registry, wait)

    def round_trip(self, registry: str) -> float | None:
        """Return the seconds that the kernel measured for a packet to a registry, as ``Transport`` does."""
        return self._transport.round_trip(registry)

    def client(self, registry: str, repository: str) -> RegistryClient:
        """Return the client of ``get``."""
        return self.get(registry, repository).client

    def _credential(self, registry: str, repository: str) -> tuple[Credential | None, PusherError | None]:
        place = registry, repository
        with self._lock:
            if place in self._credentials:
                return self._credentials[place], None
        found, problem = self._look_up(registry, repository)
        if problem is not None:  # the next job may find one
            return None, problem
        with self._lock:
            return self._credentials.setdefault(place, found), None

    def _look_up(self, registry: str, repository: str) -> tuple[Credential | None, PusherError | None]:
        """Return the credential, or None and the error of looking it up."""
        problems: list[PusherError] = []
        found = find_credential(registry, self._settings, repository, on_problem=problems.append)
        how = f"the login of {found.source} is used" if found else f"{registry} is asked without a login"
        for problem in problems:
            if (text := f"{problem.message}; {how}") not in self._reported:
                self._reported.add(text)
                self._note(text)
        return found, problems[0] if problems and not found else None

    def _client(
        self,
        registry: str,
        repository: str,
        credential: Credential | None,
        problem: PusherError | None,
    ) -> RegistryClient:
        return RegistryClient(
            registry,
            self._transport,
            Authenticator(
                registry,
                credential,
                renew=partial(self._renew, registry, repository),
                problem=problem,
                headers=self.headers,
                policy=self._settings.retry,
            ),
            plain_http=self._settings.at(registry).plain_http,
            commit_timeout=self._settings.timeouts.commit,
            on_warning=self._print,
            known=self._store is not None and self._store.uploads.has_any_at(registry),
            policy=self._settings.retry,
            sleep=self._wait,
        )

    def _renew(self, registry: str, repository: str, rejected: Credential | None) -> Credential | None:
        """Return another credential than the rejected one; None if there is none.

        Logins of helpers expire (ECR's after 12 hours), and the user may have logged in meanwhile. The
        client continues with the returned one.
        """
        found, problem = self._look_up(registry, repository)
        if problem is not None:
            raise problem
        if found is None or found == rejected:
            return None
        with self._lock:
            for place, known in self._credentials.items():
                if place[0] == registry and known == rejected:
                    self._credentials[place] = found
            client = self._clients.pop((registry, rejected), None)
            if client is not None:
                self._clients.setdefault((registry, found), client)
        return found

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """The headers of every request to a registry itself."""
        try:
            return read_http_headers(self._settings.docker_config)
        except CredentialsUnreadable as error:
            self._note(f"{error.message}; its HttpHeaders are not sent")
            return {}

    def trust_for(self, host: str) -> Trust:
        """Return how the certificate of a host (``host[:port]``) is verified."""
        site = self._settings.at(host)
        return Trust(site.ca_cert, insecure=bool(site.insecure), certs_dirs=self._settings.certs_dirs)

    def _report_unused_logins(self) -> None:
        """Note a login that was given for this run and that its registry has not asked for: if it is wrong,
        nothing has shown that."""
        user = self._settings.username
        with self._lock:
            clients = list(self._clients.items())
        for (registry, credential), client in clients:
            is_given = (
                user is not None and credential is not None and self._settings.login_registry == registry
            )
            has_responded = self.response_seconds(registry, 0.0) is not None
            if is_given and has_responded and not client.requires_login:
                source = self._settings.login_source
                self._note(
                    f"{registry} asked for no login: that of {user} ({source}) was neither used nor checked"
                )

    def close(self) -> None:
        """Close idle connections and store the facts about the links."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._store is not None:  # `pusher login` reports it itself
            self._report_unused_logins()
        self._transport.close()
        self.links.close()
