"""Choose the size of a blob's next chunk, and when to restart with larger chunks."""

from __future__ import annotations

from typing import Final

from pusher.registry.http.body import Arrival
from pusher.registry.upload import chunk_sizes
from pusher.registry.upload.profiles import Profile
from pusher.registry.upload.session import Session
from pusher.registry.upload.states import Close, Lost, Send
from pusher.registry.upload.uplink import LinkEstimate
from pusher.units import human_bytes

_SENT_AGAIN: Final = 8
"""Part of a blob, one in so many bytes, that may be sent again to continue in larger chunks."""


class ChunkPlan:
    """The sizes of one blob's chunks; ``wanted`` is the size that the user asked for. Sizes in bytes.

    ``is_limit``: the blob has at most ``total`` bytes, as it is still being compressed. ``arrival``: of a
    blob that is still being written.
    """

    def __init__(
        self,
        total: int,
        link: LinkEstimate,
        wanted: int | None,
        *,
        is_limit: bool = False,
        arrival: Arrival | None = None,
    ) -> None:
        self.growth = chunk_sizes.ChunkGrowth()
        self.again = 0
        """Bytes of a chunk that the registry may hold, where it cannot be asked."""
        self._total = total
        self._is_limit = is_limit
        self._arrival = arrival
        self._link = link
        self._wanted = wanted
        self._given_up = 0  # acknowledged bytes of sessions given up for larger chunks
        self._furthest: int | None = None  # the largest offset of sessions before the present one

    def next_size(self, session: Session, *, is_last: bool = False) -> int:
        """Return the size of a full chunk, or up to which ``is_last``; it follows the link where chunks may
        differ in size."""
        if session.profile.equal_chunks:
            return session.chunk_size
        most = self._link.largest_size(self._wanted, session.profile, session.limits, is_last=is_last)
        if session.offset and self._link.is_quiet:
            self.growth.begin_at(most)
            if session.profile.has_fixed_break_cost:
                there = most if self._arrival is None else self._arrival.held - session.offset
                self.growth.jump_to(there)
        if self.growth.is_capped(most):
            size = self.growth.next_size(session.chunk_size, most)
            if self._link.pays_to_grow(session.offset, self._total, size, self.growth.failures):
                self.growth.raise_cap()
        size = self.growth.next_size(session.chunk_size, most, is_last=is_last)
        return max(size, session.limits.smallest, self.again)

    def arrived_size(self, session: Session, size: int, arrived: int) -> int:
        """Return how much of a chunk of ``size`` bytes to send of a blob whose first ``arrived`` bytes can be
        read: not to wait for all of a large chunk while a part of it could be on its way."""
        if session.profile.equal_chunks or arrived >= session.offset + size:
            return size
        there = (arrived - session.offset) // session.chunk_size * session.chunk_size
        return min(size, max(there, session.chunk_size, session.limits.smallest, self.again))

    def is_last(self, session: Session) -> bool:
        """Return whether the closing PUT comes next."""
        if session.offset == 0 and session.is_sent_whole(self._total):
            return True
        left = self._total - session.offset
        return left == 0 or (self._ends_in_put(session) and left <= self.next_size(session, is_last=True))

    def _ends_in_put(self, session: Session) -> bool:
        """Return whether the last chunk goes in the closing PUT. Where that is a choice it saves a request;
        a link that breaks carries a chunk better by itself, on a connection of its own."""
        if session.profile.last_in_put:
            return True
        may = session.profile.may_end_in_put and session.offset > 0 and not self._is_limit
        return may and self._wanted is None and self._link.is_quiet and self._is_rest_there(session)

    def _is_rest_there(self, session: Session) -> bool:
        """Return whether the closing PUT waits for no bytes that could be sent in a chunk meanwhile."""
        left = self._total - session.offset
        return self._arrival is None or left <= session.chunk_size or self._arrival.held >= self._total

    def first_state(self, session: Session) -> Send | Close:
        """Return the first state of a session that was just opened."""
        return Close(session) if self.is_last(session) else Send(session)

    def next_state(self, session: Session) -> Send | Close | Lost:
        """Return the next state of ``session``, no byte of which is in doubt."""
        if self._furthest is None:
            self._furthest = session.furthest
        if self.is_last(session):
            return Close(session)
        if self._is_too_large_for_link(session):
            return Lost(
                session,
                f"the link breaks within chunks of {human_bytes(session.chunk_size)}; "
                "continuing with smaller ones",
                fruitless=False,
            )
        larger = self.larger_size(session)
        if larger is None:
            return Send(session)
        self._given_up += session.offset
        return Lost(
            session,
            f"chunks of {human_bytes(session.chunk_size)} take too long at this registry, and have one size "
            f"for a whole upload; continuing with {human_bytes(larger)}",
            fruitless=False,
        )

    def larger_size(self, session: Session) -> int | None:
        """Return the size of a new session's chunks if they save more time than this session's bytes cost;
        None if the session should be kept.

        Only a session that got twice as far as all before is given up, and only at the beginning of a blob:
        this terminates, however the link changes and however often the process restarts.
        """
        if not session.profile.equal_chunks or self._wanted or session.offset == 0:
            return None
        if session.offset < 2 * (self._furthest or 0):
            return None  # larger chunks did not help
        if (self._given_up + session.offset) * _SENT_AGAIN > self._total:
            return None
        most = self._link.largest_size(None, session.profile, session.limits)
        size = chunk_sizes.chunk_size(self._total, most, session.limits, session.profile)
        if size < 2 * session.chunk_size:
            return None
        pays = self._link.pays_to_restart(session.offset, self._total, session.chunk_size, size)
        return size if pays else None

    def record_loss(self, session: Session) -> None:
        """Record the offset that a lost session had reached."""
        self._furthest = max(self._furthest or 0, session.offset)

    def _is_too_large_for_link(self, session: Session) -> bool:
        """Return whether an empty session's fixed chunk size is too large for the link."""
        if not session.profile.equal_chunks or self._wanted or session.offset or not self._link.breaks:
            return False
        first = self._link.first_size(None, session.profile)
        size = chunk_sizes.chunk_size(self._total, first, session.limits, session.profile)
        return session.chunk_size >= 2 * size

    def shrink_after_break(self, session: Session, profile: Profile, broken_at: int | None) -> None:
        """Use smaller chunks after a broken one cost the session, where the user set their size; otherwise
        the link estimate adapts it."""
        if self._wanted and profile.breaks_with_chunk and broken_at:
            self._link.lower_ceiling(session.chunk_size, session.limits, session.chunk_size)
