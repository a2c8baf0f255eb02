"""Define the upload session, its journal, and how to read the offset that a registry reports."""

from __future__ import annotations

import re
from dataclasses import field
from typing import Final, Protocol

from pusher.dataclass import dataclass
from pusher.registry.answers import read_message
from pusher.registry.http.answer import Answer
from pusher.registry.upload.chunk_sizes import Limits
from pusher.registry.upload.profiles import Profile

_RANGE: Final = r"(?:bytes=)?0-(-?\d{1,18})"
_INSTEAD: Final = r"(?i)\bfirst byte\b.* instead of (\d{1,18})\b"


@dataclass(frozen=True)
class Session:
    """An upload's location and offset, and the bytes in doubt. Sizes and offsets in bytes."""

    location: str
    chunk_size: int
    limits: Limits
    profile: Profile
    offset: int = 0
    """Acknowledged by the registry."""
    in_flight: int = 0
    """Bytes from ``offset`` on that may have reached the registry."""
    closing: bool = False
    """The closing PUT may have been sent."""
    furthest: int = field(default=0, compare=False)
    """The largest offset that a session of this blob has reached so far."""
    unrecorded: int = field(default=0, compare=False)
    """Bytes after those in flight that may have been sent, too, if the journal has lost its last entries."""

    def may_hold(self, offset: int) -> bool:
        """Return whether the registry can hold that much: no less than it acknowledged, no more than was
        sent."""
        recorded = self.offset + self.in_flight
        if recorded < offset <= recorded + self.unrecorded:
            return True
        if self.profile.whole_chunks:
            return offset in (self.offset, self.offset + self.in_flight)
        return self.offset <= offset <= self.offset + self.in_flight

    def offset_in(self, answer: Answer) -> int | None:
        """Return the offset in the response to a status request or a refused chunk; None if there is none.

        A refusal may have it in its message instead of a Range
        (https://github.com/aws/containers-roadmap/issues/2831).
        """
        if self.profile.resends:
            found = re.search(_INSTEAD, read_message(answer).text)
            return int(found[1]) if found else None
        if not self.profile.reports_offset:
            return None
        return reported_offset(answer, excess=self.profile.status_excess)

    def cost_of_break(self, sent: int, total: int) -> int:
        """Return how many bytes must be sent again if the connection is closed now, ``sent`` bytes into a
        body of a blob of ``total`` bytes; the maximum where it is unknown what the registry keeps."""
        profile = self.profile
        if sent == 0:
            return 0
        if self.offset == 0 and self.is_sent_whole(total):
            return sent
        if profile.may_restart:
            return self.offset + sent
        return 0 if profile.keeps_part and (profile.may_end_in_put or not self.closing) else sent

    def is_sent_whole(self, total: int) -> bool:
        """Return whether a blob of ``total`` bytes goes in one PUT, as long as nothing of it was sent."""
        if not self.profile.takes_chunks:
            return True
        most = total if self.profile.whole else self.chunk_size
        for limit in (self.profile.max_whole, self.limits.largest):
            most = most if limit is None else min(most, limit)
        return total <= most


def reported_offset(answer: Answer, *, excess: int = 0) -> int | None:
    """Return the number of bytes in a Range header, None if there is no valid one.

    ``0-0`` means 0: most registries send it for an empty session, and a first chunk of 1 byte is never sent
    (https://github.com/opencontainers/distribution-spec/issues/577).
    """
    found = re.fullmatch(_RANGE, answer.headers.get("Range", "").strip())
    if found is None:
        return None
    last = int(found[1])
    return last + 1 - excess if last > 0 else 0


def is_cut_off(answer: Answer | None) -> bool:
    """Return whether a status response is distribution 2.x's for a session that holds part of a chunk, more
    than its signed offset. For a session that is gone it is BLOB_UPLOAD_UNKNOWN."""
    return answer is not None and "BLOB_UPLOAD_INVALID" in read_message(answer).codes


def explain_loss(answer: Answer | None) -> str:
    """Return, for people, why a session with this status response cannot be resumed."""
    if is_cut_off(answer):
        return "the registry cannot resume an upload that was cut off inside a chunk"
    if answer is not None and answer.status == 404:
        return "the registry no longer knows the upload"
    return "the registry does not report how much of the upload it has"


class Journal(Protocol):
    """Stores the state of an upload. Every method returns only once the change is durable."""

    def load(self) -> Session | None:
        """Return the session to resume, if there is one."""

    def record_session(self, session: Session) -> None:
        """Record a new session, or another chunk size for an empty one."""

    def record_profile(self, session: Session) -> None:
        """Record a changed ``session.profile``."""

    def record_chunk(self, session: Session) -> None:
        """Record that ``session.in_flight`` bytes are about to be sent."""

    def record_prefix(self, end: int) -> None:
        """Record that the first ``end`` bytes of an unfinished blob are about to be sent, in a chunk that is
        longer."""

    def withdraw_chunk(self, session: Session) -> None:
        """Record that none of those bytes was sent."""

    def record_offset(self, session: Session, sent: int) -> None:
        """Record that the registry holds ``session.offset`` bytes, at the cost of ``sent`` body bytes."""

    def count_sent(self, sent: int) -> None:
        """Count body bytes that were refused or may not have arrived."""

    def count_accepted(self, sent: int) -> None:
        """Count the body bytes of the closing PUT, which the registry accepted: in memory, until the blob's
        arrival is recorded with them."""

    def record_closing(self, session: Session) -> None:
        """Record that the closing PUT is about to be sent."""

    def record_loss(self, reason: str) -> None:
        """Record that the session cannot be used any more."""

    def record_facts(self, *, profile: str | None = None, max_chunk: int | None = None) -> None:
        """Record what was learned about the registry."""

    def add_note(self, text: str) -> None:
        """Add a note to the history of this upload."""
