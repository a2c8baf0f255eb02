"""Format bytes, speeds and times for users."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from typing import Final

_NARROW: Final = 60
_NARROWEST_COLUMN: Final = 36
"""Columns of a text beside another one; half the width is enough on a narrower terminal."""
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def human_bytes(count: float) -> str:
    """Return ``1.2 GiB``, with one decimal; whole bytes below 1 KiB."""
    value, unit = float(count), 0
    while value >= 999.95 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def human_share(done: float, total: float) -> str:
    """Return ``1.2 / 3.4 GiB``, with one unit if both have the same."""
    left, right = human_bytes(done), human_bytes(total)
    number, _, unit = left.partition(" ")
    return f"{number} / {right}" if right.endswith(f" {unit}") else f"{left} / {right}"


def human_seconds(seconds: float) -> str:
    """Return ``42s``, ``4m12s``, ``2h05m`` or ``3d04h``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


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


def percent(done: int, total: int) -> int:
    """Return whole percent, 100 only if all is done; an empty blob is done."""
    return 100 if done >= total else min(99, 100 * done // total)
