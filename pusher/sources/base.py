"""What every source gives: an image, and its layers as slices or streams."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from pusher.oci.manifest import Manifest


@dataclass(frozen=True)
class Slice:
    """Final bytes of a blob that already lie on disk; uploaded from there without a copy.

    ``offset`` and ``length`` are in bytes. ``digest`` is what these bytes must hash to.
    """

    path: Path
    offset: int
    length: int
    digest: str


@dataclass(frozen=True)
class SourceLayer:
    """One layer as the source knows it before anything is read.

    ``diff_id`` is the digest of the uncompressed tar. ``slice`` is set where the final bytes lie on disk.
    ``media_type`` is set where a layer's blob exists already (slice, or a manifest that names it).
    """

    diff_id: str
    media_type: str | None = None
    slice: Slice | None = None


@dataclass(frozen=True)
class SourceImage:
    """An image as resolved: small, read without exporting anything.

    ``config`` is None where the engine does not give the exact bytes without an export; it then arrives among
    the ``ExportedBlob``s. ``manifest`` is set where the source has one: its bytes are pushed as they are.
    """

    config_digest: str
    layers: tuple[SourceLayer, ...]
    config: bytes | None = None
    manifest: Manifest | None = None
    pinned: dict[str, str | int | None] = field(default_factory=dict)
    """What is stored with the job so that the source can be opened again: JSON values, no secret."""


@dataclass(frozen=True)
class Exported:
    """One piece of an export, in the order in which it arrives.

    kind ``layer``: an uncompressed tar; ``name`` is its diff ID if the source knows it before reading, else
    None. kind ``blob``: an already compressed layer, config or manifest whose digest is ``name``, to be kept as
    it is. ``stream`` gives ``size`` bytes; it is read to its end, or left alone to skip the piece.
    """

    kind: str
    name: str | None
    size: int
    stream: BinaryIO


class Source(Protocol):
    """A place that holds one image, opened from what the job pinned."""

    def resolve(self) -> SourceImage:
        """Find the image, read what is small.

        Raises ImageNotFound, ImageAmbiguous, ImageChanged, Archive*, Engine*.
        """

    def export(
        self, wanted: Collection[str], *, skip_sizes: Collection[int] = ()
    ) -> AbstractContextManager[Iterator[Exported]]:
        """Read the pieces in one pass. ``wanted``: diff IDs and digests still needed.

        Pieces that are certainly not wanted are not yielded. ``skip_sizes``: uncompressed sizes of layers that
        are known already; a source that learns a layer's diff ID only by reading it leaves out entries of
        exactly that many bytes (the caller makes a second pass without this if something is then missing).
        Leaving the context early ends the export (the engine's process is stopped).
        """
