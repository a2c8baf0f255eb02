"""What every command needs: the options they share, settings, the job store, output."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import click

from pusher import config
from pusher.cli.mistyped import too_many, unknown_command
from pusher.cli.options import write_options
from pusher.cli.verbose import as_log_line, verbose_options
from pusher.config import values
from pusher.config.variables import unknown_variables
from pusher.errors import InvalidOption
from pusher.errors.catalogue import error_as_json
from pusher.text import as_json, printable

if TYPE_CHECKING:
    from pusher.store.records import JobRecord
    from pusher.store.store import Store


_VARIABLES_TOLD: Final = "pusher.variables-told"


class Command(click.Command):
    """A command with ``-v``, ``--log-json`` and ``--debug``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += verbose_options()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_extra_args = True  # told here, with what was probably meant
        super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            raise too_many(ctx, ctx.args)
        return ctx.args

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_options(self, ctx, formatter)


class Group(click.Group):
    """A group of such commands, listed in the order in which they were added."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += verbose_options()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            raise unknown_command(name, ctx.command_path, self.commands, args[1:])
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.commands)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

progress_option = click.option(
    "--progress",
    type=click.Choice(["auto", "tty", "lines", "json", "none"]),
    default="auto",
    show_default=True,
    help="How to show progress; JSON lines go to stdout, the others to stderr.",
)


def read_settings(**flags: object) -> config.Settings:
    """The settings of this command, from its flags, the environment and ``pusher.toml``.

    Raises InvalidOption, ConfigInvalid.
    """
    settings = config.load(flags)
    check_settings(settings)
    warn_of_variables()
    return settings


def check_settings(settings: config.Settings) -> None:
    """Raises InvalidOption for a profile that there is not, or a level that the compression does not have."""
    if settings.compression_level is not None:
        from pusher.worker.compression import RequestedCompression

        RequestedCompression.parse(settings.compression, settings.compression_level)
    named = {settings.at(registry).profile for registry in settings.registries} | {settings.profile}
    if named != {None}:
        from pusher.registry.upload.profiles import by_name

        for name in named - {None}:
            by_name(str(name))


def store_exists(settings: config.Settings) -> bool:
    """Whether there can be jobs: a command that only looks does not create the job store."""
    kind, found, path = settings.database_url.partition(":///")
    if not found or not kind.startswith("sqlite"):
        return True
    file = values.parse_path(unquote(path.partition("?")[0]), "PUSHER_DATABASE_URL")
    try:
        return os.path.lexists(file)
    except OSError:
        return True  # whoever opens it says what is wrong


@contextmanager
def opened(settings: config.Settings, *, forever: bool = False) -> Iterator[Store]:
    """The job store, closed at the end. What another process locks is waited for, with a word; ``forever``: a
    server that is not there yet as well, as long as it takes."""
    from pusher.errors import StoreError, StoreLocked
    from pusher.store.patience import Patience
    from pusher.store.store import Store

    is_file = settings.database_url.startswith("sqlite")
    patience = Patience(
        warn,
        limit=None if forever else settings.retry.store_command,
        only=StoreError if forever and not is_file else StoreLocked,
        policy=settings.retry,
    )
    with patience.call(Store.open, settings.database_url) as store:
        yield store.patient(patience)


def job_id(text: str) -> int:
    """The number that ``enqueue`` printed; InvalidOption for anything else."""
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    raise InvalidOption(f"{text!r} is not a job ID", hint="pusher status lists the jobs")


def runnable(store: Store) -> list[JobRecord]:
    """Jobs that a run will work on, now or when they are due."""
    from pusher.store.records import RUNNABLE_STATES

    return store.jobs.list(states=RUNNABLE_STATES)


def print_json(value: Mapping[str, object] | Collection[object]) -> None:
    """Data for a program, on stdout."""
    click.echo(as_json(value, indent=2))


def say(line: str = "") -> None:
    """A line on stdout, fit for a terminal."""
    click.echo(printable(line))


def say_columns(first: str, text: str) -> None:
    """``text`` beside ``first`` on stdout, which holds the padding between them; one line where no terminal
    reads it."""
    from pusher.progress.format import columns

    first, text = printable(first), printable(text)
    if not sys.stdout.isatty():
        click.echo(first + text)
    else:
        click.echo(columns(first, text, shutil.get_terminal_size().columns))


def warn(line: str) -> None:
    """A line for people, on stderr. Where nobody can read it, the command goes on without."""
    if not as_log_line(logging.INFO, line):
        _print(line)


def warn_of_variables() -> None:
    """Once a command: a variable with a wrong name does nothing, and nobody would notice."""
    context = click.get_current_context(silent=True)  # None: the shell asks for completions
    if context is None or context.find_root().meta.get(_VARIABLES_TOLD):
        return
    context.find_root().meta[_VARIABLES_TOLD] = True
    for name, meant in unknown_variables(os.environ).items():
        guess = f"; did you mean {meant}?" if meant else "; pusher config shows those that exist"
        warn(f"Unknown environment variable {name}{guess}")


def show_error(message: str, hint: str, code: str = "") -> None:
    """What happened and what to do, on stderr."""
    if as_log_line(logging.ERROR, message, hint=hint, **({"code": code} if code else {})):
        return
    _print(f"error: {message}")
    for number, line in enumerate(hint.split("\n") if hint else ()):
        _print(f"        {line}" if number else f"  hint: {line}", is_command=True)


def _print(line: str, *, is_command: bool = False) -> None:
    from pusher.progress.format import fitted

    with contextlib.suppress(OSError, ValueError):
        line = printable(line)
        if sys.stderr.isatty():
            line = fitted(line, shutil.get_terminal_size().columns, is_command=is_command)
        click.echo(line, err=True)


def error_json(job: JobRecord) -> dict[str, object] | None:
    """The last error of a job, for a program."""
    return error_as_json(job.error.code, job.error.message, job.error.hint) if job.error else None


def rfc3339(time: datetime | None) -> str | None:
    """``2025-01-31T12:00:00Z``."""
    return None if time is None else time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
