"""Implement ``pusher doctor``."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import click

from pusher import config
from pusher.cli import completers
from pusher.cli.auth_file import auth_file_option, with_auth_file
from pusher.cli.command import Command, json_option
from pusher.cli.image_list import to_option
from pusher.cli.options import registry_options, setting_options
from pusher.cli.output import print_json, print_notice
from pusher.cli.password import login_options, with_password
from pusher.cli.settings import read_settings
from pusher.errors import ConfigInvalid, ExitCode, InvalidOption, PasswordMissing, PusherError
from pusher.text import printable, printable_lines

if TYPE_CHECKING:
    from pusher.config import Settings
    from pusher.doctor import Check, CheckResult, Target

_STYLES: Final = {"PASSED": "green", "FAILED": "bold red", "SKIPPED": "yellow"}
_INDENT: Final = len("SKIPPED ") + len("credential  ")
_NARROWEST: Final = 20
"""Columns of a message on a terminal that is hardly one."""


@click.command(cls=Command)
@click.argument("target", metavar="[IMAGE | REGISTRY]", required=False, shell_complete=completers.images)
@to_option
@login_options
@auth_file_option
@registry_options
@setting_options("chunk_size")
@json_option
def doctor(
    target: str | None, to: tuple[str, ...], password_stdin: bool, as_json: bool, **flags: object
) -> int:
    """Check what a push needs, and suggest fixes.

    registry.example.com and localhost:5000 are registries, and registry.example.com/team/app is a repository;
    a file, a name with a tag, and everything else is an image. Without an argument, check this machine, the
    default registry, and the registries of unfinished jobs.

    An upload is opened at the registry and deleted again; nothing is stored there.

    \b
    Example:
      pusher doctor registry.example.com/team/app:1.2
      pusher doctor registry.example.com/team/app --username bob
      pusher doctor docker://ghcr.io/team/app:1.2 --to registry.example.com
    """
    from pusher.doctor import EarlyErrors, parse_target, run_checks

    if len(set(to)) > 1:
        raise InvalidOption("doctor checks one destination at a time", hint="give --to once")
    settings, config_error = _settings(flags)
    settings = with_auth_file(settings, flags)
    chosen = parse_target(target, to=to[0] if to else None, default=settings.default_registry)
    settings, login_error = _with_login(settings, chosen, password_stdin=password_stdin)
    report = _Report(quiet=as_json, with_registries=target is None)
    errors = EarlyErrors(config_error, login_error)
    checks = []
    try:
        for check in run_checks(chosen, settings, errors=errors, on_check=report.begin):
            report.show(check)
            checks.append(check)
    finally:
        report.clear()
    failed = [check for check in checks if check.status == "FAILED"]
    if as_json:
        print_json({"target": target, "checks": [_as_json(check) for check in checks], "passed": not failed})
    else:
        print_notice(_summary(checks, failed))
    return failed[0].exit_code if failed else ExitCode.DONE


def _settings(flags: Mapping[str, object]) -> tuple[Settings, PusherError | None]:
    """Return the settings; if they are invalid, those without the file, or else without the variables."""
    try:
        return read_settings(**flags), None
    except (ConfigInvalid, InvalidOption) as error:
        broken = error
    without_file = {**os.environ, "PUSHER_CONFIG": os.devnull}
    kept = ("PUSHER_CONFIG", "PUSHER_HOME", "PUSHER_DATABASE_URL")
    bare = {
        name: value for name, value in without_file.items() if name in kept or not name.startswith("PUSHER_")
    }
    try:
        return config.load(flags, without_file), broken
    except InvalidOption:
        return config.load(flags, bare), broken


def _with_login(
    settings: Settings, target: Target, *, password_stdin: bool
) -> tuple[Settings, PusherError | None]:
    """Bind the user name to the target's registry, if it is known before the checks."""
    try:
        registries = {target.destination(None).registry} if target.text else set()
    except PusherError:
        registries = set()
    try:
        return with_password(settings, registries, password_stdin=password_stdin), None
    except PasswordMissing as error:
        return replace(settings, login_registry=next(iter(registries), None)), error


class _Report:
    """Lines on stdout; on a terminal the last one shows the check that is running."""

    def __init__(self, *, quiet: bool, with_registries: bool) -> None:
        from pusher.cli.table import console

        self._console = console()
        self._quiet = quiet
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal and not quiet
        self._registry = None if with_registries else ""

    def begin(self, check: Check) -> None:
        """Show that a check begins."""
        if self._live:
            line = f"{'...':8}{check.name:12}{printable(check.doing)}"
            self._print(line[: self._console.width - 1], "dim", end="")

    def show(self, check: CheckResult) -> None:
        """Show the result of a check."""
        self.clear()
        if self._quiet:
            return
        if self._registry != "" and check.registry not in (None, self._registry):
            self._registry = check.registry
            self._print(f"{check.registry}:", "bold")
        text = printable(check.message)
        hint = printable_lines(f"next: {check.hint}").split("\n") if check.hint else []
        if not self._console.is_terminal:
            text = "; ".join(filter(None, [text, *hint])).replace(":; ", ": ")
            hint = []
        lines = [line for part in (text, *hint) for line in self._wrap(part)]
        self._print(f"{check.status:8}", _STYLES[check.status], end="")
        self._print(f"{check.name:12}{lines[0]}")
        for line in lines[1:]:
            self._print(" " * _INDENT + line)

    def clear(self) -> None:
        """Clear the line of the running check."""
        from rich.control import Control
        from rich.segment import ControlType

        if self._live:
            self._console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))

    def _wrap(self, text: str) -> Sequence[str]:
        """Wrap a text, but never break a command or an address: users copy them."""
        if not self._console.is_terminal:
            return [text]
        width = max(_NARROWEST, self._console.width - _INDENT)
        return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]

    def _print(self, text: str, style: str = "", *, end: str = "\n") -> None:
        from rich.text import Text

        encoding = self._console.encoding
        safe = text.encode(encoding, "backslashreplace").decode(encoding)
        self._console.print(Text(safe, style=style), end=end, soft_wrap=True)


def _as_json(check: CheckResult) -> dict[str, object]:
    return {
        "name": check.name,
        "result": check.status.value,
        "message": check.message,
        "hint": check.hint,
        "code": check.code,
        "registry": check.registry,
    }


def _summary(checks: Sequence[CheckResult], failed: Sequence[CheckResult]) -> str:
    if failed:
        return f"{len(failed)} of {len(checks)} checks failed: {', '.join(check.name for check in failed)}."
    skipped = sum(check.status == "SKIPPED" for check in checks)
    was = "1 check was" if skipped == 1 else f"{skipped} checks were"
    return "No problems found" + (f"; {was} skipped." if skipped else ".")
