"""Speed over a sliding window."""

from __future__ import annotations

from collections import deque
from typing import Final

_SPACING: Final = 0.25


class Estimator:
    """Bytes a second over the last ``window`` seconds. Times are a monotonic clock's, given by the caller.

    A chunk may take longer than the window: the last sample before it is kept, so that a slow link has a
    speed.
    """

    def __init__(self, now: float, window: float = 30.0) -> None:
        self._window = window
        self._moved = 0
        self._samples: deque[tuple[float, int]] = deque([(now, 0)])

    def add(self, moved: int, now: float) -> None:
        """``moved`` more bytes have left; less than none where some are lost again."""
        self._moved += moved
        if now - self._samples[-1][0] >= _SPACING:
            self._samples.append((now, self._moved))
        self._forget(now)

    def speed(self, now: float) -> float | None:
        """None in the first half second; 0.0 when no more was sent in a whole window than was lost."""
        self._forget(now)
        at, moved = self._samples[0]
        return max(0, self._moved - moved) / (now - at) if now - at >= 2 * _SPACING else None

    def _forget(self, now: float) -> None:
        while len(self._samples) > 1 and self._samples[1][0] <= now - self._window:
            self._samples.popleft()
