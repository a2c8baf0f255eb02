"""Choose the compression of each new blob of a job."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from pusher.dataclass import dataclass
from pusher.processors import SpareProcessors
from pusher.spool.blocks import BLOCK, Readable, read_block
from pusher.spool.choice import SAMPLE, candidates, choose, measure
from pusher.spool.compress import Compression, Kind
from pusher.spool.levels import FAST
from pusher.units import human_bytes
from pusher.worker.compression import RequestedCompression
from pusher.worker.job_link import JobLink

_SPARE: Final = SpareProcessors()
_BUSY: Final = 2 / 3
"""Part of the processors, below which it is said that other programs use them."""


@dataclass(frozen=True)
class _Choice:
    """The compression of one layer, and why it has that."""

    compression: Compression
    reason: str
    is_begun: bool = False
    """Whether it is that of an upload that was begun before."""
    is_usual: bool = False
    """Whether it is not worth a word in the summary."""

    @property
    def label(self) -> str:
        """What makes it another choice than the one before."""
        return f"{self.compression}{', begun' if self.is_begun else ''}"


class CompressionChooser:
    """Chooses the compression of each new blob of one job: the one that was set, a gzip level that fits the
    link, or, for ``auto``, what measuring the beginning of each layer shows."""

    def __init__(
        self,
        requested: RequestedCompression,
        link: JobLink,
        on_change: Callable[[str], None] = lambda text: None,  # noqa: ARG005
    ) -> None:
        """``on_change`` gets a sentence whenever the choice is another one than that of the layer before."""
        _SPARE.begin()
        self._requested = requested
        self._link = link
        self._on_change = on_change
        self._choices: list[_Choice] = []

    def choose(self, stream: Readable) -> tuple[Compression, Readable]:
        """Return the compression for a layer, and the stream to read it from. Raises StoreError."""
        asked = self._requested.compression
        if asked is None:
            return self._measure_layer(stream)
        return (self._fit_link(asked) if self._requested.follows_link else self._obey(asked)), stream

    def keep_begun(self, text: str | None) -> Compression | None:
        """Return the compression with this ``str()``, at which the upload of a layer was begun, for the same
        layer; None if another one was asked for since then."""
        kind, _, level = (text or "").partition(" ")
        if kind not in tuple(Kind) or not level.isdecimal():
            return None
        begun = Compression.of(Kind(kind), int(level), self._requested.threads)
        asked = self._requested.compression
        if asked is not None and not self._requested.follows_link:
            return self._obey(asked) if begun == asked else None
        if asked is not None and begun.kind is not asked.kind:
            return None
        return self._record(
            _Choice(begun, "the upload was begun with it", is_begun=True, is_usual=begun == asked)
        )

    def _obey(self, asked: Compression) -> Compression:
        if asked.kind is Kind.NONE:
            return asked
        reason = self._requested.level_reason
        return self._record(_Choice(asked, reason or f"the default of {asked.kind}", is_usual=reason is None))

    def _fit_link(self, asked: Compression) -> Compression:
        spare = _SPARE.count(asked.workers)
        speed = self._link.speed(spare / asked.workers)
        chosen = replace(asked, level=self._link.choose_level(speed, spare, asked.workers))
        busy = "" if spare >= _BUSY * asked.workers else ", and other programs use the processors"
        far = ""
        if speed.rate is None and not speed.elsewhere and speed.response_seconds and chosen.level != FAST:
            far = f", but responses take at least {round(1000 * speed.response_seconds)} ms"
        return self._record(_Choice(chosen, str(speed), is_usual=chosen.level == FAST), f"{far}{busy}")

    def _measure_layer(self, stream: Readable) -> tuple[Compression, Readable]:
        speed = self._link.speed()
        chosen, reason = Compression.of(Kind.GZIP, threads=self._requested.threads), str(speed)
        if speed.rate is not None:
            chosen, stream = self._measure(stream, speed.rate)
            reason = f"it arrives first at {human_bytes(round(speed.rate))}/s"
        return self._record(_Choice(chosen, reason)), stream

    def _record(self, choice: _Choice, detail: str = "") -> Compression:
        """Record the choice, and report it if it is another one; ``detail`` is for the log alone."""
        if not self._choices or self._choices[-1].label != choice.label:
            self._on_change(f"{_describe(choice.compression, 'compressing')}: {choice.reason}{detail}")
        self._choices.append(choice)
        return choice.compression

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
        return frozenset(choice.label for choice in self._choices)

    def summary(self) -> str | None:
        """Return what was chosen and why; None if there was nothing to choose, or only what is usual."""
        if all(choice.is_usual for choice in self._choices):
            return None
        counts = Counter(choice.label for choice in self._choices)
        latest = {choice.label: choice for choice in self._choices}
        said = {
            label: f"{_describe(one.compression, 'compressed')}: {one.reason}"
            for label, one in latest.items()
        }
        if len(said) == 1:
            return "".join(said.values())
        return "; ".join(f"{_layers(counts[label])} {text}" for label, text in said.items())


def _describe(compression: Compression, verb: str) -> str:
    """Return for example "compressing with gzip level 9"; ``verb`` is that of the sentence."""
    if compression.kind is Kind.NONE:
        return f"not {verb}"
    return f"{verb} with {compression.kind} level {compression.level}"


def _layers(count: int) -> str:
    return f"{count} layer" + ("s" if count != 1 else "")


class _Rejoined:
    """A stream that first returns the part already read."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head = io.BytesIO(head)
        self._rest = rest

    def read(self, size: int, /) -> bytes:
        return self._head.read(size) or self._rest.read(size)
