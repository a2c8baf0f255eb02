"""Load the settings: flag > environment ``PUSHER_*`` > ``pusher.toml`` > default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from pusher.config.credential_files import auth_files, certs_dirs, docker_config
from pusher.config.file import ConfigFile, FileEntry, read_file
from pusher.config.options import Option, field_values
from pusher.config.settings import OPTIONS, Settings
from pusher.dataclass import dataclass

DEFAULT: Final = "default"
"""The source of a value that was not given."""


@dataclass(frozen=True)
class SettingValue:
    """The value of a setting and its source."""

    option: Option
    value: Any = field(repr=False)
    text: str | None = field(repr=False)
    """As it was written; None if nothing is set."""
    source: str
    """``--parallel``, ``PUSHER_PARALLEL``, the path of ``pusher.toml``, or ``default``."""
    place: str
    """The same with key and line of the file, for messages."""

    @property
    def overrides_tables(self) -> bool:
        """Return whether it applies to every registry: a flag or variable, but not the rest of the file."""
        return self.source == self.option.flag or self.source in self.option.variables


@dataclass(frozen=True)
class Resolved:
    """All settings with their sources, for ``pusher config``."""

    file: ConfigFile
    values: Mapping[str, SettingValue]
    registries: Mapping[str, Mapping[str, SettingValue]]
    settings: Settings


def load(flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings. ``flags``: the options given, by parameter; None, False and () mean not given.

    Raises InvalidOption, which names the flag or variable, and ConfigInvalid, which names the file.
    """
    return resolve(flags, environ).settings


def resolve(flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Resolved:
    """Return the settings with their sources; arguments and errors as for ``load``."""
    environ = os.environ if environ is None else environ
    file = read_file(environ)
    found = {option.name: _find_value(option, flags or {}, environ, file) for option in OPTIONS}
    _drop_unfit_level(found, environ, file)
    registries = {
        host: {name: _value_at(host, found[name], entry, file) for name, entry in table.items()}
        for host, table in file.registries.items()
    }
    return Resolved(file, found, registries, _make_settings(found, registries, environ, file))


def _find_value(
    option: Option, flags: Mapping[str, object], environ: Mapping[str, str], file: ConfigFile
) -> SettingValue:
    flag = flags.get(option.name)
    if flag is not None and flag is not False and flag != ():
        text = ",".join(flag) if isinstance(flag, tuple) else "true" if flag is True else str(flag)
        return _parse_value(option, text, option.flag)
    for variable in option.variables:
        given = environ.get(variable)
        if given or (given is not None and option.is_secret):  # an empty password is a mistake
            return _parse_value(option, given, variable)
    if entry := file.entries.get(option.name):
        return SettingValue(option, entry.value, entry.text, str(file.path), entry.place)
    value = option.convert(option.default, option.name) if option.default is not None else None
    return SettingValue(
        option, frozenset() if option.is_list else value, option.default, DEFAULT, option.flag
    )


def _drop_unfit_level(found: dict[str, SettingValue], environ: Mapping[str, str], file: ConfigFile) -> None:
    """Drop a level from a variable or the file if it is for another kind of compression."""
    kind, level = found["compression"], found["compression_level"]
    if level.source == level.option.flag:
        return
    meant = _find_value(kind.option, {}, environ if level.source in level.option.variables else {}, file)
    if meant.value != kind.value and {meant.value, kind.value} != {"keep", "gzip"}:  # "keep" makes gzip
        found["compression_level"] = _find_value(level.option, {}, {}, ConfigFile(file.path))


def _parse_value(option: Option, text: str, source: str) -> SettingValue:
    value = text if option.is_secret else option.convert(text, source)
    return SettingValue(option, value.absolute() if isinstance(value, Path) else value, text, source, source)


def _value_at(host: str, general: SettingValue, entry: FileEntry, file: ConfigFile) -> SettingValue:
    """Return the value for the registry whose table has the entry."""
    if general.overrides_tables and (not general.option.is_list or host in general.value):
        return general
    return SettingValue(general.option, entry.value, entry.text, str(file.path), entry.place)


def _make_settings(
    found: Mapping[str, SettingValue],
    registries: Mapping[str, Mapping[str, SettingValue]],
    environ: Mapping[str, str],
    file: ConfigFile,
) -> Settings:
    value = field_values(Settings, {name: item.value for name, item in found.items()})
    value["home"] = home = value["home"] or _default_home()
    value["database_url"] = value["database_url"] or sqlite_url(home / "jobs.db")
    return Settings(
        **value,
        certs_dirs=certs_dirs(environ),
        login_source=found["username"].place,
        docker_auth_config=environ.get("DOCKER_AUTH_CONFIG") or None,
        docker_config=docker_config(environ),
        auth_files=auth_files(environ),
        registries={host: _table_fields(host, table) for host, table in registries.items()},
        aliases=file.aliases,
    )


def _table_fields(host: str, table: Mapping[str, SettingValue]) -> dict[str, object]:
    """Return the fields that a registry's table changes. For a list of hosts the table has a switch."""
    values: dict[str, object] = {}
    for name, item in table.items():
        if item.option.is_list:
            is_on = host in item.value if isinstance(item.value, frozenset) else item.value
            values[name] = frozenset({host} if is_on else ())
        else:
            values[name] = item.value
    return values


def sqlite_url(path: Path) -> str:
    """Return the URL of a file, without SQLAlchemy, which takes 0.2 s to import; "?" would begin a query."""
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def _default_home() -> Path:
    from platformdirs import user_state_path

    return user_state_path("pusher")
