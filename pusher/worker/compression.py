"""Choose the compression of a job's layers: which known blobs can be used, and how to make new ones."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from pusher.config import Settings
from pusher.errors import InvalidOption
from pusher.oci import media_types
from pusher.oci.layer_blob import LayerBlob
from pusher.processors import SpareProcessors
from pusher.progress.format import human_bytes
from pusher.spool.choice import SAMPLE, candidates, choose, measure
from pusher.spool.coders import BLOCK
from pusher.spool.compress import GZIP, Compression, Kind
from pusher.spool.levels import FAST
from pusher.spool.pipeline import Readable, read_block
from pusher.worker.job_link import JobLink, LinkSpeed

KEEP: Final = "keep"
AUTO: Final = "auto"
COMPRESSION_NAMES: Final = (*Kind, KEEP, AUTO)

ZSTD_NOTE: Final = (
    "layers are zstd: containerd 1.5, Docker 23, current Podman, CRI-O and newer pull them; "
    "some scanners and older tools do not"
)

_SPARE: Final = SpareProcessors()
_BUSY: Final = 2 / 3
"""Part of the processors, below which it is said that other programs use them."""

_KINDS: Final[Mapping[str, Kind]] = {
    media_types.OCI_LAYER_GZIP: Kind.GZIP,
    media_types.OCI_LAYER_ZSTD: Kind.ZSTD,
    media_types.OCI_LAYER: Kind.NONE,
}


@dataclass(frozen=True)
class RequestedCompression:
    """The compression that was asked for, for layers that have no final blob yet."""

    name: str
    """One of ``COMPRESSION_NAMES``."""
    compression: Compression | None
    """For new blobs; None: chosen for each (``auto``)."""
    threads: int | None = None
    """Threads that compress one layer; None: one for each processor."""
    follows_link: bool = False
    """Whether the level is to fit the link; that of ``compression`` is for links not known."""

    @classmethod
    def for_job(cls, options: Mapping[str, object], settings: Settings) -> RequestedCompression:
        """Return the job's compression, or the settings'. Raises InvalidOption."""
        name = str(options.get("compression") or settings.compression)
        level = options.get("compression_level")
        # the level in the settings is for the kind in the settings
        if level is None and _new_blob_kind(name) is _new_blob_kind(settings.compression):
            level = settings.compression_level
        return cls.parse(name, None if level is None else int(str(level)), settings.compression_threads)

    @classmethod
    def parse(cls, name: str, level: int | None, threads: int | None = None) -> RequestedCompression:
        """Check a name and a level. Raises InvalidOption."""
        if name not in COMPRESSION_NAMES:
            raise InvalidOption(
                f"{name!r} is not a compression",
                hint=f"use --compression {', '.join(COMPRESSION_NAMES[:-1])} or {AUTO}",
            )
        if name == AUTO:
            if level is not None:
                raise InvalidOption(
                    "compression auto chooses its level itself",
                    hint="leave out --compression-level, or use --compression gzip or zstd",
                )
            return cls(name, None, threads)
        kind = _new_blob_kind(name) or Kind.GZIP
        follows_link = kind is Kind.GZIP and level is None
        return cls(name, Compression.of(kind, level, threads), threads, follows_link)

    @property
    def is_explicit(self) -> bool:
        """Return whether one kind was set explicitly, so that no other is accepted."""
        return self.name in tuple(Kind)

    def accepts(self, media_type: str) -> bool:
        """Return whether a blob with this media type, already at the tag, can be used."""
        kind = compression_kind(media_type)
        return kind is not None and (not self.is_explicit or kind == self.name)

    def usable_blobs(self, diff_id: str, known: Iterable[LayerBlob]) -> list[LayerBlob]:
        """Return the known blobs that can be used for a layer.

        Any level of a kind is good enough. The digest of an uncompressed layer is its diff ID.
        """
        if self.compression is None:
            return [blob for blob in known if compression_kind(blob.media_type)]
        kind = self.compression.kind
        if kind is not Kind.NONE:
            return [blob for blob in known if compression_kind(blob.media_type) is kind]
        sizes = [blob.uncompressed_size for blob in known if blob.uncompressed_size is not None]
        made = self.compression
        return [LayerBlob(diff_id, size, made.label, made.media_type, diff_id, size) for size in sizes[:1]]


def compression_kind(media_type: str) -> Kind | None:
    """Return how a layer's blob is compressed; None if it is not an ordinary layer."""
    return _KINDS.get(media_types.TO_OCI.get(media_type, ""))


def _new_blob_kind(name: str) -> Kind | None:
    """Return the kind for new blobs; None for ``auto``."""
    return Kind.GZIP if name == KEEP else next((kind for kind in Kind if kind == name), None)


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
        self._chosen.append((chosen, speed))
        return chosen, stream

    def _fit(self, asked: Compression, speed: LinkSpeed, spare: float) -> Compression:
        chosen = replace(asked, level=self._link.choose_level(speed, spare, asked.workers))
        if not self._chosen or self._chosen[-1][0] != chosen:
            busy = "" if spare >= _BUSY * asked.workers else ", and other programs use the processors"
            far = ""
            if speed.rate is None and not speed.elsewhere and speed.response_seconds and chosen.level != FAST:
                far = f", but responses take {round(1000 * speed.response_seconds)} ms"
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

    def summary(self) -> str | None:
        """Return what was chosen and why; None if there was nothing to choose, or only the usual level."""
        if not self._chosen:
            return None
        if self._requested.follows_link:
            return self._describe_levels()
        _, speed = self._chosen[-1]
        if speed.rate is None:
            return f"compression: {GZIP}, as the speed of the link is not yet known"
        counts = Counter(str(compression) for compression, _ in self._chosen)
        said = ", ".join(f"{name} for {_layers(count)}" for name, count in counts.most_common())
        return f"compression: {said}, which arrives first at {human_bytes(round(speed.rate))}/s"

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


def _layers(count: int) -> str:
    return f"{count} layer" + ("s" if count != 1 else "")


class _Rejoined:
    """A stream that first returns the part already read."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head = io.BytesIO(head)
        self._rest = rest

    def read(self, size: int, /) -> bytes:
        return self._head.read(size) or self._rest.read(size)
