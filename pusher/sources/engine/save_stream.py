"""What `save` gives of an image whose manifests exist, as containerd's image store keeps them.

The blobs come sorted by digest, so manifests are met before, between and after the layers that they list:
one pass finds them, and once they are pinned nobody looks for them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from pusher.errors import EngineFailed
from pusher.oci import media_types
from pusher.oci.digest import is_digest, of_bytes
from pusher.oci.document import parse_document
from pusher.oci.index import Index
from pusher.oci.manifest import Descriptor, diff_ids_of
from pusher.oci.platform import Platform
from pusher.sources.base import Choice, SourceImage
from pusher.sources.entry_names import digest_in
from pusher.sources.image_tree import Tree, tree_or_own
from pusher.sources.index_children import child_digests
from pusher.sources.pins import EnginePin
from pusher.sources.tar import reader

_SMALL: Final = 4 << 20
_SMALL_TOTAL: Final = 64 << 20


@dataclass
class Saved:
    """What passed by: the small JSON of it, and the digests of all blobs, as far as the stream was read."""

    documents: dict[str, bytes] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)
    roots: list[str] = field(default_factory=list)
    """What ``index.json`` lists, if the stream was read so far."""
    is_all: bool = False
    """Whether the stream was left before its end because nothing that describes the image was missing."""

    def read(self, blob: Descriptor) -> bytes | None:
        """A manifest's or config's bytes."""
        return self.documents.get(blob.digest)

    def has(self, blob: Descriptor) -> bool:
        """Whether a blob comes; engines save no manifest without what it lists."""
        return self.is_all or blob.digest in self.blobs

    def has_layers(self, diff_ids: tuple[str, ...]) -> bool:
        """Whether a config among the documents has exactly these."""
        for raw in self.documents.values():
            with suppress(ValueError):
                if diff_ids_of(raw) == diff_ids:
                    return True
        return False


def look_through(source: reader.Input, root: str) -> Saved:
    """Read a `save` stream until every manifest and config below ``root`` is known, else to its end.

    At most 64 MiB of small JSON is kept in memory.
    """
    saved = Saved()
    total = 0
    for entry in reader.walk(source):
        digest = digest_in(entry.name)
        is_list = entry.name.removeprefix("./") == "index.json"
        if not entry.is_file or (digest is None and not is_list):
            continue
        if digest is not None:
            saved.blobs.add(digest)
        if entry.size > _SMALL or total + entry.size > _SMALL_TOTAL:
            continue
        data = source.read(entry.size)
        if digest is None:
            saved.roots = child_digests(data)
        elif data.startswith(b"{"):
            saved.documents[digest] = data
            total += entry.size
            saved.is_all = _is_known(root, saved.documents)
            if saved.is_all:
                break
    return saved


def _is_known(root: str, documents: Mapping[str, bytes]) -> bool:
    """Whether all manifests and configs below ``root`` are there."""
    left, seen = [root], set[str]()
    while left:
        digest = left.pop()
        if digest in seen:
            continue
        seen.add(digest)
        if digest not in documents:
            return False
        try:
            found = parse_document(documents[digest])
        except ValueError:  # a config, or what the Tree will complain about
            continue
        if isinstance(found, Index):
            left += [child.digest for child in found.children]
        else:
            left.append(found.config.digest)
    return True


def image_of(
    saved: Saved,
    root: str,
    choice: Choice,
    *,
    own: Platform | None,
    diff_ids: tuple[str, ...],
    where: str,
    pin: EnginePin,
) -> SourceImage:
    """The image, with what describes it in its pin. ``own``, ``diff_ids``: of this machine's platform.

    Newer Dockers save the part of an index that they have as an index of its own; that is pushed then, and
    the image says so. Raises EngineFailed and what ``tree_or_own`` does.
    """
    found, notes = root, []
    if root not in saved.documents:
        if not saved.roots or not saved.has_layers(diff_ids):
            raise EngineFailed(
                f"{where} gives another image than {root}", hint="push it again; its tag was perhaps moved"
            )
        found = saved.roots[0]
        notes = [f"{where} gives only a part of {root}, which has the digest {found}"]
    tree = tree_or_own(_descriptor(found), saved.read, saved.has, choice, own=own, where=where)
    tree.notes[:0] = notes
    image = tree.image(lambda blob: None, pin)  # noqa: ARG005 - nothing lies on this disk
    configs = [manifest.config.digest for manifest in image.manifests]
    described = [document.raw for document in image.documents]
    described += [saved.documents[digest] for digest in configs if digest in saved.documents]
    root_digest = image.documents[-1].digest
    return replace(image, pin=replace(pin, root_digest=root_digest, documents=tuple(described)))


def pinned_image(pin: EnginePin) -> SourceImage | None:
    """Return the image of a pin that holds its documents, else None."""
    if pin.root_digest is None:
        return None
    saved = Saved({of_bytes(raw): raw for raw in pin.documents}, is_all=True)
    # what was left out is left out of these documents; only the layers are chosen once more
    choice = Choice(foreign=pin.choice.foreign)
    tree = Tree(_descriptor(pin.root_digest), saved.read, saved.has, choice, where=pin.root_digest)
    return tree.image(lambda blob: None, pin)  # noqa: ARG005


def _descriptor(root: str) -> Descriptor:
    assert is_digest(root)  # noqa: S101 - the engine's, checked where it was read
    return Descriptor(media_types.OCI_INDEX, root, 0)
