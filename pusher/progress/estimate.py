"""Estimate speed over a sliding window."""

from __future__ import annotations

from collections import deque
from typing import Final

_SPACING: Final = 0.25
_PAUSE: Final = 5.0
"""Seconds without a byte that do not count once something is sent again."""


class Estimator:
    """Bytes per second over the last ``window`` seconds, by the caller's monotonic clock.

    A chunk can take longer than the window, so the last sample before it is kept.
    """

    def __init__(self, now: float, window: float = 30.0) -> None:
        self._window = window
        self._moved = 0
        self._samples: deque[tuple[float, int]] = deque([(now, 0)])

    def add(self, moved: int, now: float) -> None:
        """Count ``moved`` more bytes; a negative number if some were lost."""
        self._moved += moved
        if now - self._samples[-1][0] >= _SPACING:
            self._samples.append((now, self._moved))
        self._forget(now)

    def resume(self, now: float) -> None:
        """Begin to send after nothing was sent, as at the start and after a pause: that time does not count,
        unless it was short."""
        if not self._moved or now - self._samples[-1][0] >= _PAUSE:
            self._samples = deque([(now, self._moved)])

    def speed(self, now: float) -> float | None:
        """Return the speed; None in the first 0.5 s, 0.0 if at least as much was lost as sent."""
        self._forget(now)
        at, moved = self._samples[0]
        return max(0, self._moved - moved) / (now - at) if now - at >= 2 * _SPACING else None

    def _forget(self, now: float) -> None:
        while len(self._samples) > 1 and self._samples[1][0] <= now - self._window:
            self._samples.popleft()
