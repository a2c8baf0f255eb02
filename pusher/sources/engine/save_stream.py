"""Read the `save` stream of an image in containerd's image store, whose manifests exist.

Blobs are sorted by digest, so manifests come before, between and after the layers that they list. One
pass finds them; then the job's pin has them. The layers that pass meanwhile are kept: the engine takes as
long for a second pass.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import field, replace
from typing import Final

from pusher.dataclass import dataclass
from pusher.errors import EngineFailed
from pusher.oci import media_types
from pusher.oci.digest import is_digest, of_bytes
from pusher.oci.document import parse_document
from pusher.oci.index import Index
from pusher.oci.manifest import Descriptor, diff_ids_of
from pusher.oci.platform import Platform
from pusher.sources.base import BlobKeeper, Choice, SourceImage
from pusher.sources.entry_names import digest_in
from pusher.sources.image_tree import Tree, tree_or_own
from pusher.sources.index_children import child_digests
from pusher.sources.pins import EnginePin
from pusher.sources.tar import reader

_SMALL: Final = 4 << 20
_SMALL_TOTAL: Final = 64 << 20


@dataclass
class StreamContents:
    """The JSON documents of a stream and the digests of its blobs, read so far."""

    documents: dict[str, bytes] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)
    roots: list[str] = field(default_factory=list)
    """The digests in ``index.json``, if the stream was read so far."""
    is_all: bool = False
    """Whether reading stopped before the end because all documents of the image were found."""

    def read(self, blob: Descriptor) -> bytes | None:
        """Return the bytes of a manifest or config."""
        return self.documents.get(blob.digest)

    def has(self, blob: Descriptor) -> bool:
        """Return whether the stream has a blob; engines save no manifest without what it lists."""
        return self.is_all or blob.digest in self.blobs

    def has_layers(self, diff_ids: tuple[str, ...]) -> bool:
        """Return whether a config among the documents has exactly these diff IDs."""
        for raw in self.documents.values():
            with suppress(ValueError):
                if diff_ids_of(raw) == diff_ids:
                    return True
        return False


def scan_save_stream(source: reader.Input, root: str, keeper: BlobKeeper | None) -> StreamContents:
    """Read a `save` stream until every manifest and config below ``root`` is known, and ``keeper`` wants none
    of the layers that are still to come; else to its end.

    At most 64 MiB of small JSON is kept in memory.
    """
    saved, total = StreamContents(), 0
    layers: dict[str, int] | None = None
    for entry in reader.walk(source):
        digest = digest_in(entry.name)
        is_list = entry.name.removeprefix("./") == "index.json"
        if not entry.is_file or (digest is None and not is_list):
            continue
        data = None
        if entry.size <= _SMALL and total + entry.size <= _SMALL_TOTAL:
            data = source.read(entry.size)
        if digest is None:
            saved.roots = child_digests(data or b"")
            continue
        saved.blobs.add(digest)
        if data is not None and data.startswith(b"{"):
            saved.documents[digest] = data
            total += entry.size
            if layers is None:
                layers = _listed_layers(root, saved.documents)
            saved.is_all = layers is not None
        elif keeper is not None and keeper.wants(digest, entry.size):
            stream = reader.passing(source, entry) if data is None else io.BytesIO(data)
            keeper.keep(digest, entry.size, stream)
        if layers is not None and not _is_wanted(layers, saved.blobs, keeper):
            break
    if keeper is not None:
        _keep_others(saved.documents, keeper)
    return saved


def _keep_others(documents: Mapping[str, bytes], keeper: BlobKeeper) -> None:
    """Keep the JSON blobs that are not manifests: configs of other platforms, attestations."""
    for digest, raw in documents.items():
        try:
            parse_document(raw)
        except ValueError:
            if keeper.wants(digest, len(raw)):
                keeper.keep(digest, len(raw), io.BytesIO(raw))


def _is_wanted(layers: Mapping[str, int], passed: Collection[str], keeper: BlobKeeper | None) -> bool:
    """Return whether ``keeper`` wants a layer that has not passed yet."""
    left = {digest: size for digest, size in layers.items() if digest not in passed}
    return keeper is not None and any(keeper.wants(digest, size) for digest, size in left.items())


def _listed_layers(root: str, documents: Mapping[str, bytes]) -> dict[str, int] | None:
    """Return digests and sizes of the layers below ``root``; None unless all its manifests and configs are
    there."""
    layers = dict[str, int]()
    left, seen = [root], set[str]()
    while left:
        digest = left.pop()
        if digest in seen:
            continue
        seen.add(digest)
        if digest not in documents:
            return None
        try:
            found = parse_document(documents[digest])
        except ValueError:  # a config, or invalid: the Tree raises the error
            continue
        if isinstance(found, Index):
            left += [child.digest for child in found.children]
        else:
            left.append(found.config.digest)
            layers |= {layer.digest: layer.size for layer in found.layers}
    return layers


def image_in_stream(
    saved: StreamContents,
    root: str,
    choice: Choice,
    *,
    own: Platform | None,
    diff_ids: tuple[str, ...],
    where: str,
    pin: EnginePin,
) -> SourceImage:
    """Return the image, its documents in its pin. ``own``, ``diff_ids``: of this machine's platform.

    Newer versions of Docker save the part of an index that they have as another index; that one is pushed,
    and a note of the image says so. Raises EngineFailed and the errors of ``tree_or_own``.
    """
    found, notes = root, []
    if root not in saved.documents:
        if not saved.roots or not saved.has_layers(diff_ids):
            raise EngineFailed(
                f"{where} writes another image than {root}", hint="push it again; its tag may have been moved"
            )
        found = saved.roots[0]
        notes = [f"{where} writes only a part of {root}, which has the digest {found}"]
    tree = tree_or_own(_descriptor(found), saved.read, saved.has, choice, own=own, where=where)
    tree.notes[:0] = notes
    return image_of_tree(tree, saved.documents, pin)


def image_of_tree(tree: Tree, read: Mapping[str, bytes | None], pin: EnginePin) -> SourceImage:
    """Return the image of a tree with its documents in its pin. ``read``: what was read for it, by digest."""
    image = tree.image(lambda blob: None, pin)  # noqa: ARG005 - nothing is on this disk
    configs = [manifest.config.digest for manifest in image.manifests]
    described = [document.raw for document in image.documents]
    described += [raw for digest in configs if (raw := read.get(digest)) is not None]
    root_digest = image.documents[-1].digest
    return replace(image, pin=replace(pin, root_digest=root_digest, documents=tuple(described)))


def pinned_image(pin: EnginePin) -> SourceImage | None:
    """Return the image of a pin that holds its documents, else None."""
    if pin.root_digest is None:
        return None
    saved = StreamContents({of_bytes(raw): raw for raw in pin.documents}, is_all=True)
    # these documents already omit what was left out; only the layers are selected again
    choice = Choice(foreign=pin.choice.foreign)
    tree = Tree(_descriptor(pin.root_digest), saved.read, saved.has, choice, where=pin.root_digest)
    return tree.image(lambda blob: None, pin)  # noqa: ARG005


def _descriptor(root: str) -> Descriptor:
    assert is_digest(root)  # noqa: S101 - the engine's, checked where it was read
    return Descriptor(media_types.OCI_INDEX, root, 0)
