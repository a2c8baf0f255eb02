"""Read user name and password: from options, a prompt, stdin or the environment."""

from __future__ import annotations

import getpass
import select
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, Final, TypeVar

import click

from pusher.cli.options import setting_options
from pusher.cli.output import print_notice
from pusher.config import Settings
from pusher.errors import InvalidOption, PasswordMissing, PusherError
from pusher.text import printable

F = TypeVar("F", bound=Callable[..., Any])

_NOTICE_AFTER: Final = 2.0
"""Seconds without input on stdin after which a notice is printed."""


def login_options(function: F) -> F:
    """Add ``--username``, ``--password-stdin`` and ``--plain-http``."""
    for option in (
        setting_options("plain_http"),
        click.option("--password-stdin", is_flag=True, help="Read the password from standard input."),
        setting_options("username"),
    ):
        function = option(function)
    return function


def with_password(
    settings: Settings, registries: Collection[str], *, password_stdin: bool, more_to_come: bool = False
) -> Settings:
    """Bind the user name to its registry, and read its password.

    A user name whose login is stored needs no password. Without any destination the login is unused, which
    is refused if destinations may be added while the command runs.

    Raises InvalidOption if the registry of the user name is unknown, PasswordMissing.
    """
    if len(registries) == 1:
        settings = settings.with_user_of(*registries)
    if settings.username is None:
        if password_stdin or settings.password is not None:
            given = "--password-stdin" if password_stdin else "PUSHER_PASSWORD"
            raise InvalidOption(f"{given} needs a user name", hint="add --username USER")
        return settings
    registry = settings.registry_of_login(registries, password_typed=password_stdin)
    if registry is None and (len(registries) > 1 or more_to_come):
        what = f"has jobs for {_join(registries)}" if registries else "is empty"
        raise InvalidOption(
            f"{settings.login_source} is for one registry, but the queue {what}",
            hint="set PUSHER_REGISTRY to that registry; or log in to each registry with pusher login "
            "REGISTRY instead",
        )
    if not password_stdin and _is_stored(settings, registry):
        return replace(settings, username=None)
    return _bind(settings, registry, password_stdin)


def with_login(settings: Settings, registry: str, *, password_stdin: bool) -> Settings:
    """Return the settings with user name and password for ``registry``; prompt for both on a terminal.

    Raises InvalidOption for a missing or impossible user name, PasswordMissing.
    """
    settings = settings.with_user_of(registry)
    username = settings.username
    if not username:
        if not _on_terminal():
            raise InvalidOption(
                f"no user name for {registry}, and no terminal to ask for it",
                hint=f"pusher login {registry} --username USER --password-stdin",
            )
        username = _ask_username(registry)
        settings = replace(settings, username=username, login_source="typed in")
    if ":" in username:
        raise InvalidOption(
            f"the user name {username!r} contains a colon, which ends a user name",
            hint="give only the user name; the password is asked for, or read with --password-stdin",
        )
    return _bind(settings, registry, password_stdin)


def read_password(username: str, *, password_stdin: bool) -> str:
    """Read the password for clients, from a prompt or stdin. Raises PasswordMissing."""
    if _on_terminal() and not password_stdin:
        return _prompt_password(username, None)
    if password_stdin:
        return _read_piped(f"{username!r}")
    raise _no_password_error(f"{username!r}", "pipe it in with --password-stdin")


def _bind(settings: Settings, registry: str | None, password_stdin: bool) -> Settings:
    password = _password(settings, registry, password_stdin)
    return replace(settings, password=password, login_registry=registry)


def _is_stored(settings: Settings, registry: str | None) -> bool:
    """Return whether a user name without a password is that of a stored login."""
    from pusher.registry.auth.credentials import find_credential

    if registry is None or settings.password is not None or settings.login_source == "USERNAME_REGISTRY":
        return False
    try:
        found = find_credential(registry, replace(settings, username=None))
    except PusherError:
        return False  # not needed for a prompt or stdin
    return found is not None and found.username == settings.username


def _on_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _ask_username(registry: str) -> str:
    click.echo(printable(f"Username for {registry}: "), nl=False, err=True)
    if username := sys.stdin.readline().strip():
        return username
    raise InvalidOption(
        f"no user name was entered for {registry}", hint=f"pusher login {registry} --username USER"
    )


def _password(settings: Settings, registry: str | None, password_stdin: bool) -> str:
    user = f"{settings.username!r}" + (f" at {registry}" if registry else "")
    if settings.password is not None and not password_stdin:
        return _require_text(settings.password, "PUSHER_PASSWORD is empty")
    if _on_terminal():
        return _prompt_password(str(settings.username), registry)
    # The push script of serverless-registry takes the password on stdin without an option.
    if password_stdin or settings.login_source == "USERNAME_REGISTRY":
        return _read_piped(user)
    raise _no_password_error(user, "pipe it in with --password-stdin, or set PUSHER_PASSWORD")


def _prompt_password(username: str, registry: str | None) -> str:
    prompt = f"Password for {username}" + (f" at {registry}: " if registry else ": ")
    user = f"{username!r}" + (f" at {registry}" if registry else "")
    return _require_text(
        getpass.getpass(printable(prompt), stream=sys.stderr), f"the password entered for {user} is empty"
    )


def _read_piped(user: str) -> str:
    return _require_text(_read_stdin(user), f"the password for {user} on standard input is empty")


def _no_password_error(user: str, hint: str) -> PasswordMissing:
    return PasswordMissing(f"no password for {user}, and no terminal to ask for it", hint=hint)


def _read_stdin(user: str) -> str:
    if sys.stdin is None:
        return ""
    if not select.select([sys.stdin], [], [], _NOTICE_AFTER)[0]:
        print_notice(f"Waiting for the password of {user} on standard input.")
    data = sys.stdin.buffer.read()
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise PasswordMissing(
            f"the password for {user} on standard input is not UTF-8 text", hint="pipe in the password alone"
        ) from None
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")


def _require_text(password: str, complaint: str) -> str:
    if not password:
        raise PasswordMissing(complaint, hint="check the command or variable that it comes from")
    return password


def _join(names: Collection[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:-1]) + f" and {ordered[-1]}"
