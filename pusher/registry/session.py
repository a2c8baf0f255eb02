"""An upload session as it is remembered, and how far to believe what a registry says of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

from pusher.registry.answers import read_message
from pusher.registry.chunks import Limits
from pusher.registry.profiles import Profile
from pusher.registry.transport import Answer

_RANGE: Final = re.compile(r"(?:bytes=)?0-(-?\d{1,18})")


@dataclass(frozen=True)
class Session:
    """The pair of location and offset, and what is in doubt. Sizes and offsets in bytes."""

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

    def may_hold(self, offset: int) -> bool:
        """Whether the registry can hold that much: no less than acknowledged, no more than was sent."""
        if self.profile.whole_chunks:
            return offset in (self.offset, self.offset + self.in_flight)
        return self.offset <= offset <= self.offset + self.in_flight


def reported_offset(answer: Answer) -> int | None:
    """The bytes that a Range header says the registry holds, None if it says nothing that can be read.

    ``0-0`` is taken for nothing: it is what an empty session answers at most registries, and a first chunk of
    1 byte is never sent (https://github.com/opencontainers/distribution-spec/issues/577).
    """
    found = _RANGE.fullmatch(answer.headers.get("Range", "").strip())
    if found is None:
        return None
    last = int(found[1])
    return last + 1 if last > 0 else 0


def outgrown(answer: Answer | None) -> bool:
    """Whether a status answer is what distribution 2.x says of a session that holds more than it signed for:
    part of a chunk. One that is gone is BLOB_UPLOAD_UNKNOWN."""
    return answer is not None and "BLOB_UPLOAD_INVALID" in read_message(answer).codes


def why_lost(answer: Answer | None) -> str:
    """What a status answer from which nobody can go on means, for people."""
    if outgrown(answer):
        return "the registry cannot go on with an upload that was cut off inside a chunk"
    if answer is not None and answer.status == 404:
        return "the registry does not know the upload any more"
    return "the registry does not say how much of the upload it holds"


class Journal(Protocol):
    """Remembers an upload. Every method returns only once the change is durable."""

    def load(self) -> Session | None:
        """The session to go on with, if there is one."""

    def opened(self, session: Session) -> None:
        """A session was opened at the registry."""

    def sending(self, session: Session) -> None:
        """``session.in_flight`` bytes are about to be sent."""

    def acknowledged(self, session: Session, sent: int) -> None:
        """The registry holds ``session.offset`` bytes; ``sent`` body bytes were spent on the way."""

    def spent(self, sent: int) -> None:
        """Body bytes were sent that were refused or whose fate is unknown."""

    def closing(self, session: Session) -> None:
        """The closing PUT is about to be sent."""

    def lost(self, reason: str) -> None:
        """The session is of no use any more."""

    def learned(self, *, profile: str | None = None, max_chunk: int | None = None) -> None:
        """Something true of the whole registry."""
