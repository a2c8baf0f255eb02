"""Generate a commented ``pusher.toml`` from the table of settings."""

from __future__ import annotations

from pusher.config.file import SERVE, TABLES
from pusher.config.options import Option
from pusher.config.settings import OPTIONS

_HEAD = """\
# Settings of pusher. A flag (--chunk-size) or a variable (PUSHER_CHUNK_SIZE) overrides this file.
# Passwords do not belong here: pusher login REGISTRY stores them where Docker does.
"""
_REGISTRY = f"""
# Settings of one registry override the general ones; these can differ: {{names}}.
#[{TABLES}."ghcr.io"]
#chunk_size = "4MiB"
"""
_SERVE = f"""
# Short names for registries in pushes through pusher serve: localhost:5055/work/app goes there.
#[{SERVE}.{TABLES}]
#work = "registry.example.com/team"
"""


def example_file() -> str:
    """Return the text. Without every ``#`` that is not followed by a space it is a valid file."""
    tables = dict.fromkeys(option.table for option in _in_file())
    names = ", ".join(option.name for option in _in_file() if option.per_registry)
    return _HEAD + "".join(map(_table, tables)) + _REGISTRY.format(names=names) + _SERVE


def _table(name: str) -> str:
    """Return the settings of a table, or those above the first one."""
    lines = [
        f"\n# {option.help}\n#{option.key or option.name} = {_value(option)}\n"
        for option in _in_file()
        if option.table == name
    ]
    return (f"\n#[{name}]\n" if name else "") + "".join(lines)


def _in_file() -> list[Option]:
    return [option for option in OPTIONS if option.in_file]


def _value(option: Option) -> str:
    text = option.example if option.default is None else option.default
    assert text is not None, option.name  # noqa: S101 - a setting without a default has an example
    quoted = text if option.is_switch or text.isdecimal() else f'"{text}"'
    return f"[{quoted}]" if option.is_list else quoted
