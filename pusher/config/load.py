"""Settings: flag > environment ``PUSHER_*`` > default."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pusher.config.settings import Settings, Timeouts
from pusher.config.values import integer, seconds, size, switch

T = TypeVar("T")
D = TypeVar("D")


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
        parallel=values.read("parallel", integer(1, 64), standard.parallel),
        chunk_size=values.read("chunk_size", size(1000), standard.chunk_size),
        compression_level=values.read("compression_level", integer(1, 9), standard.compression_level),
        spool_limit=values.read("spool_limit", size(0), standard.spool_limit),
        plain_http=values.read("plain_http", switch, default=False)
        or values.read("insecure_http_push", switch, default=False, prefix=""),
        username=username,
        password=values.environ.get("PUSHER_PASSWORD"),
        login_source=source,
        docker_config=(values.path("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json",
        timeouts=Timeouts(
            connect=values.read("connect_timeout", seconds, Timeouts.connect),
            stall=values.read("stall_timeout", seconds, Timeouts.stall),
            answer=values.read("answer_timeout", seconds, Timeouts.answer),
            commit=values.read("commit_timeout", seconds, Timeouts.commit),
        ),
        give_up_after=values.read("give_up_after", seconds, standard.give_up_after),
        lease=values.read("lease", seconds, standard.lease),
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
