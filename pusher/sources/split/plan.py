"""Plan the parts of a layer in one pass, and produce them in another."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Collection, Iterator
from dataclasses import field
from itertools import chain, groupby
from typing import Final, Protocol

from pusher.dataclass import dataclass
from pusher.errors import ArchiveInvalid, ArchiveTruncated, ImageUnsupported, LayerMismatch
from pusher.sources.base import ExportPiece
from pusher.sources.file_range import Joined, open_buffered
from pusher.sources.split.check import Contents, are_the_same
from pusher.sources.split.cut import END, Cutter
from pusher.sources.split.headers import HeaderReader
from pusher.sources.split.layer_plan import LayerPlan, Part
from pusher.sources.split.layer_tars import Read

MAX_LAYERS: Final = 127
"""What engines can mount on each other."""
_MAX_LATE: Final = 64 << 10
"""Bytes of what is late in one layer, compressed, that are stored with a job; more is read again."""


_READ: Final = 1 << 20


class NoRoom(Exception):
    """A part's late chunks exceed the reserve."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class _Packed:
    """Headers, compressed to a tenth or less: they hardly differ."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(9)
        self._packed: list[bytes] = []

    def add(self, data: bytes) -> None:
        self._packed.append(self._packer.compress(data))

    def finish(self) -> bytes:
        return b"".join((*self._packed, self._packer.flush()))


@dataclass
class _Growing:
    """A part while its layer is read."""

    hash: _Hash = field(default_factory=hashlib.sha256)
    size: int = 0
    late: _Packed | None = None
    contents: Contents = field(default_factory=Contents)

    def add(self, data: bytes) -> None:
        self.hash.update(data)
        self.contents.feed(data)
        self.size += len(data)

    def add_late(self, data: bytes) -> None:
        self.add(data)
        self.late = self.late or _Packed()
        self.late.add(data)

    def finish(self) -> tuple[Part, bytes]:
        """Return the part and its late bytes."""
        self.add(END)
        late = self.late.finish() if self.late else b""
        return Part(f"sha256:{self.hash.hexdigest()}", self.size), late


def plan_layer(
    read: Read,
    *,
    limit: int,
    reserve: int,
    name: str | None = None,
    diff_id: str | None = None,
    keep: bool = False,
) -> LayerPlan:
    """Read a layer once and find its parts, of at most ``limit`` bytes each.

    ``diff_id``: the expected one, None if unknown; ``name``: if it has another. ``keep``: keep late bytes
    of any size. Raises NoRoom if ``reserve`` bytes are too few for a part's late bytes, LayerMismatch,
    ImageUnsupported if the parts do not equal the layer, and the errors of ``Cutter.chunks``.
    """
    whole, contents, size = hashlib.sha256(), Contents(), 0

    def read_hashed(count: int) -> bytes:
        nonlocal size
        data = read(count)
        whole.update(data)
        contents.feed(data)
        size += len(data)
        return data

    label = f"layer {diff_id}" if diff_id else "a layer"
    headers = HeaderReader(read_hashed, label)
    parts = [_Growing()]
    for chunk in Cutter(limit, reserve, label).chunks(headers):
        if chunk.part == len(parts):
            if chunk.part == MAX_LAYERS:
                raise too_many_error(f"{label} would become more than {MAX_LAYERS} layers")
            parts.append(_Growing())
        if chunk.late:
            parts[chunk.part].add_late(chunk.data)
        else:
            parts[chunk.part].add(chunk.data)
    headers.finish()
    found = f"sha256:{whole.hexdigest()}"
    if diff_id not in (None, found):
        raise LayerMismatch(
            f"a layer should have diff ID {diff_id}, its bytes have {found}",
            hint="the source is damaged: save or pull the image again",
        )
    finished = [part.finish() for part in parts]
    if not are_the_same(contents, [part.contents for part in parts]):
        raise ImageUnsupported(
            f"{label} cannot be split: its parts would not add up to it",
            hint="this is a bug in pusher, please report it; push the layer whole, without --split-layers, "
            "to a registry that takes larger blobs",
        )
    if any(part.size > limit for part, _ in finished):
        raise NoRoom
    late = tuple(data for _, data in finished)
    return LayerPlan(
        name=name or found,
        diff_id=found,
        size=size,
        reserve=reserve,
        parts=tuple(part for part, _ in finished),
        late=late if keep or sum(map(len, late)) <= _MAX_LATE else None,
    )


def parts_of(plan: LayerPlan, read: Read, *, limit: int, wanted: Collection[str]) -> Iterator[ExportPiece]:
    """Yield the wanted parts of a layer in one pass; ``plan.late`` is known.

    Raises LayerMismatch if the layer differs from the plan; some differences show only in a part's digest.
    """
    last = max(number for number, part in enumerate(plan.parts) if part.diff_id in wanted)
    for number, chunks in groupby(_ordinary(plan, read, limit), lambda chunk: chunk[0]):
        if number >= len(plan.parts):
            break
        part = plan.parts[number]
        if part.diff_id in wanted:
            late = (plan.late or ())[number]
            pieces = chain((data for _, data in chunks), _unpack(late), (END,))
            yield ExportPiece("layer", part.diff_id, part.size, open_buffered(Joined(pieces)))
        if number == last:
            return
    raise changed_error(plan)


def too_many_error(what: str) -> ImageUnsupported:
    """Return the error for parts that are too small."""
    return ImageUnsupported(
        f"{what}, and engines take no image of more than {MAX_LAYERS}", hint="use a larger --split-layers"
    )


def changed_error(plan: LayerPlan) -> LayerMismatch:
    """Return the error for a layer that differs from its plan."""
    return LayerMismatch(
        f"layer {plan.diff_id} is not what it was when its parts were planned",
        hint="enqueue the image again",
    )


def _ordinary(plan: LayerPlan, read: Read, limit: int) -> Iterator[tuple[int, bytes]]:
    try:
        for chunk in Cutter(limit, plan.reserve, plan.name).chunks(HeaderReader(read, plan.name)):
            if not chunk.late:
                yield chunk.part, chunk.data
    except (ArchiveInvalid, ArchiveTruncated, ImageUnsupported) as error:
        raise changed_error(plan) from error


def _unpack(packed: bytes) -> Iterator[bytes]:
    unpacker = zlib.decompressobj()
    while piece := unpacker.decompress(packed, _READ):
        yield piece
        packed = unpacker.unconsumed_tail
