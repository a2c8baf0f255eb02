"""Find and read ``pusher.toml``, and check every key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from pusher.config import values
from pusher.config.options import Option
from pusher.config.settings import BY_NAME, OPTIONS
from pusher.dataclass import dataclass
from pusher.errors import ConfigInvalid, InvalidOption, ReferenceMalformed
from pusher.reference import RegistryPath
from pusher.text import printable, suggest

TABLES: Final = "registries"
"""Key of the tables of single registries, ``[registries."ghcr.io"]``."""
SERVE: Final = "serve"
"""Key of the table of ``pusher serve``, in which ``[serve.registries]`` has names for registries."""
_TOPICS: Final = tuple(dict.fromkeys(option.table for option in OPTIONS if option.table))
"""The other tables, which hold settings of one subject."""


@dataclass(frozen=True)
class _Table:
    """A table of the file: of a registry, of a subject, or the top."""

    registry: str = ""
    topic: str = ""

    @property
    def header(self) -> str:
        return f"{TABLES}.{self.registry}" if self.registry else self.topic

    @property
    def name(self) -> str:
        """Return it for messages."""
        return self.registry or (f"[{self.topic}]" if self.topic else "")

    def options(self) -> dict[str, Option]:
        """Return the settings that may stand in this table, by their keys."""
        return {
            option.key or option.name: option
            for option in OPTIONS
            if option.in_file and option.table == self.topic and (option.per_registry or not self.registry)
        }


_TOP: Final = _Table()
_ALIAS: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
"""One part of a repository's name."""


@dataclass(frozen=True)
class FileEntry:
    """A value of the file, converted and unconverted."""

    value: Any
    text: str
    place: str
    """Key and line, for messages."""


@dataclass(frozen=True)
class ConfigFile:
    """The content of ``pusher.toml``, by the names of the settings."""

    path: Path
    exists: bool = False
    entries: Mapping[str, FileEntry] = field(default_factory=dict)
    registries: Mapping[str, Mapping[str, FileEntry]] = field(default_factory=dict)
    aliases: Mapping[str, RegistryPath] = field(default_factory=dict)
    """Names that clients of ``pusher serve`` use for registries."""


def find_file(environ: Mapping[str, str]) -> Path:
    """Return the file that PUSHER_CONFIG names, or ``pusher.toml`` in the user's configuration folder."""
    from platformdirs import user_config_path

    if named := environ.get("PUSHER_CONFIG"):
        return values.parse_path(named, "PUSHER_CONFIG").absolute()
    return user_config_path("pusher") / "pusher.toml"


def read_file(environ: Mapping[str, str]) -> ConfigFile:
    """Read the file; only one that PUSHER_CONFIG names must exist. Raises ConfigInvalid."""
    path = find_file(environ)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        if not environ.get("PUSHER_CONFIG"):
            return ConfigFile(path)
        raise ConfigInvalid(
            f"PUSHER_CONFIG names {path}, which does not exist",
            hint=suggest("unset PUSHER_CONFIG, or write the file: pusher config --example > {}", path),
        ) from None
    except OSError as error:
        raise ConfigInvalid(
            f"{path} cannot be read: {error.strerror}",
            hint="fix it, or set PUSHER_CONFIG to another file",
        ) from error
    return _Reader(path, raw).read()


class _Reader:
    """Reads one file; keeps its text for the lines in errors."""

    def __init__(self, path: Path, raw: bytes) -> None:
        self.path = path
        self.raw = raw

    def read(self) -> ConfigFile:
        import tomllib

        try:
            self.text = self.raw.decode("utf-8-sig")
            tables = tomllib.loads(self.text)
        except UnicodeDecodeError as error:
            line = self.raw[: error.start].count(b"\n") + 1
            raise ConfigInvalid(f"{self.path}, line {line}, is not UTF-8", hint="save it as UTF-8") from None
        except (ValueError, RecursionError) as error:  # ValueError also for integers of thousands of digits
            raise ConfigInvalid(
                f"{self.path} is not TOML: {printable(str(error), 200)}",
                hint='put text in quotes, as in chunk_size = "50MiB"; pusher config --example shows a file',
            ) from None
        registries = tables.pop(TABLES, {})
        serve = tables.pop(SERVE, {})
        topics = {name: tables.pop(name) for name in _TOPICS if name in tables}
        if not isinstance(registries, dict) or not all(isinstance(t, dict) for t in registries.values()):
            raise self._invalid_error(
                TABLES, _TOP, "is not a table", f'write [{TABLES}."ghcr.io"] above the settings'
            )
        found: dict[str, Mapping[str, FileEntry]] = {}
        for name, table in registries.items():
            self._check_quotes(name, table)
            found[self._host(name)] = self._entries(table, _Table(registry=name))
        entries = self._entries(tables, _TOP)
        for name, table in topics.items():
            if not isinstance(table, dict):
                raise self._invalid_error(name, _TOP, "is not a table", f"write [{name}] above its settings")
            entries |= self._entries(table, _Table(topic=name))
        return ConfigFile(
            self.path, exists=True, entries=entries, registries=found, aliases=self._aliases(serve)
        )

    def _aliases(self, serve: object) -> dict[str, RegistryPath]:
        """Read ``[serve.registries]``, the only table of ``[serve]``."""
        right = f'write [{SERVE}.{TABLES}] and below it: work = "registry.example.com/team"'
        if not isinstance(serve, dict):
            raise self._invalid_error(SERVE, _TOP, "is not a table", right)
        for key in serve:
            if key != TABLES or not isinstance(serve[key], dict):
                raise self._invalid_error(key, _Table(topic=SERVE), f"does not belong in [{SERVE}]", right)
        found: dict[str, RegistryPath] = {}
        for name, place in serve.get(TABLES, {}).items():
            table = _Table(topic=f"{SERVE}.{TABLES}")
            if _ALIAS.fullmatch(name) is None:
                raise self._invalid_error(
                    name,
                    table,
                    "cannot stand in the name of an image",
                    "write lower-case letters and digits, and '.', '_' or '-' between them",
                )
            try:
                found[name] = RegistryPath.parse(place if isinstance(place, str) else "")
            except ReferenceMalformed:
                raise self._invalid_error(name, table, "is not a registry", right) from None
        return found

    def _check_quotes(self, name: str, table: Mapping[str, Any]) -> None:
        """Refuse ``[registries.ghcr.io]`` without quotes, which is a table ``io`` in a table ``ghcr``."""
        whole, inner = name, next(iter(table.items()), ("", None))
        while isinstance(inner[1], dict):
            whole, inner = f"{whole}.{inner[0]}", next(iter(inner[1].items()), ("", None))
        if whole != name:
            raise self._invalid_error(
                f"{TABLES}.{whole}", _Table(registry=whole), "needs quotes", f'write [{TABLES}."{whole}"]'
            )

    def _host(self, name: str) -> str:
        try:
            return values.parse_host(name, self._place(f"{TABLES}.{name}", _Table(registry=name)))
        except InvalidOption as error:
            raise ConfigInvalid(error.message, hint=error.hint) from None

    def _entries(self, found: Mapping[str, Any], table: _Table) -> dict[str, FileEntry]:
        entries: dict[str, FileEntry] = {}
        for key, value in found.items():
            option = self._option(key, value, table)
            if option.name in entries:
                raise self._invalid_error(
                    key, table, "is there twice, with - and with _", "remove one of them"
                )
            entries[option.name] = self._entry(option, key, value, table)
        return entries

    def _option(self, key: str, value: object, table: _Table) -> Option:
        name = key.replace("-", "_")
        if name.lower() == "password":
            raise self._invalid_error(
                key,
                table,
                "is not allowed: secrets do not belong in this file",
                "remove it, and store it where Docker does with pusher login "
                f"{table.registry or 'REGISTRY'}, or set PUSHER_PASSWORD",
            )
        if isinstance(value, dict) and not table.registry:
            host = next(iter(value), "ghcr.io")
            right = f'[{TABLES}."{host if name == "registry" else key}"]'
            raise self._invalid_error(key, table, "is a table", f"put a registry's settings below {right}")
        known = table.options()
        if option := known.get(name):
            return option
        if option := BY_NAME.get(name):
            if option.table:
                raise self._invalid_error(
                    key, table, f"belongs in the table [{option.table}]", f"write {option.place}"
                )
            if table.registry:
                raise self._invalid_error(
                    key, table, "applies to all registries", "move it above the first table"
                )
            raise self._invalid_error(
                key, table, f"does not belong in {table.name}", "move it above the first table"
            )
        import difflib

        near = difflib.get_close_matches(name, known, n=1)
        advice = f"write {near[0]}; " if near else ""
        raise self._invalid_error(
            key, table, "is not a setting", f"{advice}pusher config --example shows all settings"
        )

    def _entry(self, option: Option, key: str, value: Any, table: _Table) -> FileEntry:
        convert = option.table_convert if table.registry and option.table_convert else option.convert
        text = self._as_text(value, convert is values.parse_switch, convert is values.parse_hosts)
        if text is None:
            right = "a string in quotes or a number"
            if convert is values.parse_switch:
                right = "true or false"
            elif convert is values.parse_hosts:
                right = 'a list, like ["registry.example.com:5000"]'
            elif convert is values.parse_command:
                right = "one command for /bin/sh, in quotes"
            raise self._invalid_error(key, table, "has the wrong type", f"write {right}")
        place = self._place(key, table)
        try:
            converted = convert(text, place)
        except InvalidOption as error:
            raise ConfigInvalid(error.message, hint=error.hint) from None
        if isinstance(converted, Path):
            converted = self.path.parent / converted
        return FileEntry(converted, text, place)

    def _as_text(self, value: object, is_switch: bool, is_list: bool) -> str | None:
        """Return the value in the syntax of a variable; None for another type."""
        if isinstance(value, bool):
            return str(value).lower() if is_switch else None
        if isinstance(value, list):
            return ",".join(value) if is_list and all(isinstance(item, str) for item in value) else None
        return str(value) if isinstance(value, (str, int, float)) else None

    def _invalid_error(self, key: str, table: _Table, why: str, hint: str) -> ConfigInvalid:
        return ConfigInvalid(f"{self._place(key, table)} {why}", hint=hint)

    def _place(self, key: str, table: _Table) -> str:
        of = f" of {table.name}" if table.name and key != table.header else ""
        line = self._line(key, table)
        return f"{key}{of} ({f'line {line} of ' if line else ''}{self.path})"

    def _line(self, key: str, table: _Table) -> int | None:
        """Return the line of the key if it is found; TOML has many syntaxes for a key."""
        inside = table == _TOP
        for number, line in enumerate(self.text.splitlines(), 1):
            if header := re.match(r"\s*\[+([^\]]*)\]", line):
                name = header[1].replace('"', "").replace("'", "").replace(" ", "")
                inside = name == table.header
                if (inside and key == name) or (table == _TOP and f"{name}.".startswith(f"{key}.")):
                    return number
            elif inside and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""", line):
                return number
        return None
