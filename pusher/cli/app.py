"""Define the ``pusher`` command: its subcommands, and the exit code for each exception."""

from __future__ import annotations

import errno
import gc
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Final

import click

from pusher import __version__
from pusher.cli.command import Command, Group
from pusher.cli.output import (
    discard_output,
    discard_stream,
    output_error,
    print_error,
    print_json,
    print_notice,
)
from pusher.cli.settings import read_settings
from pusher.cli.store import open_store, store_exists
from pusher.cli.verbose import Verbosity, is_log_json
from pusher.errors import CommandLineInvalid, ExitCode, PusherError, bug, find_machine_error
from pusher.text import as_json, quoted
from pusher.waiting import report_silence_to

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
"""Of standard output. Errors of files that are opened by name are reported where they happen."""


_COMMANDS: Final = {
    "push": "pusher.cli.push:push",
    "enqueue": "pusher.cli.enqueue:enqueue",
    "run": "pusher.cli.run:run",
    "stop": "pusher.cli.stop:stop",
    "wait": "pusher.cli.wait:wait",
    "serve": "pusher.cli.serve:serve",
    "status": "pusher.cli.status:status",
    "workers": "pusher.cli.workers:workers",
    "move": "pusher.cli.move:move",
    "pause": "pusher.cli.control:pause",
    "resume": "pusher.cli.control:resume",
    "cancel": "pusher.cli.control:cancel",
    "retry": "pusher.cli.control:retry",
    "priority": "pusher.cli.control:priority",
    "limit": "pusher.cli.limits:limit",
    "parallel": "pusher.cli.limits:parallel",
    "log": "pusher.cli.log:log",
    "login": "pusher.cli.login:login",
    "logout": "pusher.cli.logout:logout",
    "doctor": "pusher.cli.doctor:doctor",
    "registry": "pusher.cli.registry:registry",
    "config": "pusher.cli.config:config",
    "prune": "pusher.cli.prune:prune",
    "db": "pusher.cli.db:db",
    "errors": "pusher.cli.errors:errors",
    "completion": "pusher.cli.completion:completion",
    "demo": "pusher.cli.demo:demo",
    "help": "pusher.cli.help:help_command",
}
"""The commands in the order in which they are listed, and where each is defined."""


@click.group(
    cls=Group,
    places=_COMMANDS,
    invoke_without_command=True,
    epilog=_EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, "-V", "--version", message="pusher %(version)s")
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
        from pusher.cli.status import show_jobs

        with open_store(settings) as store:
            if store.jobs.list(limit=1):
                return show_jobs(store, everything=False)
    click.echo(_START, nl=False)
    return ExitCode.DONE


@click.command(cls=Command, hidden=True)
def version() -> int:
    """Print the version; the same as pusher --version."""
    click.echo(f"pusher {__version__}")
    return ExitCode.DONE


cli.add_command(version)
cli.aliases = {"ls": "status", "rm": "cancel"}  # as docker and podman users type them


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the console script, and exit with one of ``pusher.errors.ExitCode``."""
    # Half of a short command's time are imports, which make many objects and no garbage; and at the end the
    # interpreter would look through them all.
    gc.set_threshold(100_000)
    _repair_streams()
    code = _run(list(sys.argv[1:] if arguments is None else arguments))
    _flush_streams()
    gc.freeze()
    sys.exit(code)


def _repair_streams() -> None:
    """Replace streams that the shell closed (``>&-``), and escape what an old locale cannot write.

    What is written to a closed standard output still fails; a command that writes nothing to it does not. No
    file that is opened later gets the number of a closed stream.
    """
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _run(arguments: list[str]) -> int:
    verbosity = Verbosity.from_environment()
    verbosity.start()
    if "_PUSHER_COMPLETE" in os.environ:
        import pusher.cli.completion  # noqa: F401 - it adds the shells to click

    try:
        _check_encoding(arguments)
        with report_silence_to(print_notice):
            code = cli.main(arguments, prog_name="pusher", standalone_mode=False, obj=verbosity)
        sys.stdout.flush()
        return code or ExitCode.DONE
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        discard_output()  # its reader has closed the pipe
        return ExitCode.UNEXPECTED
    except Exception as error:
        if verbosity.debug and not isinstance(error, click.ClickException):
            import traceback

            traceback.print_exc()
        return _report_error(_as_pusher_error(error), arguments)


def _check_encoding(arguments: list[str]) -> None:
    """Refuse arguments that are not UTF-8: the job store, URLs and JSON cannot hold them."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise CommandLineInvalid(
                f"{quoted(argument)} is not UTF-8",
                hint="rename the file, or give it another name: ln -s FILE app.tar",
            ) from None


def _report_error(error: PusherError, arguments: list[str]) -> int:
    """Report the error on stderr, and on stdout too if JSON was asked for."""
    from pusher.errors.catalogue import error_as_json

    if "--log-json" in arguments and not is_log_json():  # it was not read, as the command line is wrong
        Verbosity(log_json=True).start()
    print_error(error.message, error.hint, error.code)
    described = error_as_json(error.code, error.message, error.hint)
    try:
        if "--json" in arguments:
            print_json({"error": described})
        elif "--progress=json" in arguments or ("--progress", "json") in pairwise(arguments):
            result = {"type": "result", "exit_code": error.exit_code, "jobs": [], "error": described}
            click.echo(as_json(result))
    except OSError:
        discard_output()
    return error.exit_code


def _as_pusher_error(error: Exception) -> PusherError:
    if isinstance(error, PusherError):
        return error
    if isinstance(error, click.ClickException):
        from pusher.cli.mistyped import explain_click_error

        return explain_click_error(error)
    if isinstance(error, FileNotFoundError) and error.filename is None and not _has_working_folder():
        return CommandLineInvalid("the working folder was deleted", hint="go to another folder: cd")
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return CommandLineInvalid(
            f"{quoted(error.filename)} cannot be a file: {error.strerror}", hint="check the path"
        )
    if isinstance(error, OSError) and error.errno in _OUTPUT_FAULTS and error.filename is None:
        discard_output()
        return output_error(error)
    return find_machine_error(error) or bug(error)


def _has_working_folder() -> bool:
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _flush_streams() -> None:
    """Flush both streams; the interpreter would exit with 120 for one that cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):  # it has no descriptor
                discard_stream(stream)
