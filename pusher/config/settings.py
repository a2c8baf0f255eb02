"""Everything a command needs to know, as values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pusher.config.timetable import Timetable
from pusher.config.values import MIB
from pusher.reference import Place, canonical_registry
from pusher.retry import RetryPolicy


@dataclass(frozen=True)
class Timeouts:
    """Seconds; three different things (a slow link that moves is never cut)."""

    connect: float = 15.0
    """Until a connection stands."""
    stall: float = 60.0
    """Without a single byte moving while a body is sent."""
    answer: float = 120.0
    """Between the last byte of a request and the answer."""
    commit: float = 900.0
    """The same for the request that closes an upload: registries copy gigabytes before they answer."""


@dataclass(frozen=True)
class RegistrySettings:
    """What may differ from registry to registry; the fields mean what those of ``Settings`` do."""

    chunk_size: int | None
    profile: str | None
    plain_http: bool
    insecure: bool
    ca_cert: Path | None
    username: str | None


@dataclass(frozen=True)
class Settings:
    """Everything a command needs to know, resolved once at its start."""

    home: Path
    database_url: str
    parallel: int = 4
    """Blob uploads at a time, over all jobs of one worker."""
    chunk_size: int | None = None
    """Bytes; None (``auto``) leaves it to the registry's limits and what was learned of the link."""
    limit_rate: Timetable | None = None
    """Bytes a second for all uploads of a worker together, by the time of day; None: no limit."""
    profile: str | None = None
    """Name of the registry profile to use whatever the registry looks like."""
    default_registry: str | None = None
    """``host[:port][/namespace]`` that names without a registry of their own are pushed to."""
    compression: str = "keep"
    """How layers are compressed that are not yet: ``gzip``, ``zstd``, ``none``, ``auto`` (what is sent
    first), or ``keep``: as ``gzip``, and whatever is at the tag already will do."""
    compression_level: int | None = None
    """gzip 1 to 9 (1 to 3 are ISA-L's, 4 to 9 zlib's), zstd 1 to 19; None: the usual one, 2 and 3."""
    compression_threads: int | None = None
    """Threads that compress one layer; None: one for each processor."""
    spool_limit: int = 20 * 1024 * MIB
    """Bytes that blobs nobody needs any more may keep on disk."""
    plain_http: bool = False
    """Plain http allowed for registries beyond this machine."""
    insecure: frozenset[str] = frozenset()
    """Registries (``host[:port]``) whose certificate is not verified."""
    ca_cert: Path | None = None
    """PEM file with certificate authorities that are trusted besides the operating system's."""
    certs_dirs: tuple[Path, ...] = ()
    """``certs.d`` folders of Docker and Podman; the first that has a folder for a registry counts."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    login_registry: str | None = None
    """The one registry (``host[:port]``) that ``username`` is for; None: none, until it is said which."""
    login_source: str = "--username"
    """Where ``username`` was given, for messages."""
    docker_auth_config: str | None = field(default=None, repr=False)
    """Text of DOCKER_AUTH_CONFIG: JSON with ``auths``, as in ``config.json``."""
    docker_config: Path | None = None
    """Docker's ``config.json``; None: credentials are not looked up there."""
    auth_files: tuple[Path, ...] = ()
    """Podman's ``auth.json`` files, first match wins; they are asked after ``docker_config``."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    give_up_after: float = 1800.0
    """Seconds without any progress after which a run that is not ``--forever`` ends with exit code 5."""
    lease: float = 30.0
    """Seconds after which a worker that does not renew its lease is taken for dead."""

    registries: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Settings of single registries: by ``host[:port]``, fields of ``RegistrySettings``."""

    def at(self, registry: str) -> RegistrySettings:
        """The settings that hold for one registry (``host[:port]``, or the host of its API)."""
        registry = canonical_registry(registry)
        general = RegistrySettings(
            self.chunk_size,
            self.profile,
            self.plain_http,
            registry in self.insecure,
            self.ca_cert,
            self.username,
        )
        return replace(general, **self.registries.get(registry, {}))  # type: ignore[arg-type]

    def with_user_of(self, registry: str) -> Settings:
        """These settings with the user name that the registry's own table gives, if it does."""
        username = self.at(registry).username
        if username == self.username:
            return self
        return replace(self, username=username, login_source=f"the username of {registry} in pusher.toml")

    def holder_of_login(self, destinations: Collection[str], *, password_typed: bool = False) -> str | None:
        """The one registry that user name and password are for; None where nothing says which.

        ``password_typed``: the password was typed or piped in for this very command. Such a login, and one of
        ``--username``, is for the only destination; one that stands in the environment is for the registry
        that is named there (``PUSHER_REGISTRY``), if one is, wherever else images go.
        """
        named = Place.parse(self.default_registry).registry if self.default_registry else None
        typed = password_typed or self.password is None or self.login_source == "--username"
        if len(destinations) == 1 and (typed or named is None):
            return next(iter(destinations))
        return named

    @property
    def spool(self) -> Path:
        """Folder of the compressed blobs."""
        return self.home / "spool"

    @property
    def workers(self) -> Path:
        """Folder of the lock files by which a dead worker of this host is told from a living one."""
        return self.home / "workers"
