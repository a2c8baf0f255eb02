"""Implement ``pusher login``."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import click

from pusher.cli.command import Command
from pusher.cli.options import setting_options
from pusher.cli.output import print_line, print_notice
from pusher.cli.password import login_options, with_login
from pusher.cli.settings import read_settings
from pusher.config import Settings
from pusher.errors import CredentialsRejected, ExitCode, InvalidOption, PusherError
from pusher.reference import RegistryPath, is_loopback
from pusher.text import suggest

_REJECTED: Final = (
    "check the user name and the password; many registries require an access token from their website "
    "in place of the password"
)


@click.command(cls=Command)
@click.argument("registry", required=False)
@login_options
@setting_options("insecure", "ca_cert")
def login(
    registry: str | None, username: str | None, password_stdin: bool, plain_http: bool, **flags: object
) -> int:
    """Log in to REGISTRY, and store the login where Docker does.

    The login is checked first. It is stored with the credential helper that Docker's config.json names, or
    else in that file. Without REGISTRY, log in to the default registry.

    \b
    Example:
      pusher login registry.example.com
      pusher login registry.example.com --username bob --password-stdin < pw.txt
    """
    from pusher.registry.auth.credentials import find_credential
    from pusher.registry.auth.credentials.keep import LoginStore

    settings = read_settings(username=username, plain_http=plain_http, **flags)
    registry = parse_registry(registry, settings, "login")
    # Report an unusable credential store before the prompts.
    keeper = LoginStore(registry, settings)
    elsewhere = replace(settings, username=None, docker_config=None, auth_files=())
    sooner = find_credential(registry, elsewhere)
    settings = with_login(settings, registry, password_stdin=password_stdin)
    user, password = settings.username or "", settings.password or ""
    is_checked = _check_login(registry, settings)
    place = keeper.store(user, password)
    note = ", not encrypted" if keeper.is_plain_text else ""
    if is_checked:
        print_line(f"Logged in to {registry} as {user}; the login is stored in {place}{note}.")
    else:
        print_notice(f"{registry} does not require a login, so this one could not be checked.")
        print_line(f"The login of {user} for {registry} is stored in {place}{note}.")
    if sooner is not None:
        print_notice(f"{sooner.source} has a login for {registry} too, and takes precedence.")
    return ExitCode.DONE


def _check_login(registry: str, settings: Settings) -> bool:
    """Check the login; return whether the registry requires one at all."""
    from pusher.worker.registries import Registries

    registries = Registries(None, settings, note=print_notice)
    try:
        client = registries.get(registry, "").client
        client.ping()
        return client.requires_login
    except PusherError as error:
        hint = _REJECTED if isinstance(error, CredentialsRejected) else error.hint
        raise type(error)(f"{error.message}; nothing was stored", hint=hint) from error
    finally:
        registries.close()


def parse_registry(text: str | None, settings: Settings, command: str) -> str:
    """Return ``host[:port]`` of the argument, which may be a URL, or of the default registry.

    Raises InvalidOption, ReferenceMalformed.
    """
    if text is None:
        if settings.default_registry is None:
            raise InvalidOption(
                "no registry given",
                hint=f"pusher {command} registry.example.com, or pusher {command} docker.io for Docker Hub",
            )
        return RegistryPath.parse(settings.default_registry).registry
    scheme, is_url, rest = text.partition("://")
    rest = rest if is_url else text
    if "@" in rest:  # not quoted: the part before it may be a password
        raise InvalidOption(
            "give the host of the registry without user name and password",
            hint=suggest(
                f"pusher {command} {{}}" + " --username USER" * (command == "login"), rest.rpartition("@")[2]
            ),
        )
    if is_url and rest.partition("/")[2] in ("v1/", "v2/"):
        rest = rest.partition("/")[0]
    place = RegistryPath.parse(rest)
    if place.namespace:
        raise InvalidOption(
            f"{text!r} is not a registry, and a login is for a whole registry",
            hint=f"pusher {command} {place.registry}",
        )
    in_the_open = is_url and scheme.lower() == "http" and not is_loopback(place.registry)
    if command == "login" and in_the_open and not settings.at(place.registry).plain_http:
        raise InvalidOption(
            f"{text!r} would send the password unencrypted, over plain HTTP",
            hint=f"use: pusher login {place.registry} (with --plain-http if you trust the network)",
        )
    return place.registry
