"""Format times and lines for users."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from typing import Final

from pusher.units import human_seconds

_NARROW: Final = 60
_NARROWEST_COLUMN: Final = 36
"""Columns of text beside another one; half the width is enough on a narrower terminal."""


def human_left(seconds: float) -> str:
    """Return an estimate of the time left: never ``0s``, and never more than ``>99d``."""
    return human_seconds(max(1.0, seconds)) if seconds < 100 * 86400 else ">99d"


def human_wait(seconds: float, until: datetime) -> str:
    """Return ``42s``, or from a minute on ``2m10s (next try at 14:32:05 CET)``, in the local zone."""
    if seconds < 60:
        return human_seconds(seconds)
    return f"{human_seconds(seconds)} (next try at {until.astimezone():%H:%M:%S %Z})"


def fit(line: str, width: int, *, is_command: bool = False) -> str:
    """Return ``line`` broken between words for a terminal of ``width`` columns.

    One with a command to copy (``is_command``) is left to terminals of 60 columns and more: what a terminal
    breaks itself can be copied as one line.
    """
    if len(line) < width or (is_command and width >= _NARROW):
        return line
    indent = " " * (len(line) - len(line.lstrip()))
    rows = textwrap.wrap(
        line,
        max(20, width - 1),
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(rows)


def shorten(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` columns, without its middle: names begin with a registry and end
    with a tag."""
    if len(text) <= width:
        return text
    kept = max(2, width - 3)
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"


def format_columns(first: str, text: str, width: int) -> str:
    """Return ``text`` as a column beside ``first``, broken between words for a terminal of ``width`` columns.

    It goes below ``first`` if too little space is left beside it. Commands and digests are not broken.
    """
    is_beside = width - 1 - len(first) >= min(_NARROWEST_COLUMN, width // 2)
    indent = " " * len(first) if is_beside else "  "
    rows = textwrap.wrap(
        text, max(20, width - 1 - len(indent)), break_long_words=False, break_on_hyphens=False
    ) or [""]
    if not is_beside:
        return "\n".join([first.rstrip(), *(indent + row for row in rows)])
    return f"\n{indent}".join([first + rows[0], *rows[1:]])


def local_time(time: datetime) -> str:
    """Return the time of this machine's zone, as ``2025-01-31 13:00:00 CET``."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def rfc3339(time: datetime) -> str:
    """Return ``2025-01-31T12:00:00.000Z``, for programs."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def percent(done: int, total: int, *, is_done: bool = True) -> int:
    """Return whole percent, 100 only if all is done; an empty blob is done.

    ``is_done``: False where bytes in flight are among ``done``, so that it is not 100 yet.
    """
    return 100 if done >= total and is_done else min(99, 100 * done // max(1, total))
