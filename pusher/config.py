"""Settings: flag > environment ``PUSHER_*`` > default."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Final, TypeVar

from pusher.errors import InvalidOption

MIB: Final = 1024 * 1024

T = TypeVar("T")
D = TypeVar("D")


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
class Settings:
    """Everything a command needs to know, resolved once at its start."""

    home: Path
    database_url: str
    parallel: int = 4
    """Blob uploads at a time, over all jobs of one worker."""
    chunk_size: int | None = None
    """Bytes; None leaves it to the registry's limits and what was learned of it."""
    compression_level: int = 2
    """gzip, 1 to 9: 1 to 3 are ISA-L's, 4 to 9 zlib's."""
    spool_limit: int = 20 * 1024 * MIB
    """Bytes that blobs nobody needs any more may keep on disk."""
    plain_http: bool = False
    """Plain http allowed for registries beyond this machine."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    login_registry: str | None = None
    """The one registry (``host[:port]``) that ``username`` is for; None: every registry."""
    login_source: str = "--username"
    """Where ``username`` was given, for messages."""
    docker_config: Path | None = None
    """Docker's ``config.json``; None: credentials are not looked up there."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    give_up_after: float = 1800.0
    """Seconds without any progress after which a run that is not ``--forever`` ends with exit code 5."""
    lease: float = 30.0
    """Seconds after which a worker that does not renew its lease is taken for dead."""

    @property
    def spool(self) -> Path:
        """Folder of the compressed blobs."""
        return self.home / "spool"

    @property
    def workers(self) -> Path:
        """Folder of the lock files by which a dead worker of this host is told from a living one."""
        return self.home / "workers"


def load(flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Resolve the settings. ``flags``: the options given, by parameter name; None or False means not given.

    Raises InvalidOption, which names the flag or variable.
    """
    values = _Values(flags or {}, os.environ if environ is None else environ)
    home = values.path("PUSHER_HOME") or _default_home()
    standard = Settings(home, "")
    username, source = values.username()
    return Settings(
        home=home,
        database_url=values.environ.get("PUSHER_DATABASE_URL") or _sqlite_url(home / "jobs.db"),
        parallel=values.read("parallel", _integer(1, 64), standard.parallel),
        chunk_size=values.read("chunk_size", _size(1000), standard.chunk_size),
        compression_level=values.read("compression_level", _integer(1, 9), standard.compression_level),
        spool_limit=values.read("spool_limit", _size(0), standard.spool_limit),
        plain_http=values.read("plain_http", _switch, default=False)
        or values.read("insecure_http_push", _switch, default=False, prefix=""),
        username=username,
        password=values.environ.get("PUSHER_PASSWORD"),
        login_source=source,
        docker_config=(values.path("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json",
        timeouts=Timeouts(
            connect=values.read("connect_timeout", _seconds, Timeouts.connect),
            stall=values.read("stall_timeout", _seconds, Timeouts.stall),
            answer=values.read("answer_timeout", _seconds, Timeouts.answer),
            commit=values.read("commit_timeout", _seconds, Timeouts.commit),
        ),
        give_up_after=values.read("give_up_after", _seconds, standard.give_up_after),
        lease=values.read("lease", _seconds, standard.lease),
    )


def _sqlite_url(path: Path) -> str:
    """Without SQLAlchemy, which costs a start 0.2 s; "?" would begin a URL's query."""
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def _default_home() -> Path:
    from platformdirs import user_state_path

    return user_state_path("pusher")


class _Values:
    """Flags over environment; every complaint names where the value came from."""

    def __init__(self, flags: Mapping[str, object], environ: Mapping[str, str]) -> None:
        self.flags = flags
        self.environ = environ

    def read(self, name: str, convert: Callable[[str, str], T], default: D, prefix: str = "PUSHER_") -> T | D:
        flag, variable = self.flags.get(name), prefix + name.upper()
        if flag is not None and flag is not False:
            return convert(str(flag), "--" + name.replace("_", "-"))
        if text := self.environ.get(variable):
            return convert(text, variable)
        return default

    def path(self, variable: str) -> Path | None:
        text = self.environ.get(variable)
        return Path(text).expanduser().absolute() if text else None

    def username(self) -> tuple[str | None, str]:
        """User name and where it was given; ``USERNAME_REGISTRY``: serverless-registry's push script."""
        if flag := self.flags.get("username"):
            return str(flag), "--username"
        for variable in ("PUSHER_USERNAME", "USERNAME_REGISTRY"):
            if value := self.environ.get(variable):
                return value, variable
        return None, "--username"


_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(text: str, option: str, *, least: int = 0) -> int:
    """Bytes of ``50MiB``, ``100MB``, ``1.5G`` or ``1048576``.

    K, M, G, T and KiB, MiB, GiB, TiB count by 1024; KB, MB, GB, TB by 1000, as registries announce their
    limits. Upper and lower case are the same. Raises InvalidOption, which names ``option``, for nonsense and
    for less than ``least`` bytes.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([kmgt]?)(i?b)?", text.strip().lower())
    if match is None or (match[3] == "ib" and not match[2]):
        raise InvalidOption(
            f"{option} is {text!r}, which is not a size",
            hint="write it like 50MiB, 100MB, 1.5G or 1048576 (bytes)",
        )
    base = 1000 if match[2] and match[3] == "b" else 1024
    size = int(Decimal(match[1]) * base ** _POWERS[match[2]])
    if size < least:
        raise InvalidOption(
            f"{option} is {text!r}, which is less than {least} bytes", hint=f"write {least} or more"
        )
    return size


def _size(least: int) -> Callable[[str, str], int]:
    return lambda text, option: parse_size(text, option, least=least)


def _integer(least: int, most: int) -> Callable[[str, str], int]:
    def convert(text: str, option: str) -> int:
        if re.fullmatch(r"\s*[0-9]{1,9}\s*", text) and least <= int(text) <= most:
            return int(text)
        raise InvalidOption(f"{option} is {text!r}", hint=f"write a whole number from {least} to {most}")

    return convert


_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}


def _seconds(text: str, option: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([smh]?)", text.strip().lower())
    if match is None or float(match[1]) == 0:
        raise InvalidOption(
            f"{option} is {text!r}, which is not a time", hint="write seconds like 30, or 90s, 15m, 2h"
        )
    return float(match[1]) * _SECONDS[match[2]]


def _switch(text: str, option: str) -> bool:
    value = text.strip().lower()
    if value in ("1", "true", "yes", "on"):
        return True
    if value in ("0", "false", "no", "off"):
        return False
    raise InvalidOption(f"{option} is {text!r}, which is neither yes nor no", hint="write true or false")
