"""Find the manifest or index of an image that an archive's ``manifest.json`` lists.

The names in ``index.json`` decide if two images differ in nothing else: the same config over layers
compressed in two ways, or an index and one of its manifests under another name.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Final

from pusher.dataclass import dataclass
from pusher.errors import ArchiveInvalid, LayerMismatch
from pusher.oci.bounded_json import load_json
from pusher.oci.digest import is_digest, of_bytes
from pusher.oci.index import MAX_NESTED, parse_index
from pusher.oci.manifest import Manifest, parse_manifest
from pusher.oci.media_types import MANIFESTS
from pusher.oci.platform import Platform
from pusher.sources.archive.file import ArchiveFile
from pusher.sources.blob_places import layout_path
from pusher.sources.image_names import normalize_name
from pusher.sources.index_children import child_digests

_MAX_DOCUMENTS: Final = 20_000
_MAX_BYTES: Final = 32 << 20
_MAX_DOCUMENT: Final = 16 << 20
_NAMES: Final = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_BLOBS: Final = "blobs/sha256/"


@dataclass(frozen=True)
class _Listed:
    """An entry of ``index.json``."""

    digest: str
    names: tuple[str, ...]

    def is_called(self, name: str) -> bool:
        """Return whether it has this name: full names are compared whole, a bare tag with the tag."""
        wanted = normalize_name(name)
        return any(
            normalize_name(own) == wanted if set("/:") & set(own) else own == wanted.rpartition(":")[2]
            for own in self.names
        )


@dataclass(frozen=True)
class ArchivedImageFacts:
    """What identifies an image's manifest: the digest of its config, its layers' paths and diff IDs."""

    config: str
    layers: tuple[str, ...]
    diff_ids: tuple[str, ...]

    def fits(self, manifest: Manifest) -> bool:
        """Return whether a manifest is of this image, with its layers compressed in any way."""
        return manifest.config.digest == self.config and len(manifest.layers) == len(self.diff_ids)

    def is_exactly(self, manifest: Manifest) -> bool:
        """Return whether it lists exactly these layers; if their paths contain no digests, whether it
        fits."""
        paths = [posixpath.normpath(path) for path in self.layers]
        digests = [f"sha256:{path.removeprefix(_BLOBS)}" for path in paths if path.startswith(_BLOBS)]
        if len(digests) < len(paths):
            return self.fits(manifest)
        return self.fits(manifest) and [layer.digest for layer in manifest.layers] == digests

    def is_final(self, manifest: Manifest) -> bool:
        """Return whether its layers are pushed unchanged.

        Docker 25 and later without the containerd image store writes a manifest whose layers are the
        uncompressed tars; such a manifest was never pushed, so the layers are compressed instead.
        """
        return not self.diff_ids or tuple(layer.digest for layer in manifest.layers) != self.diff_ids


class Roots:
    """The documents of one archive, each read once. Raises ArchiveInvalid if there are too many."""

    def __init__(self, archive: ArchiveFile) -> None:
        self._archive = archive
        self._known: dict[str, Manifest | tuple[str, ...] | None] = {}
        self._bytes = 0

    def of(self, image: ArchivedImageFacts, name: str | None) -> tuple[str, ...]:
        """Return the digest of the root called ``name``; without a name, of all named roots of the
        image.

        Return () if there is none, or none whose layers are final.
        """
        listed = self._listed
        called = [entry.digest for entry in listed if name and entry.is_called(name)]
        named = [entry.digest for entry in listed if entry.names]
        every = [entry.digest for entry in listed]
        for digests, test, most in (
            (called, image.is_exactly, 1),
            (called, image.fits, 1),
            (named, image.is_exactly, 1 if name else len(named)),
            (every, image.is_exactly, 1),
            (self._find_unlisted(), image.is_exactly, 1),
            (every, image.fits, 1),
        ):
            leading: dict[str, Manifest] = {}
            for digest in digests:
                if (manifest := self._below(digest, test)) is not None:
                    leading[digest] = manifest
                if len(leading) == most:
                    break
            if leading:
                return tuple(digest for digest, manifest in leading.items() if image.is_final(manifest))
        return ()

    def may_hold(self, digest: str | None, is_wanted: Callable[[Platform | None], bool]) -> bool:
        """Return whether the document ``digest`` is an index that lists a wanted platform, or a child without
        one."""
        if digest is None or not isinstance(self._read(digest), tuple):
            return False
        try:
            children = parse_index(self._archive.read(layout_path(digest))).children
        except ValueError:
            return True
        return any(
            child.platform is None or is_wanted(child.platform)
            for child in children
            if not child.is_attestation
        )

    def leads_to(self, digest: str, image: ArchivedImageFacts) -> bool:
        """Return whether the document ``digest`` exists and is the image's, or an index with it."""
        return self._below(digest, image.fits) is not None

    def may_be_called(self, digest: str, name: str) -> bool:
        """Return False if ``index.json`` gives it only other names."""
        entries = [entry for entry in self._listed if entry.digest == digest and entry.names]
        return not entries or any(entry.is_called(name) for entry in entries)

    def names_of(self, root: str | None, names: Sequence[str]) -> Sequence[str]:
        """Return those of an image's ``names`` that ``index.json`` gives this root; all if it gives
        none."""
        called = [entry for entry in self._listed if entry.digest == root]
        return [name for name in names if any(entry.is_called(name) for entry in called)] or names

    @cached_property
    def _listed(self) -> list[_Listed]:
        if "index.json" not in self._archive:
            return []
        try:
            children = load_json(self._archive.read("index.json"))["manifests"]
            return [entry for child in children if (entry := _entry(child)) is not None]
        except (ValueError, KeyError, TypeError):
            return []

    def _find_unlisted(self) -> Iterator[str]:
        """Yield manifests that ``index.json`` omits (as Docker 28 does for images saved by their
        IDs)."""
        if "index.json" not in self._archive:
            return
        listed = {entry.digest for entry in self._listed}
        for name in self._archive.names_below(_BLOBS):
            digest = f"sha256:{name.removeprefix(_BLOBS)}"
            if is_digest(digest) and digest not in listed:
                with suppress(LayerMismatch):  # it may not be a manifest
                    if isinstance(self._read(digest), Manifest):
                        yield digest

    def _below(self, root: str, test: Callable[[Manifest], bool]) -> Manifest | None:
        """Return the first manifest that passes ``test``, of the document ``root`` and its descendants."""
        left, seen = [(root, 0)], set[str]()
        while left:
            digest, depth = left.pop()
            if digest in seen or depth > MAX_NESTED:
                continue
            seen.add(digest)
            found = self._read(digest)
            if isinstance(found, tuple):
                left += [(child, depth + 1) for child in reversed(found)]
            elif found is not None and test(found):
                return found
        return None

    def _read(self, digest: str) -> Manifest | tuple[str, ...] | None:
        """Return a manifest, or the digests in an index; None if missing or something else."""
        if digest not in self._known:
            self._known[digest] = self._parse(digest)
        return self._known[digest]

    def _parse(self, digest: str) -> Manifest | tuple[str, ...] | None:
        entry = self._archive.find(layout_path(digest))
        if entry is None or entry.size > _MAX_DOCUMENT or not self._archive.head(entry).startswith(b"{"):
            return None
        self._bytes += entry.size
        if self._bytes > _MAX_BYTES or len(self._known) > _MAX_DOCUMENTS:
            raise ArchiveInvalid(f"the indexes in {self._archive.path} list too much")
        raw = self._archive.read_entry(entry)
        if (found := of_bytes(raw, digest)) != digest:
            raise LayerMismatch(
                f"the manifest {digest} in {self._archive.path} is damaged: its bytes have {found}",
                hint="save the image again",
            )
        if children := child_digests(raw):
            return tuple(children)
        try:
            manifest = parse_manifest(raw)
        except ValueError:
            return None
        return manifest if manifest.media_type in MANIFESTS else None


def _entry(child: Any) -> _Listed | None:
    """Return an entry of ``index.json``; None for anything else."""
    digest = child["digest"]
    if not isinstance(digest, str) or not is_digest(digest):
        return None
    annotations = child.get("annotations") or {}
    names = [annotations.get(key) for key in _NAMES]
    return _Listed(digest, tuple(name for name in names if isinstance(name, str) and name))
