"""The ``pusher`` command: its group, and what becomes of every exception."""

from __future__ import annotations

import gc
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from pusher import __version__
from pusher.cli.base import Group, opened, read_settings, show_error, store_exists
from pusher.cli.control import cancel, pause, resume, retry
from pusher.cli.db import db
from pusher.cli.enqueue import enqueue
from pusher.cli.log import log
from pusher.cli.prune import prune
from pusher.cli.push import push
from pusher.cli.run import run
from pusher.cli.status import show_jobs, status
from pusher.errors import ExitCode, PusherError

_START = """\
pusher push registry.example.com/team/app:1.2    push an image from Docker, now
pusher enqueue IMAGE, then pusher run            push several; run again to go on where it was cut
pusher status                                    see what is done and what is left
"""

_EXIT_CODES = """\

Exit codes:
  0 done                     5 unfinished, trying again helps
  1 unexpected               6 refused by the registry
  2 usage                    7 source missing or changed
  3 failed for good          8 job store
  4 authentication           130, 143 by signal
"""


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

    Without a command: the jobs and how far they are.

    \b
    Example:
      pusher push registry.example.com/team/app:1.2
    """
    if context.invoked_subcommand is not None:
        return None
    settings = read_settings()
    if store_exists(settings):
        with opened(settings) as store:
            if store.jobs.list(limit=1):
                return show_jobs(store, everything=False)
    click.echo(_START, nl=False)
    return ExitCode.DONE


for _command in (push, enqueue, run, status, pause, resume, cancel, retry, log, prune, db):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Ends the process with one of the exit codes of ``pusher.errors.ExitCode``."""
    # Half of a short command's time are imports, which make many objects and no garbage; and at the end the
    # interpreter would look through them all.
    gc.set_threshold(100_000)
    code = _run(list(sys.argv[1:] if arguments is None else arguments))
    gc.freeze()
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    if not _debugging(arguments):
        # Libraries' warnings, and tracebacks that the worker logs, are for --debug.
        logging.getLogger().addHandler(logging.NullHandler())
    try:
        code = cli.main(arguments, prog_name="pusher", standalone_mode=False)
        sys.stdout.flush()
        return code or ExitCode.DONE
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough; the interpreter must not complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.UNEXPECTED
    except click.ClickException as error:
        show_error(*_usage(error))
        return ExitCode.USAGE
    except PusherError as error:
        if _debugging(arguments):
            traceback.print_exc()
        show_error(error.message, error.hint)
        return error.exit_code
    except Exception as error:
        if _debugging(arguments):
            traceback.print_exc()
        show_error(
            f"this is a bug in pusher: {type(error).__name__} in {_place(error)}",
            "nothing is lost; run the command again with --debug to see more, and report what it prints",
        )
        return ExitCode.UNEXPECTED


def _usage(error: click.ClickException) -> tuple[str, str]:
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "pusher"
    return message[:1].lower() + message[1:], f"{path} --help"


def _debugging(arguments: list[str]) -> bool:
    return "--debug" in arguments or bool(os.environ.get("PUSHER_DEBUG"))


def _place(error: BaseException) -> str:
    """File and line inside pusher where it happened; the text of a foreign error may hold a secret."""
    ours = str(Path(__file__).parent.parent)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(ours)]
    if not frames:
        return "an unknown place"
    return f"{Path(frames[-1].filename).relative_to(Path(ours).parent)}, line {frames[-1].lineno}"
