"""Implement ``pusher logout``."""

from __future__ import annotations

from dataclasses import replace

import click

from pusher.cli.command import Command
from pusher.cli.login import parse_registry
from pusher.cli.output import print_line, print_notice
from pusher.cli.settings import read_settings
from pusher.config import Settings
from pusher.errors import ExitCode


@click.command(cls=Command)
@click.argument("registry", required=False)
def logout(registry: str | None) -> int:
    """Log out of REGISTRY.

    This removes the login that pusher login stored.

    \b
    Example:
      pusher logout registry.example.com
    """
    from pusher.registry.auth.credentials.keep import LoginStore

    settings = read_settings()
    registry = parse_registry(registry, settings, "logout")
    places = LoginStore(registry, settings).forget()
    for place in places:
        print_line(f"Removed the login for {registry} from {place}.")
    if not places:
        print_line(f"Not logged in to {registry}.")
    if source := _remaining_source(registry, settings):
        print_notice(f"{source} still has a login for {registry}, which is used now.")
    return ExitCode.DONE


def _remaining_source(registry: str, settings: Settings) -> str | None:
    """Return the source of a credential that remains for the registry."""
    from pusher.registry.auth.credentials import find_credential

    if settings.username and settings.password and settings.registry_of_login({registry}) == registry:
        return settings.login_source
    found = find_credential(registry, replace(settings, username=None))
    return found.source if found else None
