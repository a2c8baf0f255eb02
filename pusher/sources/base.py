"""Define the interface of sources: an image, and its layers as files or streams."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, BinaryIO, Final, Literal, Protocol

from pusher.dataclass import dataclass
from pusher.oci.document import Document
from pusher.oci.draft import Draft
from pusher.oci.manifest import Descriptor, Manifest
from pusher.oci.platform import Platform
from pusher.registry.http.body import BlobFile

Json = Mapping[str, Any]
"""An object of JSON values."""


class Pin(Protocol):
    """What a job stores so that its source can be opened again; see ``pusher.sources.pins``."""

    @property
    def kind(self) -> str:
        """Return IMAGE's prefix, or another name."""

    def to_json(self) -> dict[str, Any]:
        """Return the pin as JSON values, with ``kind``, without secrets."""


@dataclass(frozen=True)
class SourceLayer:
    """One layer as the source knows it before anything is read, or another blob of an image with manifests.

    ``diff_id`` is the digest of the uncompressed tar, None where it is not known or the blob is not a layer.
    ``blob`` is set where the final bytes exist, ``file`` where they are on disk. Unless these were unpacked
    and ``compared``, and no program can read anything else in them, the diff ID is only the image's claim.
    """

    diff_id: str | None
    blob: Descriptor | None = None
    file: BlobFile | None = None
    compared: bool = False

    @property
    def key(self) -> str:
        """Return the job's key: the diff ID, or the blob's digest if it has none."""
        return self.diff_id or (self.blob.digest if self.blob else "")

    @property
    def export_name(self) -> str:
        """Its name in an export: the digest of the blob if that exists, else the diff ID."""
        return self.blob.digest if self.blob else self.key


@dataclass(frozen=True)
class Choice:
    """The selected parts of an image with more than one manifest."""

    platforms: tuple[Platform, ...] = ()
    """None: all that exist."""
    every: bool = False
    """Nothing less than all of them, where an engine would give one (``--all``)."""
    skip_missing: bool = False
    """Leave out what an index lists and the source lacks; the index's digest changes."""
    drop_attestations: bool = False
    """The same for what BuildKit attests."""
    foreign: bool = False
    """Send layers that are not to be distributed, too (``--allow-nondistributable``)."""
    follow_links: bool = False
    """Follow links that lead out of an image's folder."""
    absent: tuple[str, ...] = ()
    """Digests of blobs that the source lacks and the destination has."""

    def wants(self, platform: Platform | None) -> bool:
        """Return whether ``platform`` is among ``platforms``."""
        return platform is not None and any(wanted.takes(platform) for wanted in self.platforms)

    def to_json(self) -> dict[str, Any]:
        """Return the choice as JSON values."""
        platforms = [str(platform) for platform in self.platforms]
        return {**vars(self), "platforms": platforms, "absent": list(self.absent)}

    @classmethod
    def from_json(cls, data: Json) -> Choice:
        """Parse what ``to_json`` returned."""
        platforms = tuple(Platform.parse(text) for text in data["platforms"])
        return cls(**{**data, "platforms": platforms, "absent": tuple(data["absent"])})


EVERYTHING: Final = Choice()


@dataclass(frozen=True)
class SourceImage:
    """An image as resolved: small, read without exporting anything.

    ``config`` is None where the engine does not give the exact bytes without an export; it then arrives among
    the exported pieces under ``config_digest``.

    ``documents`` is set where the source has manifests: their bytes are pushed as they are, those that others
    list before them, so that the root is the last. ``layers`` are then all their blobs, each once and with
    its ``blob``, but for ``config_digest``, the config of the first manifest. ``notes`` are for the user:
    what was left out and why.

    ``drafts`` is set instead where there are several manifests whose layers are to be compressed: in the same
    order, and ``layers`` are then those of all of them, and the configs of all but the first.
    """

    config_digest: str
    layers: tuple[SourceLayer, ...]
    pin: Pin
    config: bytes | None = None
    documents: tuple[Document, ...] = ()
    notes: tuple[str, ...] = ()
    drafts: tuple[Draft, ...] = ()

    @property
    def all_documents(self) -> tuple[Document, ...]:
        """Return the documents, final or not."""
        return self.documents or tuple(draft.document for draft in self.drafts)

    @property
    def manifests(self) -> list[Manifest]:
        """Return the manifests in it."""
        return [document for document in self.documents if isinstance(document, Manifest)]

    @property
    def root(self) -> Document | None:
        """Return the document at the tag; None before the layers are compressed."""
        return self.documents[-1] if self.documents else None


@dataclass(frozen=True)
class ExportPiece:
    """One piece of an export, in the order in which it arrives.

    kind ``layer``: an uncompressed tar; ``name`` is its diff ID if the source knows it before reading, else
    None. kind ``blob``: an already compressed layer or a config with digest ``name``, to be kept as it is.
    ``stream`` has ``size`` bytes; read it to its end, or not at all to skip the piece. It is valid only
    until the next piece is requested.
    """

    kind: Literal["layer", "blob"]
    name: str | None
    size: int
    stream: BinaryIO


class BlobKeeper(Protocol):
    """Takes blobs that pass while the manifests of an image are looked for in a stream."""

    def wants(self, digest: str, size: int) -> bool:
        """Return whether ``keep`` should be called: the blob is not at hand and there is room for it."""

    def keep(self, digest: str, size: int, stream: BinaryIO) -> None:
        """Read and keep a blob, unless it turns out to be another one."""


class InPlace:
    """The base of sources without an export: their blobs are files, or are downloaded by digest."""

    @contextmanager
    def export(
        self,
        wanted: Collection[str],  # noqa: ARG002
        *,
        skip_sizes: Collection[int] = (),  # noqa: ARG002
        check_stop: Callable[[], None] | None = None,  # noqa: ARG002
    ) -> Iterator[Iterator[ExportPiece]]:
        """Yield nothing."""
        yield iter(())

    def fall_back(self) -> Source | None:
        """Return None: there is no fallback."""
        return None


class Source(Protocol):
    """A place that holds one image, opened from IMAGE as typed or from a job's pin."""

    def own_name(self) -> str | None:
        """Return the image's own name, for use as the destination; None if it has none.

        May read the source; raises the errors of ``resolve``.
        """

    def resolve(self) -> SourceImage:
        """Find the image, read its small files. A pinned image never changes.

        Raises ImageNotFound, ImageIncomplete, ImageAmbiguous, ImageChanged, Archive*, Engine*.
        """

    def export(
        self,
        wanted: Collection[str],
        *,
        skip_sizes: Collection[int] = (),
        check_stop: Callable[[], None] | None = None,
    ) -> AbstractContextManager[Iterator[ExportPiece]]:
        """Read the pieces in one pass.

        ``wanted``: what is still needed, by diff ID (kind ``layer``), by blob digest where the source has a
        manifest, and the config digest. Pieces that are certainly not wanted are not yielded.

        ``skip_sizes``: uncompressed sizes of layers that are known already; a source that learns a layer's
        diff ID only by reading it (where the entries of a `save` do not name it) leaves out layers of exactly
        that many bytes, and the caller makes a second pass without this if something is then missing.

        ``check_stop`` is called about once a second while the engine is silent (Docker 25 and later write the
        whole image to disk before the first byte comes); what it raises ends the export.

        Leaving the context early ends the export (the engine's process is stopped).
        """

    def fall_back(self) -> Source | None:
        """Return another source of the same image after this one raised StorageDoubtful, or None."""
