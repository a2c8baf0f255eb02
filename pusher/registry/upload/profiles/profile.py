"""Define the profile of a registry: what differs from one registry to another in uploads."""

from __future__ import annotations

from typing import Final

from pusher.dataclass import dataclass

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB


@dataclass(frozen=True)
class Profile:
    """How a registry handles uploads. Sizes in bytes; the defaults follow the specification."""

    name: str
    title: str
    """The registry's name, for people."""
    proven: bool = False
    """Known from its source or from tests: one odd response does not change the way of sending."""

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
    may_end_in_put: bool = False
    """The last chunk may go in the closing PUT: what arrives of it is kept as it is of any chunk."""
    whole_chunks: bool = False
    """Every chunk but the last has the same size, so an upload is resumed at a chunk's boundary only."""

    # --- what can be trusted when a chunk's outcome is unknown
    breaks_with_chunk: bool = False
    """A connection that breaks inside a chunk makes the session unusable: chunks should be small."""
    break_unclear: bool = False
    """The effect of such a break is unknown until the first chunk was checked."""
    reports_offset: bool = True
    """Range and status report the offset; otherwise only a 2xx response counts."""
    resends: bool = False
    """In doubt the chunk is sent again: a stored one is refused with the offset to continue from."""
    status_excess: int = 0
    """Bytes by which the Range of a status or a refusal is too high."""
    appends_at_start: bool = False
    """A chunk from byte 0 is appended to what is stored: do not send it again without a status request."""

    @property
    def equal_chunks(self) -> bool:
        """Return whether all chunks of an upload have one size, e.g. because one may be resent unchanged."""
        return self.whole_chunks or self.resends

    @property
    def may_restart(self) -> bool:
        """Return whether a break inside a chunk costs, or may cost, the whole session."""
        return self.breaks_with_chunk or self.break_unclear or not (self.reports_offset or self.resends)

    @property
    def keeps_part(self) -> bool:
        """Return whether what arrived of a broken chunk is certainly kept, and the registry says how much."""
        return self.proven and self.reports_offset and not (self.whole_chunks or self.may_restart)

    @property
    def has_fixed_break_cost(self) -> bool:
        """Return whether a break inside a chunk costs the same whatever the chunk's size: nothing, or the
        whole session."""
        return self.keeps_part or self.breaks_with_chunk or self.break_unclear
