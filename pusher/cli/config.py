"""Implement ``pusher config``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pusher.cli.command import Command, json_option
from pusher.cli.options import every_option
from pusher.cli.output import print_json, print_line
from pusher.cli.settings import check_settings, warn_of_unknown_variables
from pusher.errors import ExitCode, InvalidOption

if TYPE_CHECKING:
    from pusher.config.load import Resolved, SettingValue

_SET: Final = "(set)"


@click.command(cls=Command)
@click.option("--path", "show_path", is_flag=True, help="Print only the path of pusher.toml.")
@click.option("--example", is_flag=True, help="Print a pusher.toml with every setting explained.")
@json_option
@every_option
def config(show_path: bool, example: bool, as_json: bool, **flags: object) -> int:
    """Show every setting and where it comes from.

    Flags override environment variables, variables override pusher.toml, and pusher.toml overrides the
    defaults. In pusher.toml the table of a registry overrides the general settings.

    \b
    Example:
      pusher config
      pusher config --example
    """
    from pusher.config.example import example_file
    from pusher.config.file import find_file
    from pusher.config.load import resolve

    if show_path:
        print_line(str(find_file(os.environ)))
    elif example:
        click.echo(example_file(), nl=False)
    else:
        resolved = resolve(flags)
        check_settings(resolved.settings)
        if as_json:
            print_json(_as_json(resolved))
        else:
            _show(resolved)
        warn_of_unknown_variables()
    return ExitCode.DONE


def _show(resolved: Resolved) -> None:
    file = resolved.file
    print_line(f"{file.path}" + ("" if file.exists else "  (does not exist)"))
    tables = {"": resolved.values, **resolved.registries}
    rows = {title: [_row(item, resolved) for item in table.values()] for title, table in tables.items()}
    widths = [max(len(row[column]) for table in rows.values() for row in table) for column in (0, 1)]
    for title, table in rows.items():
        print_line()
        if title:
            print_line(f'[registries."{title}"]')
        for name, value, source in table:
            print_line(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}")


def _row(item: SettingValue, resolved: Resolved) -> tuple[str, str, str]:
    return item.option.place, _format_value(item, resolved) or item.option.without, item.source


def _format_value(item: SettingValue, resolved: Resolved) -> str | None:
    """Return the value in the syntax of a setting, without secrets; None if nothing is set."""
    name, settings = item.option.name, resolved.settings
    if name == "home":
        return str(settings.home)
    if name == "database_url":
        return _database_place(settings.database_url)
    if item.option.is_secret:
        return None if item.value is None else _SET
    return str(item.value) if isinstance(item.value, Path) else item.text


def _database_place(url: str) -> str:
    """Return host and name of a database; the rest of its URL may be secret."""
    if url.startswith("sqlite:///"):
        return url.partition("?")[0]
    from pusher.store.url import label_of, parse_url

    try:
        return label_of(parse_url(url))
    except InvalidOption:
        return _SET


def _as_json(resolved: Resolved) -> dict[str, object]:
    def table(items: dict[str, SettingValue]) -> dict[str, object]:
        return {
            item.option.place: {"value": _json_value(item, resolved), "source": item.source}
            for item in items.values()
        }

    return {
        "file": {"path": str(resolved.file.path), "exists": resolved.file.exists},
        "settings": table(dict(resolved.values)),
        "registries": {host: table(dict(items)) for host, items in resolved.registries.items()},
    }


def _json_value(item: SettingValue, resolved: Resolved) -> object:
    """Return the value for JSON: bytes and seconds as numbers, other types as text."""
    if isinstance(item.value, frozenset):
        return sorted(item.value)
    if isinstance(item.value, bool | int | float):
        return item.value
    return _format_value(item, resolved)
