"""Read manifest lists in Podman's storage, which has their images without the compressed blobs.

A list is an image record with two files: ``manifest``, the list, and ``instances.json``, which says where
Podman found each image (containers/common ``libimage/manifests``). The images are found by the digests of
their manifests. Their layers are compressed again, as Podman does, and the manifests and the list then name
the blobs that were made.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace

from pusher.errors import (
    ImageChanged,
    ImageIncomplete,
    ImageNotFound,
    ImageUnsupported,
    PusherError,
    StorageDoubtful,
)
from pusher.oci.bounded_json import load_json
from pusher.oci.digest import hex_of, of_bytes
from pusher.oci.document import Document, parse_document
from pusher.oci.draft import Draft
from pusher.oci.index import Index, parse_index
from pusher.oci.manifest import Descriptor, Manifest, diff_ids_of
from pusher.oci.media_types import OCI_INDEX
from pusher.sources.base import Choice, ExportPiece, Pin, Source, SourceImage, SourceLayer
from pusher.sources.engine.command import PODMAN
from pusher.sources.engine.disk.podman import PodmanStorage
from pusher.sources.engine.disk.storage import export_layers, read_metadata
from pusher.sources.engine.podman_manifest import list_error, podman_push_commands
from pusher.sources.engine.save import EngineSource
from pusher.sources.image_tree import Tree
from pusher.sources.pins import EnginePin, ListPin
from pusher.text import suggest


def find_list(storage: PodmanStorage, name: str) -> Index | None:
    """Return the manifest list with this name or ID; None if that is an image.

    Raises StorageDoubtful, ImageNotFound, ImageAmbiguous; ImageUnsupported for a list without images.
    """
    raw = storage.manifest_list(storage.find(name))
    if raw is None:
        return None
    try:
        listed = load_json(raw)
        if isinstance(listed, dict) and not listed.get("manifests"):
            raise ImageUnsupported(
                f"the manifest list {name} has no images yet",
                hint=suggest("add one: podman manifest add {} containers-storage:IMAGE", name),
            )
        return parse_index(raw)
    except ValueError as error:
        raise StorageDoubtful(f"the manifest list {name} in {storage.root} is damaged: {error}") from error


def image_of_list(
    storage: PodmanStorage, index: Index, name: str, choice: Choice, *, with_save: bool = False
) -> SourceImage:
    """Return the images of a list. ``with_save``: their layers are read from `podman save`.

    Raises StorageDoubtful, ImageIncomplete, ImageNotFound, ImageUnsupported.
    """
    tree = _tree(storage, index, name, choice)
    documents = tree.documents
    configs = {
        document.config.digest: _config(storage, document, name)
        for document in documents
        if isinstance(document, Manifest)
    }
    pin = ListPin(
        name,
        storage.root,
        storage.driver,
        with_save,
        documents=tuple(document.raw for document in documents),
        configs=tuple(configs.values()),
    )
    return _image(name, documents, configs, pin, _left_out_notes(index, documents))


class PodmanListSource:
    """The images of a list, as a job pinned them."""

    def __init__(self, pin: ListPin) -> None:
        self._pin = pin
        self.name = pin.name
        self.root = pin.root

    def own_name(self) -> str:
        """Return the name as typed."""
        return self.name

    def resolve(self) -> SourceImage:
        """Return the images as pinned: later changes of the list have no effect."""
        documents = [parse_document(raw) for raw in self._pin.documents]
        configs = {of_bytes(raw): raw for raw in self._pin.configs}
        return _image(self.name, documents, configs, self._pin)

    @contextmanager
    def export(
        self,
        wanted: Collection[str],
        *,
        skip_sizes: Collection[int] = (),
        check_stop: Callable[[], None] | None = None,
    ) -> Iterator[Iterator[ExportPiece]]:
        """Yield the wanted configs, then the layers image by image. Raises StorageDoubtful, ImageChanged."""
        with closing(self._pieces(set(wanted), skip_sizes, check_stop)) as pieces:
            yield pieces

    def fall_back(self) -> Source | None:
        """Return the same images from `podman save`, if Podman has them."""
        if self._pin.with_save:
            return None
        try:
            EngineSource(PODMAN, hex_of(self.resolve().config_digest)).resolve()
        except PusherError:
            return None
        return PodmanListSource(replace(self._pin, with_save=True))

    def _pieces(
        self, wanted: set[str], skip_sizes: Collection[int], check_stop: Callable[[], None] | None
    ) -> Generator[ExportPiece, None, None]:
        for raw in self._pin.configs:
            if (digest := of_bytes(raw)) in wanted:
                yield ExportPiece("blob", digest, len(raw), io.BytesIO(raw))
        for draft in self.resolve().drafts:
            ours = wanted.intersection(draft.diff_ids)
            wanted -= ours
            if not ours or not isinstance(draft.document, Manifest):
                continue
            image_id = draft.document.config.digest
            if not self._pin.with_save:
                yield from self._from_storage(image_id, ours)
                continue
            pin = EngineSource(PODMAN, hex_of(image_id)).resolve().pin
            assert isinstance(pin, EnginePin)  # noqa: S101 - it is an image's ID
            saved = EngineSource(PODMAN, self.name, pin=pin)
            with saved.export(ours, skip_sizes=skip_sizes, check_stop=check_stop) as pieces:
                yield from pieces

    def _from_storage(self, image_id: str, wanted: Collection[str]) -> Iterator[ExportPiece]:
        try:
            layers = PodmanStorage(self.root, self._pin.driver).layers(image_id)
        except ImageNotFound as error:
            raise ImageChanged(
                f"an image of {self.name} was deleted from {self.root} after it was enqueued: {image_id}",
                hint="build or pull it again and enqueue the list, or `pusher cancel` the job",
            ) from error
        yield from export_layers(layers, wanted)


def _tree(storage: PodmanStorage, index: Index, name: str, choice: Choice) -> Tree:
    manifests = storage.manifests()

    def read(blob: Descriptor) -> bytes | None:
        if blob.digest == index.digest:
            return index.raw
        if blob.digest in manifests:
            return read_metadata(manifests[blob.digest])
        try:
            return storage.config(blob.digest)
        except ImageNotFound:
            return None

    root = Descriptor(OCI_INDEX, index.digest, len(index.raw))
    try:
        return Tree(root, read, lambda _: True, choice, where=f"the manifest list {name}")
    except ImageIncomplete as error:
        hint = f"have Podman fetch what is missing: {podman_push_commands(name)}"
        if not choice.platforms:
            hint = f"{error.hint}; or {hint}"
        raise ImageIncomplete(error.message, hint=hint) from error


def _config(storage: PodmanStorage, manifest: Manifest, name: str) -> bytes:
    try:
        return storage.config(manifest.config.digest)
    except ImageNotFound as error:  # partially pulled images (zstd:chunked) have another ID
        raise list_error(name, f"and the config of {manifest.digest} is not on its disk") from error


def _image(
    name: str,
    documents: Sequence[Document],
    configs: Mapping[str, bytes],
    pin: Pin,
    notes: tuple[str, ...] = (),
) -> SourceImage:
    """Return the image of these documents: all configs but the first are blobs, the layers are not yet."""
    drafts = [_draft(name, document, configs) for document in documents]
    manifests = [draft.document for draft in drafts if isinstance(draft.document, Manifest)]
    first = manifests[0].config.digest
    others = {manifest.config.digest: manifest.config for manifest in manifests}
    del others[first]
    diff_ids = dict.fromkeys(diff_id for draft in drafts for diff_id in draft.diff_ids)
    layers = [*map(SourceLayer, diff_ids), *(SourceLayer(None, blob) for blob in others.values())]
    return SourceImage(first, tuple(layers), pin, configs[first], (), notes, tuple(drafts))


def _draft(name: str, document: Document, configs: Mapping[str, bytes]) -> Draft:
    if isinstance(document, Index):
        return Draft(document)
    try:
        diff_ids = diff_ids_of(configs[document.config.digest])
        if len(diff_ids) != len(document.layers):
            raise ValueError("its config lists another number of layers")
    except ValueError as error:
        raise list_error(name, f"and {document.digest} in it is not an image of layers: {error}") from error
    return Draft(document, diff_ids)


def _left_out_notes(index: Index, documents: Sequence[Document]) -> tuple[str, ...]:
    """Return notes on the images that were not chosen."""
    there = {document.digest for document in documents}
    kept = [str(child) for child in index.children if child.digest in there]
    left_out = [str(child) for child in index.children if child.digest not in there]
    if not isinstance(documents[-1], Index):
        return (f"only {kept[0]} is pushed, as an image of its own",) if left_out else ()
    return (f"left out of the list: {', '.join(left_out)}",) if left_out else ()
