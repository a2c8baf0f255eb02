"""Define ``--authfile`` and its forms for source and destination, as skopeo and podman have them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pusher.cli import completers
from pusher.config.options import REGISTRY
from pusher.config.values import parse_path
from pusher.errors import InvalidOption
from pusher.text import quoted

if TYPE_CHECKING:
    from pusher.config import Settings

F = TypeVar("F", bound=Callable[..., Any])


class _AuthFileOption(click.Option):
    """An option shown below the heading "Registry"."""

    group = REGISTRY


def _option(flag: str, help_text: str) -> Callable[[F], F]:
    return click.option(
        flag, metavar="FILE", cls=_AuthFileOption, shell_complete=completers.files, help=help_text
    )


auth_file_option = _option(
    "--authfile", "Read logins from this file alone, in the form of Podman and skopeo."
)
source_auth_file_option = _option("--src-authfile", "The same, for images in docker://.")
destination_auth_file_option = _option("--dest-authfile", "The same, for the destinations.")


def with_auth_file(settings: Settings, flags: Mapping[str, Any]) -> Settings:
    """Return the settings with the file of ``--authfile``. Raises InvalidOption if there is no such file."""
    path = _existing(flags, "authfile")
    return settings if path is None else replace(settings, auth_file=path)


def with_auth_files(
    settings: Settings,
    flags: Mapping[str, Any],
    sources: Callable[[], Collection[str]],
    destinations: Callable[[], Collection[str]],
) -> Settings:
    """Return the settings with the files of all three options.

    ``sources``, ``destinations``: return the registries; called only if one of the options is given. Raises
    InvalidOption for a file that is not there, and for two files for one registry.
    """
    settings = with_auth_file(settings, flags)
    source, destination = _existing(flags, "src_authfile"), _existing(flags, "dest_authfile")
    read_from = set(sources()) if source is not None else set()
    pushed_to = set(destinations()) if destination is not None else set()
    if source != destination and (both := read_from & pushed_to):
        raise InvalidOption(
            f"--src-authfile and --dest-authfile are two files for {min(both)}",
            hint="one login is used for reading and pushing there: leave out one of the two",
        )
    if source is not None:
        settings = settings.with_auth_file(source, read_from)
    if destination is not None:
        settings = settings.with_auth_file(destination, pushed_to)
    return settings


def _existing(flags: Mapping[str, Any], name: str) -> Path | None:
    text = flags.get(name)
    if text is None:
        return None
    path = parse_path(text, f"--{name.replace('_', '-')}").absolute()
    if not path.is_file():
        raise InvalidOption(
            f"--{name.replace('_', '-')}: there is no file {quoted(text)}",
            hint="make it with: podman login --authfile FILE REGISTRY, or leave the option out",
        )
    return path
