"""Compute the chunk size of a session and the end of each chunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pusher.dataclass import dataclass
from pusher.registry.http.answer import size_in
from pusher.registry.upload.profiles import KIB, MIB, Profile

DEFAULT_CHUNK: Final = 10 * MIB
"""Bytes: far below the 100 MB that Cloudflare lets through, a multiple of the part size of distribution's S3
driver (https://github.com/goharbor/harbor/issues/22063), and little to lose on a link that breaks often."""
_CLOUDFLARE_MOST: Final = 100_000_000
"""Bytes of a body that Cloudflare lets through on its smaller plans
(https://developers.cloudflare.com/workers/platform/limits/#request-limits)."""
LEAST: Final = 256 * KIB
"""Bytes of a chunk: a smaller one measures the response time, not the link."""
_QUICK: Final = 2.0
"""Seconds that a chunk may take for the next one to be bigger."""
_WAITING: Final = 0.01
"""Part of a chunk's time spent waiting for its response above which the next one may be bigger, too."""


@dataclass(frozen=True)
class Limits:
    """Smallest and largest chunk in bytes that a registry accepts; ``largest`` None: not announced."""

    smallest: int = 1
    largest: int | None = None


def announced_limits(headers: Mapping[str, str], profile: Profile, learned_max: int | None = None) -> Limits:
    """Return the limits of chunks: from the headers (distribution-spec "Pushing a blob in chunks";
    OCI-Chunk-Max-Length is serverless-registry's), the profile, Cloudflare's if the response came through it,
    and a limit learned from a 413."""
    smallest = _size(headers, "OCI-Chunk-Min-Length") or max(1, profile.min_chunk)
    largest = _size(headers, "OCI-Chunk-Max-Length") or profile.max_chunk
    if largest is None and "CF-RAY" in headers:
        largest = _CLOUDFLARE_MOST
    if largest is not None:
        smallest = min(smallest, largest)
    if learned_max is not None:
        learned_max = max(learned_max, smallest)
        largest = learned_max if largest is None else min(learned_max, largest)
    return Limits(smallest, largest)


def chunk_size(total: int, wanted: int | None, limits: Limits, profile: Profile) -> int:
    """Return the size of every chunk but the last for a blob of ``total`` bytes.

    ``wanted`` is set by the user or follows from the link. Leaves no last chunk of 1 byte:
    serverless-registry refuses it, and "Range: 0-0" would be ambiguous with an empty session.
    """
    smallest = max(limits.smallest, 2)
    largest = max(limits.largest or total, smallest)
    if profile.max_parts:
        smallest = max(smallest, -(-total // profile.max_parts))
    size = min(max(wanted or DEFAULT_CHUNK, smallest), largest)
    nearby = [size + step for step in (0, -1, 1, -2, 2) if smallest <= size + step <= largest]
    return next((near for near in nearby if near >= total or total % near != 1), size)


def next_length(offset: int, total: int, size: int, profile: Profile) -> int:
    """Return the length of the chunk at ``offset``: ``size`` bytes, less at the end, never leaving 1 byte."""
    left = total - offset
    if left <= size:
        return left
    if left - size == 1 and not profile.whole_chunks:
        return size - 1
    return size


class ChunkGrowth:
    """Grows the chunks of one blob: twofold while they are fast, fourfold or more while their responses take
    long; sizes in bytes.

    Distribution flushes its file to the disk after every chunk, and every chunk waits for its answer, so many
    small ones are slow on a fast link. Distribution's S3 driver wants parts of one size, which multiples of
    ``DEFAULT_CHUNK`` keep.
    """

    def __init__(self) -> None:
        self._grown = 0
        self._is_fresh = True  # no chunk was sent
        self._waits = False  # the last one waited long for its response
        self._most: int | None = None
        self.failures = 0
        """Grown chunks that cost a session."""

    def next_size(self, first: int, most: int, *, is_last: bool = False) -> int:
        """Return the size of the next chunk in a session whose first has ``first`` bytes: a multiple of that,
        unless it ``is_last``, or ``most`` where it is less."""
        if self._most is not None:
            most = min(most, max(first, self._most))
        if most < first or is_last:
            return min(max(self._grown, first), most)
        return min(max(self._grown, first), most) // first * first

    def record_success(self, size: int, seconds: float, answer: float | None = None) -> None:
        """Record that a chunk of ``size`` bytes was acknowledged after so many seconds; ``answer``: those
        after its last byte."""
        self._is_fresh = False
        self._waits = answer is not None and answer > _WAITING * seconds
        if self._waits:
            self._grown = 4 * size
        else:
            self._grown = 2 * size if seconds < _QUICK else min(size, self._grown)

    def record_failure(self) -> None:
        """Record a failed chunk: the next one may be half as large."""
        self._is_fresh = self._waits = False
        self._grown //= 2

    def lower_cap(self, size: int) -> None:
        """Record that a chunk of ``size`` bytes broke and cost the session: none is as large again until
        ``raise_cap``."""
        self._most = size // 2
        self.failures += 1

    def begin_at(self, size: int) -> None:
        """Begin with chunks of ``size`` bytes, unless one was sent or failed already."""
        if self._is_fresh:
            self._grown, self._is_fresh = size, False

    def jump_to(self, size: int) -> None:
        """Have the next chunk ``size`` bytes at once, if the last one waited long for its response."""
        if self._waits:
            self._grown = max(self._grown, size)

    def is_capped(self, most: int) -> bool:
        """Return whether the cap limits chunks that may have up to ``most`` bytes."""
        return self._most is not None and self._most < most and self._grown > self._most

    def raise_cap(self) -> None:
        """Double the cap."""
        self._most = None if self._most is None else 2 * self._most


def smaller_size(size: int, limits: Limits, *, at_most: int, least: int = 2) -> int | None:
    """Return the next smaller chunk size to try, from ``least`` to ``at_most``; None if there is none."""
    floor = max(limits.smallest, least)
    target = max(floor, min(at_most, size // 2))
    return target if target < size else None


def _size(headers: Mapping[str, str], name: str) -> int | None:
    size = size_in(headers, name)
    return size if size is not None and 0 < size < 2**50 else None
