"""Estimate speed over a sliding window that is shortened when the speed clearly changes."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Final

_SPACING: Final = 0.25
_PAUSE: Final = 5.0
"""Seconds without a byte after which nothing flows, unless such gaps are usual. They do not count once
something is sent again."""
_LONGEST_PAUSE: Final = 60.0
"""Seconds without a byte after which nothing flows, however long the gaps were before."""
_STALLED: Final = 0.25
"""Part of the speed before, below which a pause was a stall, and not a link that became slow."""
_RECENT: Final = 6.0
"""Seconds after which a changed speed is believed."""
_RECENT_GAPS: Final = 4
"""The same in gaps, where bytes come in bursts."""
_CHANGED: Final = 1.5
"""Factor between two speeds that differ clearly."""
_KEPT: Final = 3
"""Samples that are kept where they are further apart than the window is long."""


class Estimator:
    """Bytes per second over the last ``window`` seconds, by the caller's monotonic clock.

    When the last seconds were clearly faster or slower than those before, only they count. In a pause the
    speed is 0.0; after it, it is measured anew.
    """

    def __init__(self, now: float, window: float = 30.0) -> None:
        self._window = window
        self._moved = 0
        self._stalled = (now, 0.0)  # when the last stall ended, and how long it was
        self._restart(now)

    def _restart(self, now: float) -> None:
        self._samples: deque[tuple[float, int]] = deque([(now, self._moved)])
        self._latest = now  # when the last byte was added

    def add(self, moved: int, now: float) -> None:
        """Count ``moved`` more bytes. Those that are lost later count as well: the link carried them."""
        if moved <= 0:
            return
        self._moved += moved
        if self._was_stall(moved, now):
            self._stalled = (now, now - self._latest)
            self._restart(now)
            return
        self._latest = now
        if now - self._samples[-1][0] >= _SPACING:
            self._samples.append((now, self._moved))
            self._forget(now)
            self._forget_other_speed()

    def resume(self, now: float) -> None:
        """Begin to send after nothing was sent, as at the start and after a pause: that time does not count,
        unless it was short."""
        if not self._moved or now - self._latest >= _PAUSE:
            self._restart(now)

    def speed(self, now: float) -> float | None:
        """Return the speed; None in the first 0.5 s, 0.0 if nothing flows."""
        silence = now - self._latest
        if silence > self._patience(now):
            return 0.0
        self._forget(now)
        at, moved = self._samples[0]
        if now - at < 2 * _SPACING:
            return None
        gaps = sorted(self._gaps())
        if len(gaps) >= 2:  # bytes come in blocks: a gap says nothing until it is longer than usual
            now = self._latest + max(0.0, silence - gaps[len(gaps) // 4])
        return (self._moved - moved) / (now - at)

    def _gaps(self) -> list[float]:
        return [after - before for (before, _), (after, _) in pairwise(self._samples)]

    def _longest_gap(self, now: float) -> float:
        ended, seconds = self._stalled
        return max([*self._gaps(), seconds if now - ended <= self._window else 0.0])

    def _patience(self, now: float) -> float:
        """Return the seconds without a byte after which nothing flows."""
        return min(_LONGEST_PAUSE, max(_PAUSE, 2 * self._longest_gap(now)))

    def _was_stall(self, moved: int, now: float) -> bool:
        """Return whether nothing flowed until ``moved`` bytes came, rather than slowly."""
        silence = now - self._latest
        begin, before = self._samples[0]
        if silence <= _PAUSE or silence <= self._patience(now) or self._latest - begin < 2 * _SPACING:
            return False
        speed = (self._moved - moved - before) / (self._latest - begin)
        return moved / silence < _STALLED * speed

    def _forget(self, now: float) -> None:
        while len(self._samples) > _KEPT and self._samples[1][0] <= now - self._window:
            self._samples.popleft()

    def _forget_other_speed(self) -> None:
        """Forget what was before the last seconds if both halves of them were clearly faster, or slower."""
        end = self._samples[-1][0]
        span = max(_RECENT, _RECENT_GAPS * self._longest_gap(end))
        begin, middle = self._index_at(end - span), self._index_at(end - span / 2)
        if self._samples[begin][0] - self._samples[0][0] < span / 2:
            return
        before = self._speed_between(0, begin)
        halves = (self._speed_between(begin, middle), self._speed_between(middle, -1))
        if min(halves) > _CHANGED * before or _CHANGED * max(halves) < before:
            for _ in range(begin):
                self._samples.popleft()

    def _index_at(self, time: float) -> int:
        """Return the index of the last sample that is not after ``time``, or of the first one."""
        return max((index for index, (at, _) in enumerate(self._samples) if at <= time), default=0)

    def _speed_between(self, first: int, last: int) -> float:
        (begin, before), (end, after) = self._samples[first], self._samples[last]
        return (after - before) / (end - begin) if end > begin else 0.0
