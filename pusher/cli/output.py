"""Print commands' output: data and results on stdout, the rest on stderr."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, TextIO

import click

from pusher.cli.verbose import is_quiet, log_as_json
from pusher.errors import OutputUnwritable, PusherError
from pusher.text import as_json, printable

_OUTPUT_CLOSED: Final = frozenset({errno.EPIPE, errno.EBADF})
"""The reader closed the pipe; the shell closed standard output (``>&-``)."""


def print_json(value: Mapping[str, object] | Collection[object]) -> None:
    """Print data for a program, on stdout."""
    click.echo(as_json(value, indent=2))


def print_line(line: str = "") -> None:
    """Print a line on stdout, safe for a terminal."""
    click.echo(printable(line))


def print_columns(first: str, text: str) -> None:
    """Print ``first``, padding included, and ``text`` as a column beside it; one line where stdout is not a
    terminal."""
    from pusher.progress.format import format_columns

    first, text = printable(first), printable(text)
    if not sys.stdout.isatty():
        click.echo(first + text)
    else:
        click.echo(format_columns(first, text, shutil.get_terminal_size().columns))


def print_notice(line: str) -> None:
    """Print a line for users, on stderr, unless ``--quiet`` was given. Ignore errors of writing."""
    if not is_quiet() and not log_as_json(logging.INFO, line):
        _print_to_stderr(line)


def print_error(message: str, hint: str, code: str = "") -> None:
    """Print an error and its hint, on stderr."""
    if log_as_json(logging.ERROR, message, hint=hint, **({"code": code} if code else {})):
        return
    _print_to_stderr(f"error: {message}")
    for number, line in enumerate(hint.split("\n") if hint else ()):
        _print_to_stderr(f"        {line}" if number else f"  hint: {line}", is_command=True)


def _print_to_stderr(line: str, *, is_command: bool = False) -> None:
    from pusher.progress.format import fit

    with contextlib.suppress(OSError, ValueError):
        line = printable(line)
        if sys.stderr.isatty():
            line = fit(line, shutil.get_terminal_size().columns, is_command=is_command)
        click.echo(line, err=True)


@contextlib.contextmanager
def printing_results(report: Callable[[OutputUnwritable], None]) -> Iterator[None]:
    """Print on standard output what was done; pass the error to ``report`` if it cannot be written.

    That no process reads it changes nothing about what was done, and is not an error.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        discard_output()
        if error.errno not in _OUTPUT_CLOSED:
            report(output_error(error))


def report_unwritable(errors: Sequence[PusherError], code: int) -> int:
    """Print errors of outputs that could not be written, and return the exit code: ``code``, how the jobs
    ended, unless they succeeded."""
    for error in errors:
        print_error(error.message, error.hint, error.code)
    return code or (errors[0].exit_code if errors else code)


def output_error(error: OSError) -> OutputUnwritable:
    """Return the error for a standard output that cannot be written."""
    if error.errno == errno.EBADF:
        return OutputUnwritable("standard output is closed", hint="to discard the output, use >/dev/null")
    return OutputUnwritable(f"standard output cannot be written: {error.strerror}")


def discard_output() -> None:
    """Discard the rest of standard output, which cannot be written: the interpreter flushes it at exit."""
    discard_stream(sys.stdout)


def discard_stream(stream: TextIO) -> None:
    """Discard what is written to the stream from now on."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)


def wait_for_reader(seconds: float) -> None:
    """Wait this long. Raises BrokenPipeError if the reader closes standard output: without a change there is
    no write that would fail."""
    if not hasattr(select, "poll"):
        time.sleep(seconds)
        return
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # no file
        time.sleep(seconds)
        return
    ends = time.monotonic() + seconds
    poller = select.poll()
    poller.register(descriptor, 0)  # errors alone
    if any(events & select.POLLERR for _, events in poller.poll(seconds * 1000)):
        raise BrokenPipeError
    time.sleep(max(0.0, ends - time.monotonic()))  # a terminal that hung up ends the poll at once
