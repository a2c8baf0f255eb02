"""What can differ from one registry to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB


@dataclass(frozen=True)
class Profile:
    """What a registry's uploads are like. Sizes in bytes; the defaults are what the specification says."""

    name: str
    title: str
    """The registry's name, for people."""
    proven: bool = False
    """Read in its source or tried: one odd answer is no reason to doubt the way of sending."""

    # --- sizes
    min_chunk: int = 0
    """Chunks but the last have at least this size."""
    max_chunk: int | None = None
    max_parts: int | None = None
    """Chunks that one upload may have."""
    max_blob: int | None = None
    max_whole: int | None = None
    """The largest blob that one PUT may hold; 0: every blob goes in chunks."""

    # --- the way of sending
    whole: bool = False
    """A blob goes in one PUT, whatever its size; nothing of it can be resumed."""
    takes_chunks: bool = True
    last_in_put: bool = False
    """The last chunk goes in the closing PUT, which must not be empty."""
    whole_chunks: bool = False
    """Every chunk but the last has the same size, so an upload is resumed at a chunk's boundary only."""

    # --- what can be believed after a doubt
    breaks_with_chunk: bool = False
    """A connection that breaks inside a chunk makes the session unusable: chunks should be small."""
    break_unclear: bool = False
    """What such a break does is not known before the first chunk was looked at."""
    reports_offset: bool = True
    """Range and status say how much it holds; otherwise only an answer of 2xx counts."""
    resends: bool = False
    """In doubt the chunk is sent again: one that is there is refused with the offset to continue from."""
    status_excess: int = 0
    """Bytes by which the Range of a status or a refusal is too high."""
    appends_at_start: bool = False
    """A chunk from byte 0 on is appended to what is there: it must not be sent again unasked."""

    @property
    def equal_chunks(self) -> bool:
        """Return whether the chunks of one upload have one size, be it because one may have to be sent again
        as it was."""
        return self.whole_chunks or self.resends

    @property
    def may_restart(self) -> bool:
        """Return whether a connection that breaks inside a chunk costs, or may cost, all that the session
        holds."""
        return self.breaks_with_chunk or self.break_unclear or not (self.reports_offset or self.resends)
