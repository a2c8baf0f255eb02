"""What is known of the way to one registry: its speed, how much it carries between two breaks, fronts that
limit bodies.

From it follows the size of chunks. A chunk should take about ten seconds: so the registry is seldom asked,
and little is in flight. And it should be a fraction of what the link carries between two breaks: a break in a
chunk of ``c`` bytes loses half of it, so with a break every ``D`` bytes and nothing kept of a broken chunk,
``c / 2D`` of the traffic is waste; up to ``c / D`` where the breaks come regularly, because the last chunk
before each never gets through. An eighth costs no more than asking more often would on a usual link.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

from pusher.registry.upload import chunk_sizes
from pusher.registry.upload.chunk_sizes import Limits
from pusher.registry.upload.profiles import CHUNKED, DEFAULT, KIB, MIB, MONOLITHIC, Profile

_SECONDS: Final = 10.0
"""That a chunk should take."""
_UNTRIED: Final = 4 * chunk_sizes.DEFAULT_CHUNK
"""Bytes that a link is taken to carry between two breaks before anything is known of it."""
_PLENTY: Final = 720 * MIB
"""Carried bytes above which the biggest chunks are small: more of them need not be remembered."""
_MOST: Final = 90 * MIB
"""Bytes of a chunk: below the 100 MB that Cloudflare lets through."""
_TELLING: Final = 1 * MIB
"""Bytes of a chunk that says something of the speed; smaller ones measure the registry's answer."""
_FORGET: Final = 0.6
"""Weight of all earlier breaks when one more happens."""
_HELD: Final = 6
"""Chunks in a row that get through before twice their size is tried."""
_NEW: Final = 0.3
"""Weight of the latest chunk's speed."""
_STOPGAPS: Final = frozenset({MONOLITHIC.name, CHUNKED.name})
"""Ways of sending that were learned from refusals."""


@dataclass
class LinkFacts:
    """Shared by all uploads to one registry in a process; sizes in bytes. Thread-safe."""

    profile: str | None = None
    """Name of the profile that an earlier doubt showed the registry to have."""
    max_chunk: int | None = None
    """Largest chunk that no front refused with 413; see ``refused_above``."""
    uplink: float | None = None
    """Bytes a second of one upload, registry's answers included; None before the first chunk."""
    carries: float | None = None
    """Bytes that get through between two breaks of the link; None before the first chunk."""

    breaks: int = 0
    """Breaks of the link in bodies large enough to say something, since it last held for long."""
    cuts: bool = field(default=False, init=False, repr=False)
    """Whether a connection of this process broke while it carried a body of any size: how much a link carries
    is one question, whether a connection should carry more than one request another."""
    limited_here: bool = field(default=False, init=False, repr=False)
    """Whether this process met the limit itself."""
    _carried: float = field(init=False, repr=False)
    _weight: float = field(default=1.0, init=False, repr=False)
    _since: int = field(default=0, init=False, repr=False)
    _unbroken: int = field(default=0, init=False, repr=False)
    _ceiling: int | None = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._carried = self.carries or _UNTRIED

    # --- what uploads tell --------------------------------------------------------------------------------

    def passed(self, size: int, seconds: float) -> None:
        """A chunk of ``size`` bytes was acknowledged after so long."""
        pace = max(seconds, 0.001) / max(size, 1)
        with self._lock:
            self._moved(size)
            faster = self.uplink is not None and pace * self.uplink < 1  # which no chunk is too small to tell
            if size >= _TELLING or (size >= chunk_sizes.LEAST and seconds >= 1) or faster:
                # by the time a byte takes: so that a link that becomes slow is noticed at once
                self.uplink = 1 / (pace if self.uplink is None else pace * _NEW + (1 - _NEW) / self.uplink)

    def broke(self, sent: int, length: int) -> None:
        """The connection broke after ``sent`` bytes of a body of ``length`` bytes.

        A body smaller than any chunk, a config's say, is gone before a link has carried anything: its breaks
        tell of a front or of the registry.
        """
        self.cuts = True
        if length < chunk_sizes.LEAST:
            return
        with self._lock:
            self._moved(sent)
            self.breaks += 1
            self._carried = _FORGET * self._carried + self._since
            self._weight = _FORGET * self._weight + 1
            self._since = self._unbroken = 0
            self.carries = self._carried / self._weight

    def _moved(self, size: int) -> None:
        self._since += size
        self._unbroken += size
        # what has got through since the last break counts at once: chunks of a part of it risk no more
        self.carries = max((self._carried + self._since) / self._weight, self._since)
        if self.carries >= _PLENTY:
            self.carries, self._carried, self._weight, self._since = _PLENTY, _PLENTY, 1.0, 0
            self.breaks = 0
        if self._ceiling is not None and self._unbroken >= _HELD * self._ceiling:
            self._raise_ceiling()

    def retreat(self, tried: int, limits: Limits, sent: int) -> int:
        """Chunks of ``tried`` bytes break again and again, after ``sent`` bytes: the size to go on with.

        It is ``tried`` where there are no smaller chunks that are worth it. Chunks that get through for a
        while, and whole blobs, bring larger ones back.
        """
        size = chunk_sizes.smaller(
            tried, limits, at_most=max(sent // 2, chunk_sizes.LEAST), least=chunk_sizes.LEAST
        )
        if size is None:
            return tried
        with self._lock:
            self._ceiling = min(size, self._ceiling or size)
            self._unbroken = 0
        return size

    def got_through(self) -> None:
        """A whole blob did: dare more with the next one."""
        with self._lock:
            self._raise_ceiling()

    def _raise_ceiling(self) -> None:
        if self._ceiling is not None:
            self._ceiling = 2 * self._ceiling if 2 * self._ceiling < chunk_sizes.DEFAULT_CHUNK else None
        self._unbroken = 0

    def refused_above(self, size: int) -> None:
        """A front refused more than ``size`` bytes, just now."""
        with self._lock:
            self.max_chunk, self.limited_here = size, True

    def allow_more(self) -> None:
        """Try again what was refused long ago: limits are raised, and what answered may have been passing."""
        with self._lock:
            self.max_chunk, self.limited_here = None, False
            if self.profile in _STOPGAPS:
                self.profile = None

    # --- what follows -------------------------------------------------------------------------------------

    @property
    def limited(self) -> bool:
        """Whether something was refused, be it larger chunks or a way of sending."""
        return self.max_chunk is not None or self.profile in _STOPGAPS

    def limit(self, wanted: int | None) -> int | None:
        """Bytes of a chunk that no front refused, None if nothing is known of one. What the user asks for
        goes before what an earlier run met, and not before what this one did."""
        return self.max_chunk if wanted is None or self.limited_here else None

    def first_size(self, wanted: int | None, profile: Profile = DEFAULT) -> int:
        """The chunk size to ask for when a session is opened; ``wanted`` is the user's."""
        with self._lock:
            size = wanted or self._best(profile)
            return size if self._ceiling is None else min(size, self._ceiling)

    def most(self, wanted: int | None, profile: Profile, limits: Limits) -> int:
        """The size up to which the chunks of an open session may grow."""
        with self._lock:
            size = wanted or self._best(profile, part=2)
            return min(size, *(most or size for most in (self._ceiling, self.limit(wanted), limits.largest)))

    def why(self, size: int) -> str:
        """What the link is like that chunks should have ``size`` bytes, for people."""
        with self._lock:
            if self.max_chunk is not None and size + 2 >= self.max_chunk:
                return "larger bodies are refused (413)"
            if self.uplink is not None and self.uplink * _SECONDS < size + MIB:
                return f"an upload gets {self.uplink / MIB:.1f} MiB/s"
            if self.breaks:
                carries = (self.carries or _UNTRIED) / MIB
                return f"the link carries some {carries:.{0 if carries >= 10 else 1}f} MiB between two breaks"
            if self.carries is not None:
                return "the link has held so far"
            return "nothing is known of the link yet"

    def _best(self, profile: Profile, *, part: int = 4) -> int:
        # Where the registry keeps what it has of a broken chunk, a break costs next to nothing.
        dear = profile.whole_chunks or profile.breaks_with_chunk or not profile.tells_offset
        size = (self.carries or _UNTRIED) / (8 if dear else part)
        if self.uplink is not None:
            size = min(size, self.uplink * _SECONDS)
        return _even(min(max(size, chunk_sizes.LEAST), _MOST))


def _even(size: float) -> int:
    """Less, so that big chunks are whole parts of distribution's S3 driver (``DEFAULT_CHUNK``)."""
    step = next(step for step in (chunk_sizes.DEFAULT_CHUNK, MIB, 64 * KIB, 1) if size >= step)
    return int(size // step) * step
