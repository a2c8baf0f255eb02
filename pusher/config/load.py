"""Settings: flag > environment ``PUSHER_*`` > ``pusher.toml`` > default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pusher.config.credential_files import auth_files, certs_dirs, docker_config
from pusher.config.file import ConfigFile, Entry, read_file
from pusher.config.options import Option, fields_of
from pusher.config.settings import OPTIONS, Settings

DEFAULT: Final = "default"
"""Where a value comes from that nobody gave."""


@dataclass(frozen=True)
class Found:
    """The value of a setting, and where it comes from."""

    option: Option
    value: Any = field(repr=False)
    text: str | None = field(repr=False)
    """As it was written; None: nothing is set."""
    source: str
    """``--parallel``, ``PUSHER_PARALLEL``, the path of ``pusher.toml``, or ``default``."""
    place: str
    """The same with key and line of the file, for messages."""

    @property
    def beats_tables(self) -> bool:
        """A flag or a variable holds for every registry; a registry's table beats the rest of the file."""
        return self.source == self.option.flag or self.source in self.option.variables


@dataclass(frozen=True)
class Resolved:
    """All settings with their sources, for ``pusher config``."""

    file: ConfigFile
    found: Mapping[str, Found]
    registries: Mapping[str, Mapping[str, Found]]
    settings: Settings


def load(flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings. ``flags``: the options given, by parameter name; None, False and () mean not given.

    Raises InvalidOption, which names the flag or variable, and ConfigInvalid, which names the file.
    """
    return resolve(flags, environ).settings


def resolve(flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Resolved:
    """What ``load`` does, with the sources."""
    environ = os.environ if environ is None else environ
    file = read_file(environ)
    found = {option.name: _find(option, flags or {}, environ, file) for option in OPTIONS}
    _fit_level(found, environ, file)
    registries = {
        host: {name: _at(host, found[name], entry, file) for name, entry in table.items()}
        for host, table in file.registries.items()
    }
    return Resolved(file, found, registries, _settings(found, registries, environ))


def _find(option: Option, flags: Mapping[str, object], environ: Mapping[str, str], file: ConfigFile) -> Found:
    flag = flags.get(option.name)
    if flag is not None and flag is not False and flag != ():
        text = ",".join(flag) if isinstance(flag, tuple) else "true" if flag is True else str(flag)
        return _given(option, text, option.flag)
    for variable in option.variables:
        given = environ.get(variable)
        if given or (given is not None and option.name == "password"):  # an empty password is a mistake
            return _given(option, given, variable)
    if entry := file.entries.get(option.name):
        return Found(option, entry.value, entry.text, str(file.path), entry.place)
    value = option.convert(option.default, option.name) if option.default is not None else None
    return Found(option, frozenset() if option.is_list else value, option.default, DEFAULT, option.flag)


def _fit_level(found: dict[str, Found], environ: Mapping[str, str], file: ConfigFile) -> None:
    """A level is for the kind that holds where the level is written: ``--compression none`` makes nonsense of
    none that stands in a variable or the file."""
    kind, level = found["compression"], found["compression_level"]
    if level.source == level.option.flag:
        return
    meant = _find(kind.option, {}, environ if level.source in level.option.variables else {}, file)
    if meant.value != kind.value and {meant.value, kind.value} != {"keep", "gzip"}:  # "keep" makes gzip
        found["compression_level"] = _find(level.option, {}, {}, ConfigFile(file.path))


def _given(option: Option, text: str, source: str) -> Found:
    value = text if option.name == "password" else option.convert(text, source)
    return Found(option, value.absolute() if isinstance(value, Path) else value, text, source, source)


def _at(host: str, general: Found, entry: Entry, file: ConfigFile) -> Found:
    """What holds for the registry in whose table the entry stands."""
    if general.beats_tables and (not general.option.is_list or host in general.value):
        return general
    return Found(general.option, entry.value, entry.text, str(file.path), entry.place)


def _settings(
    found: Mapping[str, Found], registries: Mapping[str, Mapping[str, Found]], environ: Mapping[str, str]
) -> Settings:
    value = fields_of(Settings, {name: item.value for name, item in found.items()})
    value["home"] = home = value["home"] or _default_home()
    value["database_url"] = value["database_url"] or _sqlite_url(home / "jobs.db")
    return Settings(
        **value,
        certs_dirs=certs_dirs(environ),
        login_source=found["username"].place,
        docker_auth_config=environ.get("DOCKER_AUTH_CONFIG") or None,
        docker_config=docker_config(environ),
        auth_files=auth_files(environ),
        registries={host: _fields(host, table) for host, table in registries.items()},
    )


def _fields(host: str, table: Mapping[str, Found]) -> dict[str, object]:
    """The fields that a registry's table changes; a switch of the one that is a list stands for the host."""
    values: dict[str, object] = {}
    for name, item in table.items():
        if item.option.is_list:
            is_on = host in item.value if isinstance(item.value, frozenset) else item.value
            values[name] = frozenset({host} if is_on else ())
        else:
            values[name] = item.value
    return values


def _sqlite_url(path: Path) -> str:
    """Without SQLAlchemy, which costs a start 0.2 s; "?" would begin a URL's query."""
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def _default_home() -> Path:
    from platformdirs import user_state_path

    return user_state_path("pusher")
