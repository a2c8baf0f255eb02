"""Write bytes and seconds for users, in every message alike."""

from __future__ import annotations

from typing import Final

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
