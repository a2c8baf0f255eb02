"""Counting chunks and sessions of one blob that gained nothing, and when that is enough."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

_MOST_FRUITLESS: Final = 4
"""Sessions lost in one pass without getting further than before."""
_MOST_REPEATS: Final = 2
"""Times that a chunk is sent again where the registry cannot be asked about it."""


class Stuck(Enum):
    """What chunks that gain nothing mean."""

    PATIENT = auto()
    """They may get through yet."""
    SESSION_ILL = auto()
    """The link carried them and the registry took none."""
    LINK_BREAKS = auto()
    """The link breaks inside them."""


class Setbacks:
    """What an upload has met since it last gained something."""

    def __init__(self) -> None:
        self.stuck = 0
        """Chunks sent in a row that gained nothing."""
        self.broken_at: int | None = None
        """Bytes that left before the connection broke inside a chunk, the fewest."""
        self.postponed = False
        """The last chunk was answered with "later"."""
        self._fruitless = 0  # sessions lost in this pass since one got further than all before
        self._furthest = 0
        self._explained = False

    def begin_pass(self) -> None:
        """Start counting lost sessions anew."""
        self._fruitless = self._furthest = 0

    def begin_session(self) -> None:
        """Start counting chunks anew."""
        self.stuck = 0

    def record_break(self, sent: int) -> None:
        """Record that the connection broke after ``sent`` bytes of a chunk."""
        self.broken_at = min(sent, self.broken_at or sent)

    def record_lost(self) -> None:
        """Record a session that was lost."""
        self._fruitless += 1

    def record_gain(self, offset: int) -> None:
        """Record that nothing is in doubt, with ``offset`` bytes acknowledged."""
        self.clear()
        if offset > self._furthest:
            self._furthest, self._fruitless = offset, 0

    def clear(self) -> None:
        """Forget the chunks that gained nothing."""
        self.stuck, self.broken_at = 0, None

    def judge_stuck(self, offset: int) -> Stuck:
        """Count a chunk at ``offset`` that gained nothing, and return what that means.

        What is acknowledged is worth more tries, above all where the registry itself answers (500). An answer
        that says "later", an intermediary's or a busy registry's, says nothing of the session.
        """
        if self.postponed:
            self.postponed = False
            return Stuck.PATIENT
        self.stuck += 1
        if self.stuck < (2 if offset == 0 else 4 if self.broken_at is not None else 8):
            return Stuck.PATIENT
        return Stuck.SESSION_ILL if self.broken_at is None else Stuck.LINK_BREAKS

    @property
    def may_repeat(self) -> bool:
        """Return whether a chunk may be sent again without asking."""
        return self.stuck < _MOST_REPEATS

    @property
    def has_lost_sessions(self) -> bool:
        """Return whether a session was lost since one got further."""
        return self._fruitless > 0

    @property
    def is_hopeless(self) -> bool:
        """Return whether so many were lost that this pass should end."""
        return self._fruitless >= _MOST_FRUITLESS

    def explain_once(self) -> bool:
        """Return whether it has not been explained yet that nothing of a chunk lasts."""
        explained, self._explained = self._explained, True
        return not explained
