"""A ``pusher.toml`` that explains itself, made from the table of settings."""

from __future__ import annotations

from pusher.config.file import TABLES
from pusher.config.options import OPTIONS, Option

_HEAD = """\
# Settings of pusher. A flag (--chunk-size) or a variable (PUSHER_CHUNK_SIZE) wins over this file.
# Passwords do not belong here: pusher login REGISTRY keeps them where Docker does.
"""
_EXAMPLES = {
    "registry": '"registry.example.com/team"',
    "limit_rate": '"08:00-18:00=2M,off"',
    "username": '"bob"',
    "profile": '"distribution"',
    "insecure": '["registry.example.com:5000"]',
    "ca_cert": '"company-ca.pem"',
    "compression_level": "6",
    "compression_threads": "2",
    "home": '"/var/lib/pusher"',
    "database_url": '"postgresql://pusher@db.example.com/pusher"',
}
"""Of settings without a default."""
_TABLE = f"""
# What holds for one registry wins over what holds for all; these may differ: {{names}}.
#[{TABLES}."ghcr.io"]
#chunk_size = "4MiB"
"""


def example_file() -> str:
    """The text; with every ``#`` that is followed by no space taken away it is a valid file."""
    general = "".join(f"\n# {option.help}\n#{option.name} = {_value(option)}\n" for option in _in_file())
    names = ", ".join(option.name for option in _in_file() if option.per_registry)
    return _HEAD + general + _TABLE.format(names=names)


def _in_file() -> list[Option]:
    return [option for option in OPTIONS if option.in_file]


def _value(option: Option) -> str:
    if option.default is None:
        return _EXAMPLES[option.name]
    return option.default if option.is_switch or option.default.isdecimal() else f'"{option.default}"'
