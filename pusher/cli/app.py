"""The ``pusher`` command: its group, and what becomes of every exception."""

from __future__ import annotations

import errno
import gc
import io
import os
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import click

from pusher import __version__
from pusher.cli.command import Group
from pusher.cli.completion import completion
from pusher.cli.config import config
from pusher.cli.control import cancel, pause, resume, retry
from pusher.cli.db import db
from pusher.cli.demo import demo
from pusher.cli.doctor import doctor
from pusher.cli.enqueue import enqueue
from pusher.cli.errors import errors
from pusher.cli.help import help_command
from pusher.cli.log import log
from pusher.cli.login import login
from pusher.cli.logout import logout
from pusher.cli.mistyped import explain_click_error
from pusher.cli.output import print_error, print_json, print_notice
from pusher.cli.prune import prune
from pusher.cli.push import push
from pusher.cli.registry import registry
from pusher.cli.run import run
from pusher.cli.serve import serve
from pusher.cli.settings import read_settings
from pusher.cli.status import show_jobs, status
from pusher.cli.store import open_store, store_exists
from pusher.cli.verbose import Verbosity
from pusher.errors import CommandLineInvalid, ExitCode, OutputUnwritable, PusherError, bug, of_machine
from pusher.errors.catalogue import error_as_json
from pusher.text import as_json, quoted
from pusher.waiting import told

_START = """\
pusher push registry.example.com/team/app:1.2    push an image from Docker
pusher enqueue IMAGE, then pusher run            push several; run again to resume
pusher status                                    show what is done and what is left
"""

_EXIT_CODES = """\

Exit codes:
  0 done                     5 unfinished, try again
  1 unexpected               6 refused by the registry
  2 usage                    7 source missing or changed
  3 failed for good          8 job store
  4 authentication           129 and up: ended by a signal
"""


_OUTPUT_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""Those of files that are opened by name are told where they happen."""


@click.group(
    cls=Group,
    invoke_without_command=True,
    epilog=_EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="pusher %(version)s")
@click.pass_context
def cli(context: click.Context) -> int | None:
    """Push container images over bad links: what has arrived is never sent again.

    Without a command, show the jobs and their progress.

    \b
    Example:
      pusher push registry.example.com/team/app:1.2
    """
    if context.invoked_subcommand is not None:
        return None
    settings = read_settings()
    if store_exists(settings):
        with open_store(settings) as store:
            if store.jobs.list(limit=1):
                return show_jobs(store, everything=False)
    click.echo(_START, nl=False)
    return ExitCode.DONE


for _command in (
    *(push, enqueue, run, serve, status, pause, resume, cancel, retry, log),
    *(login, logout, doctor, registry, config, prune, db, errors, completion, demo, help_command),
):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Ends the process with one of the exit codes of ``pusher.errors.ExitCode``."""
    # Half of a short command's time are imports, which make many objects and no garbage; and at the end the
    # interpreter would look through them all.
    gc.set_threshold(100_000)
    _mend_streams()
    code = _run(list(sys.argv[1:] if arguments is None else arguments))
    gc.freeze()
    sys.exit(code)


def _mend_streams() -> None:
    """A shell's ``>&-`` closes a stream; nothing else here wants to know. And what an old locale cannot write
    is spelled out."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _run(arguments: list[str]) -> int:
    verbosity = Verbosity.from_environment()
    verbosity.start()
    try:
        _check(arguments)
        with told(print_notice):
            code = cli.main(arguments, prog_name="pusher", standalone_mode=False, obj=verbosity)
        sys.stdout.flush()
        return code or ExitCode.DONE
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _give_up_output()  # whoever read it has enough
        return ExitCode.UNEXPECTED
    except Exception as error:
        if verbosity.debug and not isinstance(error, click.ClickException):
            traceback.print_exc()
        return _conclude(_ours(error), arguments)


def _check(arguments: list[str]) -> None:
    """Names that are not UTF-8 cannot stand in the job store, in a URL or in JSON."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise CommandLineInvalid(
                f"{quoted(argument)} is not UTF-8",
                hint="rename the file, or give it another name: ln -s FILE app.tar",
            ) from None


def _conclude(error: PusherError, arguments: list[str]) -> int:
    """Tell people on stderr, and the program that asked for JSON on stdout."""
    print_error(error.message, error.hint, error.code)
    described = error_as_json(error.code, error.message, error.hint)
    try:
        if "--json" in arguments:
            print_json({"error": described})
        elif "--progress=json" in arguments or ("--progress", "json") in pairwise(arguments):
            result = {"type": "result", "exit_code": error.exit_code, "jobs": [], "error": described}
            click.echo(as_json(result))
    except OSError:
        _give_up_output()
    return error.exit_code


def _ours(error: Exception) -> PusherError:
    if isinstance(error, PusherError):
        return error
    if isinstance(error, click.ClickException):
        return explain_click_error(error)
    if isinstance(error, FileNotFoundError) and error.filename is None and not _is_somewhere():
        return CommandLineInvalid("the working folder was deleted", hint="go to another folder: cd")
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return CommandLineInvalid(
            f"{quoted(error.filename)} cannot be a file: {error.strerror}", hint="check the path"
        )
    if isinstance(error, OSError) and error.errno in _OUTPUT_FAULTS and error.filename is None:
        _give_up_output()
        return OutputUnwritable(f"standard output cannot be written: {error.strerror}")
    return of_machine(error) or bug(error)


def _is_somewhere() -> bool:
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _give_up_output() -> None:
    """The interpreter must not complain when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
