"""Count chunks and sessions of one blob without progress, and decide when to give up."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from pusher.registry.upload.uplink import LinkEstimate

_MAX_FRUITLESS: Final = 4
"""Sessions lost in one pass without progress."""
_MAX_REPEATS: Final = 2
"""Times that a chunk is sent again where the registry cannot be asked about it."""


class Stuck(Enum):
    """Why chunks make no progress."""

    PATIENT = auto()
    """Not known yet: the next one may succeed."""
    SESSION_ILL = auto()
    """The link carried them and the registry accepted none."""
    LINK_BREAKS = auto()
    """The link breaks inside them."""


class Setbacks:
    """The failures of an upload since its last progress."""

    def __init__(self, link: LinkEstimate) -> None:
        self._link = link
        self.stuck = 0
        """Chunks in a row without progress."""
        self.broken_at: int | None = None
        """Fewest bytes sent before the connection broke inside a chunk."""
        self.postponed = False
        """The response to the last chunk asked to try later."""
        self._fruitless = 0  # sessions lost in this pass since one got further than all before
        self._furthest = 0
        self._explained = False

    def begin_pass(self) -> None:
        """Reset the count of lost sessions."""
        self._fruitless = self._furthest = 0

    def begin_session(self) -> None:
        """Reset the count of chunks."""
        self.stuck = 0

    def record_break(self, sent: int, length: int, seconds: float) -> None:
        """Record, of the link as well, that the connection broke after ``sent`` of a body's ``length`` bytes
        and after so many seconds."""
        if sent:
            self.broken_at = min(sent, self.broken_at or sent)
            self._link.record_break(sent, length, seconds)

    def record_lost(self) -> None:
        """Record a session that was lost."""
        self._fruitless += 1

    def record_gain(self, offset: int) -> None:
        """Record that nothing is in doubt, with ``offset`` bytes acknowledged."""
        self.clear()
        if offset > self._furthest:
            self._furthest, self._fruitless = offset, 0

    def clear(self) -> None:
        """Forget the chunks without progress."""
        self.stuck, self.broken_at = 0, None

    def judge_stuck(self, offset: int) -> Stuck:
        """Count a chunk at ``offset`` without progress, and return the cause.

        A session with acknowledged bytes gets more tries, most where the registry itself responds (500). A
        response that asks to try later, an intermediary's or a busy registry's, does not concern the session,
        nor does a source that stops delivering.
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
        return self.stuck < _MAX_REPEATS

    @property
    def has_lost_sessions(self) -> bool:
        """Return whether a session was lost since one got further."""
        return self._fruitless > 0

    @property
    def is_hopeless(self) -> bool:
        """Return whether too many sessions were lost to continue this pass."""
        return self._fruitless >= _MAX_FRUITLESS

    def explain_once(self) -> bool:
        """Return whether the loss of interrupted chunks has not been explained yet."""
        explained, self._explained = self._explained, True
        return not explained
