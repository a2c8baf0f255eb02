"""Define the settings: names, types, defaults and help."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Final

from pusher.config import values
from pusher.config.options import COMPRESSIONS, HOOKS, LINK, REGISTRY, STORAGE, options_of, part, setting
from pusher.config.timetable import Timetable, parse_timetable
from pusher.dataclass import dataclass
from pusher.reference import RegistryPath, canonical_registry
from pusher.retry import RetryPolicy


@dataclass(frozen=True)
class Timeouts:
    """Timeouts in seconds. A slow link never times out while bytes move."""

    connect: float = setting(
        values.parse_seconds,
        "TIME",
        "Time limit for a connection.",
        "15s",
        name="connect_timeout",
        group=LINK,
    )
    stall: float = setting(
        values.parse_seconds,
        "TIME",
        "Time limit for an upload that sends no bytes.",
        "60s",
        name="stall_timeout",
        group=LINK,
    )
    """Without any byte moving while a body is sent."""
    answer: float = setting(
        values.parse_seconds, "TIME", "Time limit for a response.", "2m", name="answer_timeout", group=LINK
    )
    """Between the last byte of a request and the answer."""
    commit: float = setting(
        values.parse_seconds,
        "TIME",
        "Time limit for the response that completes an upload.",
        "15m",
        name="commit_timeout",
        group=LINK,
    )
    """The same for the request that closes an upload: registries copy gigabytes before they answer."""


@dataclass(frozen=True)
class HookSettings:
    """Commands that are run when a job ends or waits."""

    on_success: str | None = setting(
        values.parse_command,
        "COMMAND",
        "Run this when a job has succeeded, with the job as JSON on standard input.",
        has_flag=False,
        table=HOOKS,
        example="jq -r .destination >> ~/pushed.txt",
    )
    on_failure: str | None = setting(
        values.parse_command,
        "COMMAND",
        "Run this when a job has failed.",
        has_flag=False,
        table=HOOKS,
        example="~/bin/push-failed",
    )
    on_waiting: str | None = setting(
        values.parse_command,
        "COMMAND",
        "Run this when a job waits for you, or has waited for the network or the registry for long.",
        has_flag=False,
        table=HOOKS,
        example="~/bin/push-waits",
    )
    timeout: float = setting(
        values.parse_seconds,
        "TIME",
        "Time limit for a hook.",
        "30s",
        name="hook_timeout",
        has_flag=False,
        table=HOOKS,
        key="timeout",
    )
    """Seconds."""
    waiting_after: float = setting(
        values.parse_seconds,
        "TIME",
        "How long a job waits for the network or the registry before on_waiting is run.",
        "5m",
        name="hook_waiting_after",
        has_flag=False,
        table=HOOKS,
        key="waiting_after",
    )
    """Seconds."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a command, resolved once at its start.

    This is the only declaration of each setting, in the order in which they are shown.
    """

    parallel: int = setting(values.integer_parser(1, 64), "N", "Number of blobs to send at a time.", "4")
    """Over all jobs of one worker."""
    limit_rate: Timetable | None = setting(
        parse_timetable,
        "RATE",
        "Limit for all uploads together, in bytes per second, such as 2M or '08:00-18:00=2M,off'.",
        without="no limit",
        example="08:00-18:00=2M,off",
    )
    """By the time of day."""
    uploads_per_registry: int | None = setting(
        values.integer_parser(1, 1000),
        "N",
        "Most blobs that all workers of a queue together send to a registry at a time.",
        has_flag=False,
        per_registry=True,
        without="no limit",
        example="8",
    )
    username: str | None = setting(
        values.parse_text,
        "USER",
        "User name at the registry.",
        per_registry=True,
        old_variable="USERNAME_REGISTRY",
        example="bob",
    )
    password: str | None = setting(
        values.parse_text, "TEXT", "Password of that user.", has_flag=False, in_file=False, is_secret=True
    )
    chunk_size: int | None = setting(
        values.parse_chunk_size,
        "SIZE",
        "Largest chunk, such as 50MiB or 100MB; auto fits it to link and registry.",
        "auto",
        group=LINK,
        per_registry=True,
    )
    """Bytes; None (``auto``) leaves it to the registry's limits and what was learned of the link."""
    timeouts: Timeouts = part(Timeouts)
    give_up_after: float = setting(
        values.parse_seconds,
        "TIME",
        "End a run that made no progress for this long, with exit code 5.",
        "30m",
        group=LINK,
    )
    """Seconds without any progress; a run with ``--forever`` does not end."""
    default_registry: str | None = setting(
        values.parse_registry_path,
        "HOST[/NAMESPACE]",
        "Registry for images whose names have none; --to on the command line.",
        name="registry",
        has_flag=False,
        without="docker.io",
        example="registry.example.com/team",
    )
    """``host[:port][/namespace]``."""
    profile: str | None = setting(
        values.parse_text,
        "NAME",
        "Treat the registry as this kind, whatever it looks like.",
        group=REGISTRY,
        per_registry=True,
        without="detected",
        example="distribution",
    )
    """Name of a registry profile."""
    plain_http: bool = setting(
        values.parse_switch,
        "BOOL",
        "Allow plain HTTP beyond this machine.",
        "false",
        group=REGISTRY,
        per_registry=True,
        old_variable="INSECURE_HTTP_PUSH",
    )
    insecure: frozenset[str] = setting(
        values.parse_hosts,
        "REGISTRY",
        "Do not verify this registry's certificate. May be repeated.",
        group=REGISTRY,
        per_registry=True,
        table_convert=values.parse_switch,
        example="registry.example.com:5000",
    )
    """Registries (``host[:port]``)."""
    ca_cert: Path | None = setting(
        values.parse_path,
        "FILE",
        "Trust these certificate authorities as well (PEM).",
        group=REGISTRY,
        per_registry=True,
        example="company-ca.pem",
    )
    compression: str = setting(
        values.word_parser(*COMPRESSIONS),
        "KIND",
        "For uncompressed layers: gzip, zstd, none, auto (whichever arrives first), or keep (gzip, "
        "unless the registry has the layer in another form).",
        "keep",
        group=STORAGE,
    )
    compression_level: int | None = setting(
        values.integer_parser(1, 19),
        "N",
        "1 to 12 for gzip, 1 to 19 for zstd (default 3).",
        group=STORAGE,
        without="for gzip what fits the link",
        example="6",
    )
    """gzip 1 to 3 are ISA-L's, 4 to 12 libdeflate's."""
    compression_threads: int | None = setting(
        values.integer_parser(1, 64),
        "N",
        "Processors that compress one layer; the result does not depend on it.",
        group=STORAGE,
        without="all",
        example="2",
    )
    no_early: bool = setting(
        values.parse_switch,
        "BOOL",
        "Send no layer before it is compressed to its end.",
        "false",
        group=STORAGE,
    )
    spool_limit: int = setting(
        values.size_parser(0),
        "SIZE",
        "Disk space that blobs no job needs may use.",
        "20GiB",
        group=STORAGE,
    )
    """Bytes."""
    keep_jobs: float = setting(
        values.parse_age,
        "AGE",
        "How long finished jobs are kept, with their log, such as 12h, 30d or 8w.",
        "30d",
        group=STORAGE,
        has_flag=False,
    )
    """Seconds."""
    lease: float = setting(
        values.parse_seconds,
        "TIME",
        "Time after which a silent worker on another machine counts as dead.",
        "30s",
        group=STORAGE,
    )
    """Seconds."""
    # The place of the jobs is not a flag: every command must use the same one.
    home: Path = setting(
        values.parse_path,
        "FOLDER",
        "Folder of the job store and the compressed blobs.",
        has_flag=False,
        required=True,
        example="/var/lib/pusher",
    )
    spool_folder: Path | None = setting(
        values.parse_path,
        "FOLDER",
        "Folder of the compressed blobs, which machines may share.",
        name="spool",
        group=STORAGE,
        has_flag=False,
        without="spool in PUSHER_HOME",
        example="/mnt/shared/pusher-spool",
    )
    database_url: str = setting(
        values.parse_text,
        "URL",
        "Job store: a PostgreSQL URL, or sqlite:////PATH.",
        has_flag=False,
        required=True,
        example="postgresql://pusher@db.example.com/pusher",
    )
    docker_root: Path | None = setting(
        values.parse_path,
        "FOLDER",
        "Docker's data root, to read images and its records from disk.",
        has_flag=False,
        without="as docker info says, or /var/lib/docker",
        example="/mnt/docker",
    )

    hooks: HookSettings = part(HookSettings)

    # From files and variables of other programs.
    certs_dirs: tuple[Path, ...] = ()
    """``certs.d`` folders of Docker and Podman; the first that has a folder for a registry is used."""
    login_registry: str | None = None
    """The one registry (``host[:port]``) that ``username`` is for; None: not decided yet."""
    login_source: str = "--username"
    """Where ``username`` was given, for messages."""
    docker_auth_config: str | None = field(default=None, repr=False)
    """Text of DOCKER_AUTH_CONFIG: JSON with ``auths``, as in ``config.json``."""
    docker_config: Path | None = None
    """Docker's ``config.json``; None: credentials are not looked up there."""
    auth_file: Path | None = None
    """The only file to read logins from, as ``--authfile`` says; a registry's table may have its own."""
    auth_files: tuple[Path, ...] = ()
    """Podman's ``auth.json`` files, first match wins; they are asked after ``docker_config``."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    """Pauses and limits of retries; no option sets them."""

    registries: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """What the tables of single registries change: by ``host[:port]``, then by field."""
    aliases: Mapping[str, RegistryPath] = field(default_factory=dict)
    """Registries by the names that clients of ``pusher serve`` use."""

    def at(self, registry: str) -> Settings:
        """Return the settings for one registry (``host[:port]``, or the host of its API).

        ``insecure`` then contains that registry, or is empty.
        """
        registry = canonical_registry(registry)
        table: Mapping[str, Any] = self.registries.get(registry, {})
        if not table and self.insecure <= {registry}:
            return self
        return replace(self, **{"insecure": self.insecure & {registry}, **table})

    def with_auth_file(self, file: Path, registries: Collection[str]) -> Settings:
        """Return these settings with ``file`` as the only source of logins for these registries."""
        tables = {name: {**self.registries.get(name, {}), "auth_file": file} for name in registries}
        return replace(self, registries={**self.registries, **tables})

    def with_user_of(self, registry: str) -> Settings:
        """Return these settings with the user name from the registry's own table, if it has one."""
        username = self.at(registry).username
        if username == self.username:
            return self
        return replace(self, username=username, login_source=f"the username of {registry} in pusher.toml")

    def registry_of_login(self, destinations: Collection[str], *, password_typed: bool = False) -> str | None:
        """Return the one registry that user name and password are for; None if unknown.

        ``password_typed``: the password was typed or piped in for this command. Such a login, and one of
        ``--username``, is for the only destination; one in the environment is for the registry
        that is set there (``PUSHER_REGISTRY``), if one is, whatever the destinations are.
        """
        named = RegistryPath.parse(self.default_registry).registry if self.default_registry else None
        typed = password_typed or self.password is None or self.login_source == "--username"
        if len(destinations) == 1 and (typed or named is None):
            return next(iter(destinations))
        return named

    @property
    def spool(self) -> Path:
        """Return the folder of the compressed blobs."""
        return self.spool_folder or self.home / "spool"

    @property
    def workers(self) -> Path:
        """Return the folder of the lock files, which show whether a worker of this host is alive."""
        return self.home / "workers"


OPTIONS: Final = tuple(options_of(Settings))
BY_NAME: Final = {option.name: option for option in OPTIONS}
