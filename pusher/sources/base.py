"""What every source gives: an image, and its layers as slices or streams."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from pusher.oci.manifest import Manifest

Pinned = dict[str, str | int | None]
"""What a job stores so that its source can be opened again: JSON values, ``kind`` among them, no secret."""


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
    the ``Exported`` pieces under ``config_digest``. ``manifest`` is set where the source has one: its bytes
    are pushed as they are, and ``manifest.layers`` names the blob of each of ``layers``.
    """

    config_digest: str
    layers: tuple[SourceLayer, ...]
    config: bytes | None = None
    manifest: Manifest | None = None
    pinned: Pinned = field(default_factory=dict)


@dataclass(frozen=True)
class Exported:
    """One piece of an export, in the order in which it arrives.

    kind ``layer``: an uncompressed tar; ``name`` is its diff ID if the source knows it before reading, else
    None. kind ``blob``: an already compressed layer or a config with digest ``name``, to be kept as it is.
    ``stream`` gives ``size`` bytes; it is read to its end, or left alone to skip the piece. It is only good
    until the next piece is asked for.
    """

    kind: Literal["layer", "blob"]
    name: str | None
    size: int
    stream: BinaryIO


class Source(Protocol):
    """A place that holds one image, opened from what was typed or from what the job pinned."""

    def own_name(self) -> str | None:
        """The image's own name, for use as the destination; None if it has none.

        May look into the source, and raises what ``resolve`` raises.
        """

    def resolve(self) -> SourceImage:
        """Find the image, read what is small.

        Raises ImageNotFound, ImageAmbiguous, ImageChanged, Archive*, Engine*.
        """

    def export(
        self,
        wanted: Collection[str],
        *,
        skip_sizes: Collection[int] = (),
        check_stop: Callable[[], None] | None = None,
    ) -> AbstractContextManager[Iterator[Exported]]:
        """Read the pieces in one pass.

        ``wanted``: what is still needed, by diff ID (kind ``layer``), by blob digest where the source has a
        manifest, and the config digest. Pieces that are certainly not wanted are not yielded.

        ``skip_sizes``: uncompressed sizes of layers that are known already; a source that learns a layer's
        diff ID only by reading it (Docker before 25) leaves out layers of exactly that many bytes, and the
        caller makes a second pass without this if something is then missing.

        ``check_stop`` is called about once a second while the engine is silent (Docker 25 and later write the
        whole image to disk before the first byte comes); what it raises ends the export.

        Leaving the context early ends the export (the engine's process is stopped).
        """
