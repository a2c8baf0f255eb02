"""Choose the compression of each new blob of a job."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from pusher.processors import SpareProcessors
from pusher.spool.blocks import BLOCK, Readable, read_block
from pusher.spool.choice import SAMPLE, candidates, choose, measure
from pusher.spool.compress import GZIP, Compression, Kind
from pusher.spool.levels import FAST
from pusher.units import human_bytes
from pusher.worker.compression import RequestedCompression
from pusher.worker.job_link import JobLink, LinkSpeed

_SPARE: Final = SpareProcessors()
_BUSY: Final = 2 / 3
"""Part of the processors, below which it is said that other programs use them."""


class CompressionChooser:
    """Chooses the compression of each new blob of one job: a gzip level that fits the link, or, for ``auto``,
    what measuring the beginning of each layer shows."""

    def __init__(
        self,
        requested: RequestedCompression,
        link: JobLink,
        on_change: Callable[[str], None] = lambda text: None,  # noqa: ARG005
    ) -> None:
        """``on_change`` gets a sentence whenever the level is another one than that of the layer before."""
        _SPARE.begin()
        self._requested = requested
        self._link = link
        self._on_change = on_change
        self._chosen: list[tuple[Compression, LinkSpeed]] = []

    def choose(self, stream: Readable) -> tuple[Compression, Readable]:
        """Return the compression for a layer, and the stream to read it from. Raises StoreError."""
        asked = self._requested.compression
        if asked is not None and not self._requested.follows_link:
            return asked, stream
        if asked is not None:
            spare = _SPARE.count(asked.workers)
            speed = self._link.speed(spare / asked.workers)
            chosen = self._fit(asked, speed, spare)
        else:
            speed = self._link.speed()
            chosen = Compression.of(Kind.GZIP, threads=self._requested.threads)
            if speed.rate is not None:
                chosen, stream = self._measure(stream, speed.rate)
            if not self._chosen or self._chosen[-1][0] != chosen:
                self._on_change(f"compressing with {chosen}, {_explain(speed)}")
        self._chosen.append((chosen, speed))
        return chosen, stream

    def _fit(self, asked: Compression, speed: LinkSpeed, spare: float) -> Compression:
        chosen = replace(asked, level=self._link.choose_level(speed, spare, asked.workers))
        if not self._chosen or self._chosen[-1][0] != chosen:
            busy = "" if spare >= _BUSY * asked.workers else ", and other programs use the processors"
            far = ""
            if speed.rate is None and not speed.elsewhere and speed.response_seconds and chosen.level != FAST:
                far = f", but responses take at least {round(1000 * speed.response_seconds)} ms"
            self._on_change(f"compressing with gzip level {chosen.level}: {speed}{far}{busy}")
        return chosen

    def parse(self, text: str | None) -> Compression | None:
        """Return the compression with this ``str()``, at which a layer was begun; None if another one was
        asked for since then."""
        kind, _, level = (text or "").partition(" ")
        if kind not in tuple(Kind) or not level.isdecimal():
            return None
        begun = Compression.of(Kind(kind), int(level), self._requested.threads)
        asked = self._requested.compression
        if asked is None or begun == asked:
            return begun
        if not self._requested.follows_link or begun.kind is not asked.kind:
            return None
        self._on_change(f"compressing with gzip level {begun.level}, with which the upload was begun")
        return begun

    def _measure(self, stream: Readable, uplink: float) -> tuple[Compression, Readable]:
        head = read_block(stream, SAMPLE)
        tried = candidates(uplink, self._requested.threads)
        chosen = tried[0]
        if len(head) >= BLOCK:  # else it makes no difference
            chosen = choose(measure(head, tried), uplink).compression
        return chosen, _Rejoined(head, stream)

    @property
    def chosen(self) -> frozenset[str]:
        """Return the kinds and levels that were chosen."""
        return frozenset(str(compression) for compression, _ in self._chosen)

    def summary(self) -> str | None:
        """Return what was chosen and why; None if there was nothing to choose, or only the usual level."""
        if not self._chosen:
            return None
        if self._requested.follows_link:
            return self._describe_levels()
        _, speed = self._chosen[-1]
        if speed.rate is None:
            return f"compression: {GZIP}, {_explain(speed)}"
        counts = Counter(str(compression) for compression, _ in self._chosen)
        said = ", ".join(f"{name} for {_layers(count)}" for name, count in counts.most_common())
        return f"compression: {said}, {_explain(speed)}"

    def _describe_levels(self) -> str | None:
        counts = Counter(compression.level for compression, _ in self._chosen)
        if set(counts) == {FAST}:
            return None
        speeds = {compression.level: speed for compression, speed in self._chosen}  # the latest of each level
        if len(counts) == 1:
            return "".join(f"compressed with gzip level {level}: {speed}" for level, speed in speeds.items())
        return "; ".join(
            f"{_layers(count)} compressed with gzip level {level}: {speeds[level]}"
            for level, count in counts.items()
        )


def _explain(speed: LinkSpeed) -> str:
    if speed.rate is None:
        return "as the speed of the link is not yet known"
    return f"which arrives first at {human_bytes(round(speed.rate))}/s"


def _layers(count: int) -> str:
    return f"{count} layer" + ("s" if count != 1 else "")


class _Rejoined:
    """A stream that first returns the part already read."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head = io.BytesIO(head)
        self._rest = rest

    def read(self, size: int, /) -> bytes:
        return self._head.read(size) or self._rest.read(size)
