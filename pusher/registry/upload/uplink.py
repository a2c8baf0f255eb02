"""Estimate the link to a registry: its speed, the bytes between two breaks, the limits on bodies.

The chunk size follows from it. A chunk should take about ten seconds, so that there are few requests and
little is in flight. And it should be a fraction of what the link carries between two breaks: a break in a
chunk of ``c`` bytes loses half of it, so with a break every ``D`` bytes and nothing kept of a broken chunk,
``c / 2D`` of the traffic is waste; up to ``c / D`` where the breaks come regularly, because the last chunk
before each never gets through. An eighth costs no more than more requests would on a usual link.

Where a response takes longer than the bytes of a small chunk, small chunks cost more than breaks do. With
``w`` bytes that the link could carry while waiting for a response, the best size is then the square root of
``2wD``, as for checkpoints (J. W. Young, https://doi.org/10.1145/361147.361115); never over ``D / 2``. On a
link that has not broken yet chunks grow further, until waiting is a fiftieth of the time. Where a break costs
the same in a larger chunk, they then take up to twenty seconds.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import field
from typing import Final

from pusher.dataclass import dataclass
from pusher.registry.upload import chunk_sizes
from pusher.registry.upload.chunk_sizes import Limits
from pusher.registry.upload.link_rate import LinkRate
from pusher.registry.upload.profiles import CHUNKED, DEFAULT, KIB, MIB, MONOLITHIC, Profile
from pusher.units import human_bytes

_SECONDS: Final = 10.0
"""Seconds that a chunk should take."""
_MOST_SECONDS: Final = 20.0
"""The same on a link that has not broken, where a break costs the same in a larger chunk. A stop waits for
the chunk, and load balancers that limit the time of a whole request allow 30 s by default
(https://cloud.google.com/load-balancing/docs/backend-service#timeout-setting)."""
_UNTRIED: Final = 4 * chunk_sizes.DEFAULT_CHUNK
"""Bytes between two breaks that are assumed for an unknown link."""
_MAX_BETWEEN_BREAKS: Final = 720 * MIB
"""Limit of the stored bytes between breaks: the largest chunks are small compared with it."""
_WAITING: Final = 0.02
"""Part of its time that a chunk should wait for its response at most, on a link that has not broken."""
_MOST: Final = 90 * MIB
"""Bytes of a chunk: below the 100 MB that Cloudflare lets through."""
_MAX_WAITED_FOR: Final = 4 * _MOST
"""Bytes of a chunk where smaller ones would wait for too long."""
_MEASURABLE: Final = 1 * MIB
"""Bytes of a chunk that measures the speed; smaller ones measure the response time."""
_WORTH: Final = 2 / 3
"""Give up a session for larger chunks if they need at most this part of the remaining time."""
_SAVES: Final = 2.0
"""Seconds that larger chunks must save."""
_PROBING: Final = 0.002
"""Part of the remaining time that it may take to find out what the registry keeps of a broken chunk."""
_EARLIER_BREAKS_WEIGHT: Final = 0.6
"""Weight of all earlier breaks when one more happens."""
_HELD: Final = 6
"""Chunks in a row that get through before twice their size is tried."""
_LATEST_WEIGHT: Final = 0.3
"""Weight of the latest chunk's speed."""
_SAME_BREAK: Final = 1.0
"""Seconds after a break in which it reaches the other connections."""
_STABLE: Final = 64 * MIB
"""Bytes without a break after which several uploads may be sent again where a break restarts each of them."""
_STABLE_GAPS: Final = 4
"""The same in numbers of the bytes between two breaks, if that is more."""
_STOPGAPS: Final = frozenset({MONOLITHIC.name, CHUNKED.name})
"""Profiles learned from refusals."""


@dataclass
class LinkEstimate:
    """Shared by all uploads to one registry in a process; sizes in bytes. Thread-safe."""

    profile: str | None = None
    """Name of the profile that an interrupted chunk revealed."""
    max_chunk: int | None = None
    """Largest chunk that was not refused with 413; see ``record_refusal``."""
    uplink: float | None = None
    """Bytes a second of one upload, response times included; None before the first chunk."""
    carries: float | None = None
    """Bytes that get through between two breaks of the link; None before the first chunk."""

    breaks: int = 0
    """Breaks of the link in large bodies, since it was last stable for long."""
    rate: LinkRate = field(default_factory=LinkRate, repr=False, compare=False)
    """The rate of all uploads together."""
    answer_seconds: float | None = field(default=None, init=False, repr=False)
    """Seconds from a chunk's last byte to its response; None before the first chunk."""
    byte_seconds: float | None = field(default=None, init=False, repr=False)
    """Seconds that a byte takes without the response time; None before the first chunk."""
    round_trip: float | None = field(default=None, init=False, repr=False)
    """Seconds that a response to a request without a body takes at least; None if that is not known."""
    breaks_connections: bool = field(default=False, init=False, repr=False)
    """Whether a connection broke inside a body of any size; see ``closes_connections``."""
    limited_here: bool = field(default=False, init=False, repr=False)
    """Whether this process met the limit itself."""
    _carried: float = field(init=False, repr=False)
    _weight: float = field(default=1.0, init=False, repr=False)
    _since: int = field(default=0, init=False, repr=False)
    _unbroken: int = field(default=0, init=False, repr=False)
    _has_held: bool = field(default=False, init=False, repr=False)
    """Whether the link has held for long since the last break."""
    _ceiling: int | None = field(default=None, init=False, repr=False)
    _gaps: list[int] = field(default_factory=list, init=False, repr=False)
    """Bytes carried before each recent break in this process."""
    _broke_at: float = field(default=-math.inf, init=False, repr=False, compare=False)
    """When the link last broke in a large body (``time.monotonic``)."""
    _has_lost_uploads: bool = field(default=False, init=False, repr=False)
    """Whether a break has cost a whole session in this process."""
    _is_probed: bool = field(default=False, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._carried = self.carries or _UNTRIED
        self.breaks_connections = self.breaks > 0

    # --- what uploads report ------------------------------------------------------------------------------

    def record_chunk(self, size: int, seconds: float, answer: float | None = None) -> None:
        """Record that a chunk of ``size`` bytes was acknowledged after so many seconds; ``answer``: those
        after its last byte."""
        self.rate.record_chunk(size, seconds)
        pace = max(seconds, 0.001) / max(size, 1)
        with self._lock:
            self._count_bytes(size)
            if answer is not None and size >= chunk_sizes.LEAST:
                self.answer_seconds = _average(self.answer_seconds, answer)
                self.byte_seconds = _average(self.byte_seconds, max(seconds - answer, 0.001) / size)
            faster = self.uplink is not None and pace * self.uplink < 1  # even a small chunk shows this
            if size >= _MEASURABLE or (size >= chunk_sizes.LEAST and seconds >= 1) or faster:
                # averaged by seconds a byte, so that a link that becomes slow is noticed at once
                self.uplink = 1 / _average(self.uplink and 1 / self.uplink, pace)

    def record_break(self, sent: int, length: int, seconds: float = 0.0) -> None:
        """Record that the connection broke after ``sent`` bytes of a body of ``length`` bytes, ``seconds``
        after the first one.

        A break in a body smaller than any chunk, such as a config, is a fault of an intermediary or the
        registry, not of the link. Connections that were in use together and break together are one break.
        """
        self.breaks_connections, self._has_held = True, False
        if length < chunk_sizes.LEAST:
            return
        now = time.monotonic()
        with self._lock:
            if now - seconds < self._broke_at and now - self._broke_at <= _SAME_BREAK and self._gaps:
                self._gaps[-1] += sent
                self._carried += sent
                self.carries = max(self._carried / self._weight, self._since)
                return
            self._broke_at = now
            self._count_bytes(sent)
            self.breaks, self._has_held = self.breaks + 1, False
            self._gaps = [*self._gaps[-9:], self._since]
            self._carried = _EARLIER_BREAKS_WEIGHT * self._carried + self._since
            self._weight = _EARLIER_BREAKS_WEIGHT * self._weight + 1
            self._since = self._unbroken = 0
            self.carries = self._carried / self._weight

    def record_lost_upload(self) -> None:
        """Record that a break has cost a whole session, of which the registry keeps nothing."""
        self._has_lost_uploads = True

    @property
    def needs_lone_upload(self) -> bool:
        """Return whether large blobs should be sent one at a time: each break restarts all that are being
        sent, and the link has not been stable for long since the last one."""
        with self._lock:
            if not (self._has_lost_uploads and self.breaks and self._gaps):
                return False
            return self._since < max(_STABLE, _STABLE_GAPS * sum(self._gaps) / len(self._gaps))

    def _count_bytes(self, size: int) -> None:
        self._since += size
        self._unbroken += size
        # bytes carried since the last break count at once: chunks of a part of it risk no more; where breaks
        # come regularly, the next one comes sooner the more was carried
        carried = self._carried if self.breaks else self._carried + self._since
        self.carries = max(carried / self._weight, self._since)
        if self.carries >= _MAX_BETWEEN_BREAKS:
            self.carries, self._carried, self._weight, self._since = (
                _MAX_BETWEEN_BREAKS,
                _MAX_BETWEEN_BREAKS,
                1.0,
                0,
            )
            self.breaks, self._has_held = 0, True
        if self._ceiling is not None and self._unbroken >= _HELD * self._ceiling:
            self._raise_ceiling()

    def closes_connections(self, profile: Profile) -> bool:
        """Return whether each chunk gets a new connection, since one broke: until the link has held for long,
        and always where a break may cost the session, as it may come after a number of bytes."""
        return self.breaks_connections and not (self._has_held and not profile.may_restart)

    def lower_ceiling(self, tried: int, limits: Limits, sent: int) -> int:
        """Return the next chunk size after chunks of ``tried`` bytes repeatedly broke after ``sent`` bytes.

        It is ``tried`` where smaller chunks are not accepted or not worth it. Several successful chunks, and
        complete blobs, raise the ceiling again.
        """
        size = chunk_sizes.smaller_size(
            tried, limits, at_most=max(sent // 2, chunk_sizes.LEAST), least=chunk_sizes.LEAST
        )
        if size is None:
            return tried
        with self._lock:
            self._ceiling = min(size, self._ceiling or size)
            self._unbroken = 0
        return size

    def record_blob(self) -> None:
        """Record a complete blob: the next one tries larger chunks."""
        with self._lock:
            self._raise_ceiling()

    def _raise_ceiling(self) -> None:
        if self._ceiling is not None:
            self._ceiling = 2 * self._ceiling if 2 * self._ceiling < chunk_sizes.DEFAULT_CHUNK else None
        self._unbroken = 0

    def record_refusal(self, size: int) -> None:
        """Record that more than ``size`` bytes were refused (413) just now."""
        with self._lock:
            self.max_chunk, self.limited_here = size, True

    def forget_refusals(self) -> None:
        """Forget old refusals: limits are raised, and the cause may have been temporary."""
        with self._lock:
            self.max_chunk, self.limited_here = None, False
            if self.profile in _STOPGAPS:
                self.profile = None

    # --- probing ------------------------------------------------------------------------------------------

    def begin_probe(self) -> bool:
        """Return whether no other upload is finding out what the registry keeps of a broken chunk; the caller
        then does, and calls ``end_probe``."""
        with self._lock:
            free, self._is_probed = not self._is_probed, True
            return free

    def end_probe(self) -> None:
        """Record the end of a probe, whether it found something or not."""
        with self._lock:
            self._is_probed = False

    # --- sizes --------------------------------------------------------------------------------------------

    @property
    def is_limited(self) -> bool:
        """Return whether larger chunks or a way of sending were refused."""
        return self.max_chunk is not None or self.profile in _STOPGAPS

    @property
    def is_quiet(self) -> bool:
        """Return whether chunks were sent in this process, and the link has not broken."""
        return self.byte_seconds is not None and not self.breaks

    def accepted_size(self, wanted: int | None) -> int | None:
        """Return the largest chunk that was not refused, None if none was. The user's choice overrides what
        an earlier run learned, but not what this one did."""
        return self.max_chunk if wanted is None or self.limited_here else None

    def first_size(
        self, wanted: int | None, profile: Profile = DEFAULT, *, is_unfinished: bool = False
    ) -> int:
        """Return the chunk size for a new session; ``wanted`` is the user's.

        ``is_unfinished``: its blob is still being compressed. Then the first chunk need not be large, as it
        waits for the compressor rather than for responses, and the next ones have what is there by then.
        """
        with self._lock:
            size = wanted or self._best_size(profile)
            if is_unfinished and wanted is None and not profile.equal_chunks:
                size = min(size, chunk_sizes.DEFAULT_CHUNK)
            return size if self._ceiling is None else min(size, self._ceiling)

    def largest_size(
        self, wanted: int | None, profile: Profile, limits: Limits, *, is_last: bool = False
    ) -> int:
        """Return the size up to which the chunks of an open session may grow, or that of the last one, which
        need not be even."""
        with self._lock:
            size = wanted or self._best_size(profile, is_open=True, is_even=not is_last)
            return min(
                size, *(most or size for most in (self._ceiling, self.accepted_size(wanted), limits.largest))
            )

    def pays_to_restart(self, offset: int, total: int, size: int, larger: int) -> bool:
        """Return whether to give up a session that holds ``offset`` bytes of ``total``, because the whole
        blob in chunks of ``larger`` bytes takes far less time than the rest in chunks of ``size`` bytes."""
        with self._lock:
            if self.byte_seconds is None or self.answer_seconds is None or larger <= size:
                return False
            left = (total - offset) * (self.byte_seconds + self.answer_seconds / size)
            again = self.answer_seconds + total * (self.byte_seconds + self.answer_seconds / larger)
            return again < _WORTH * left and left - again >= _SAVES

    def pays_to_grow(self, offset: int, total: int, size: int, failures: int) -> bool:
        """Return whether to try chunks of twice ``size`` bytes although ``failures`` of them have cost a
        session: whether they save more than another break would cost."""
        with self._lock:
            if self.byte_seconds is None or self.answer_seconds is None:
                return False
            chunks_left, chunks_held = (total - offset) / size, offset / size
            return chunks_left * self.answer_seconds / 2 > failures * chunks_held * (
                self.answer_seconds + size * self.byte_seconds
            )

    def pays_to_probe(self, left: int) -> bool:
        """Return whether the ``left`` bytes of a blob take so long that one more request does not count."""
        with self._lock:
            if self.byte_seconds is None or self.answer_seconds is None:
                return True
            return self.answer_seconds <= _PROBING * left * self.byte_seconds

    def describe(self, size: int) -> str:
        """Return, for people, why chunks have ``size`` bytes on this link."""
        with self._lock:
            if self.max_chunk is not None and size + 2 >= self.max_chunk:
                return "larger bodies are refused (413)"
            if self.uplink is not None and self.uplink * _SECONDS < size + MIB:
                return f"an upload gets {human_bytes(self.uplink)}/s"
            if self.breaks:
                return self._describe_breaks()
            if self.carries is not None:
                return "the link has held so far"
            return "nothing is known of the link yet"

    def _describe_breaks(self) -> str:
        if self.breaks == 1:
            return "the link broke once"
        gaps = self._gaps[1:]  # the bytes before the first break of this process are not known
        if not gaps:
            return f"the link broke {self.breaks} times"
        gap = sum(gaps) / len(gaps) / MIB
        between = f"some {gap:.{0 if gap >= 10 else 1}f} MiB between two breaks"
        return f"the link broke {self.breaks} times, with {between}"

    def _bytes_waited(self) -> float | None:
        """Return how many bytes the link could carry while a chunk waits for its response.

        Before the first chunk on a link that has not broken, this follows from other responses and the speed
        of earlier processes.
        """
        if self.byte_seconds is not None and self.answer_seconds is not None:
            return self.answer_seconds / self.byte_seconds
        if self.uplink is not None and self.round_trip is not None and not self.breaks:
            return self.round_trip * self.uplink
        return None

    def _best_size(self, profile: Profile, *, is_open: bool = False, is_even: bool = True) -> int:
        """Return the best size for a new session's chunks or, ``is_open``, for the next chunk of one;
        ``is_even``: rounded."""
        # Where the registry keeps part of a broken chunk, a break costs next to nothing. Where it restarts
        # the blob, all sizes cost the same until the link breaks; then small chunks may get through.
        dear = profile.whole_chunks or not profile.reports_offset
        dear = dear or (profile.breaks_with_chunk and (self.breaks > 0 or self.carries is None))
        carries = self.carries or _UNTRIED
        size, most, bound = carries / (8 if dear else 2 if is_open else 4), float(_MOST), carries / 2
        seconds = _SECONDS
        if waiting := self._bytes_waited():
            best = math.sqrt(2 * waiting * carries)
            if not self.breaks:
                best = max(best, waiting / _WAITING)
                most = max(most, min(waiting / _WAITING, _MAX_WAITED_FOR))
                if is_open and profile.has_fixed_break_cost:
                    best = bound = most  # a break costs no more in a larger chunk
                    seconds = _MOST_SECONDS
            size = max(size, min(best, bound))
        if self.uplink is not None:
            size = min(size, self.uplink * seconds)
        size = min(max(size, chunk_sizes.LEAST), most)
        return _even(size) if is_even else int(size)


def _average(before: float | None, latest: float) -> float:
    return latest if before is None else _LATEST_WEIGHT * latest + (1 - _LATEST_WEIGHT) * before


def _even(size: float) -> int:
    """Round down so that large chunks are a multiple of the part size of distribution's S3 driver
    (``DEFAULT_CHUNK``)."""
    step = next(step for step in (chunk_sizes.DEFAULT_CHUNK, MIB, 64 * KIB, 1) if size >= step)
    return int(size // step) * step
