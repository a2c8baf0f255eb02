"""Define ``-v``, ``--log-json`` and ``--debug``, and set up logging."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Final

import click

from pusher.dataclass import dataclass
from pusher.text import as_json, printable, printable_lines

_LEVELS: Final = (logging.WARNING, logging.INFO, logging.DEBUG)
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@dataclass
class Verbosity:
    """How much one command logs; it is created before the command line is parsed."""

    level: int = 0
    """How often ``-v`` was given."""
    log_json: bool = False
    debug: bool = False
    quiet: bool = False
    """Whether notices and progress are left out."""

    @classmethod
    def from_environment(cls) -> Verbosity:
        """Read ``PUSHER_VERBOSE`` (1 or 2), ``PUSHER_LOG_JSON`` and ``PUSHER_DEBUG``."""
        verbose = os.environ.get("PUSHER_VERBOSE", "")
        return cls(
            level=int(verbose) if verbose.isascii() and verbose.isdecimal() else 0,
            log_json=bool(os.environ.get("PUSHER_LOG_JSON")),
            debug=bool(os.environ.get("PUSHER_DEBUG")),
        )

    def start(self) -> None:
        """Write log lines to stderr from now on. Call again after each change."""
        # Drop other libraries' lines: they quote URLs with their secrets.
        _install(logging.getLogger(), _Quiet())
        asked = max(self.level, 1 if self.log_json else 0)
        pusher = logging.getLogger("pusher")
        pusher.setLevel(_LEVELS[min(asked, 2)])
        _install(pusher, _Handler(self) if asked or self.debug else _Quiet())


def _install(logger: logging.Logger, handler: logging.Handler) -> None:
    """Add a handler; remove that of an earlier call."""
    logger.handlers[:] = [kept for kept in logger.handlers if not isinstance(kept, _Handler | _Quiet)]
    logger.addHandler(handler)


def verbose_options() -> list[click.Parameter]:
    """Return the options of every command and group, accepted before and after a command's name."""
    return [
        click.Option(
            ["-v", "--verbose"],
            count=True,
            expose_value=False,
            callback=_set_option("level"),
            help="Log every request to stderr; -vv also logs headers.",
        ),
        click.Option(
            ["--log-json"],
            is_flag=True,
            expose_value=False,
            callback=_set_option("log_json"),
            help="Log as JSON, one object per line.",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            callback=_set_option("debug"),
            help="Show a traceback on errors.",
        ),
    ]


def set_quiet(context: click.Context, parameter: click.Parameter, value: bool) -> None:  # noqa: ARG001
    """Leave out notices and progress from now on; the callback of ``--quiet``."""
    if value:
        context.ensure_object(Verbosity).quiet = True


def is_quiet() -> bool:
    """Return whether notices and progress are left out."""
    context = click.get_current_context(silent=True)
    verbosity = None if context is None else context.find_object(Verbosity)
    return verbosity is not None and verbosity.quiet


def _set_option(name: str) -> Callable[[click.Context, click.Parameter, int], None]:
    def tell(context: click.Context, parameter: click.Parameter, value: int) -> None:  # noqa: ARG001
        verbosity = context.ensure_object(Verbosity)
        if value:
            setattr(verbosity, name, getattr(verbosity, name) + value)
            verbosity.start()

    return tell


class _Quiet(logging.NullHandler):
    """A handler that does nothing: without any, the logging module prints warnings."""


class _Handler(logging.Handler):
    """Writes to stderr, or to the live display there."""

    display: Callable[[str], None] | None = None

    def __init__(self, verbosity: Verbosity) -> None:
        super().__init__()
        self.json = verbosity.log_json
        self._form = _as_json if self.json else _as_text
        self._debug = verbosity.debug

    def emit(self, record: logging.LogRecord) -> None:
        line = self._form(record, _traceback(record) if self._debug else "")
        if _Handler.display is not None:
            _Handler.display(line)
            return
        with suppress(OSError, ValueError, AttributeError):  # stderr is closed: continue
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


@contextmanager
def redirect_log(display: Callable[[str], None] | None) -> Iterator[None]:
    """Pass log lines to a live display until the context ends; None changes nothing."""
    before, _Handler.display = _Handler.display, display
    try:
        yield
    finally:
        _Handler.display = before


def is_log_json() -> bool:
    """Return whether stderr has only JSON lines, for programs."""
    handlers = logging.getLogger("pusher").handlers
    return any(isinstance(handler, _Handler) and handler.json for handler in handlers)


def log_as_json(level: int, message: str, **fields: object) -> bool:
    """Log a message if log lines are JSON; return whether that was done."""
    if not is_log_json():
        return False
    logging.getLogger("pusher.cli").log(level, message, extra=fields)
    return True


def _as_text(record: logging.LogRecord, traceback: str) -> str:
    at = datetime.fromtimestamp(record.created).astimezone()
    time = (
        "" if getattr(sys.stderr, "adds_times", False) else f"{at:%H:%M:%S}.{int(record.msecs):03}{at:%z}  "
    )
    line = f"{time}{printable(record.getMessage())}"
    return f"{line}\n{traceback}" if traceback else line


def _as_json(record: logging.LogRecord, traceback: str) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    fields: dict[str, object] = {
        "type": "log",
        "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
    }
    fields |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
    if traceback:
        fields["traceback"] = traceback
    return as_json(fields)


def _traceback(record: logging.LogRecord) -> str:
    return printable_lines(logging.Formatter().formatException(record.exc_info)) if record.exc_info else ""
