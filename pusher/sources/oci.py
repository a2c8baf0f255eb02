"""Read OCI image layouts (image-spec ``image-layout.md``): ``oci:``, a folder; ``oci-archive:``, a tar."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pusher.dataclass import dataclass
from pusher.errors import ArchiveInvalid, ImageAmbiguous, ImageChanged, ImageNotFound, ImageUnsupported
from pusher.oci.digest import UnsupportedDigest, is_digest
from pusher.oci.index import Child, Index, parse_index
from pusher.oci.manifest import Descriptor
from pusher.oci.media_types import OCI_INDEX
from pusher.sources.archive.file import open_archive
from pusher.sources.base import EVERYTHING, Choice, ExportPiece, SourceImage
from pusher.sources.blob_places import BlobFolder, BlobsInArchive, read_small
from pusher.sources.folders import LAYOUT, wrong_folder_error
from pusher.sources.image_names import choose_one, did_you_mean, display_name, normalize_name, parse_number
from pusher.sources.image_tree import Tree
from pusher.sources.pins import LayoutPin
from pusher.sources.tagged import TaggedImage, tagged_images
from pusher.text import suggest

_NAMES: Final = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
"""Annotations of an entry of index.json that name it; the first is a whole reference, the second a tag."""


@dataclass(frozen=True)
class _Layout:
    index: bytes
    place: BlobFolder | BlobsInArchive


@dataclass(frozen=True)
class _Root:
    """What is pushed: ``raw`` is set where it is not a blob but index.json itself, or a part of it."""

    descriptor: Descriptor
    names: Sequence[str] = ()
    raw: bytes | None = None


class LayoutSource:
    """One image of a layout. ``name`` chooses among several: a name, ``@sha256:...`` or ``@N`` from 0."""

    def __init__(
        self,
        kind: str,
        path: Path,
        name: str | None = None,
        choice: Choice = EVERYTHING,
        *,
        pin: LayoutPin | None = None,
    ) -> None:
        self.kind = kind
        self.path = path.absolute()
        self.name = name
        self._choice = choice if pin is None else pin.choice
        self._pin = pin

    def own_name(self) -> str | None:
        """Return the whole reference that the layout gives the image, if it gives one."""
        with self._open() as layout:
            names = self._root(layout).names
        return next((name for name in names if "/" in name or ":" in name), None)

    def list_tagged(self) -> list[TaggedImage]:
        """Return the images of the layout by their names."""
        with self._open() as layout:
            index = self._read_index(layout)
        names = [name for child in index.children for name in _names(child)[:1]]
        return tagged_images(self.kind, self.path, self.name, names)

    def resolve(self) -> SourceImage:
        """Read index.json, the manifests and configs; blobs stay where they lie."""
        with self._open() as layout:
            return self._image(layout)

    @contextmanager
    def export(
        self,
        wanted: Collection[str],
        *,
        skip_sizes: Collection[int] = (),  # noqa: ARG002 - every blob is known by its digest
        check_stop: Callable[[], None] | None = None,  # noqa: ARG002 - a file never keeps its reader waiting
    ) -> Iterator[Iterator[ExportPiece]]:
        """Yield the wanted blobs of a compressed archive; elsewhere they are files."""
        if self.kind == LAYOUT:
            yield iter(())
            return
        with self._open() as layout:
            there = {layer.blob.digest for layer in self._image(layout).layers if layer.blob is not None}
            assert isinstance(layout.place, BlobsInArchive)  # noqa: S101 - so `_open` makes them
            yield layout.place.export(there.intersection(wanted))

    def fall_back(self) -> None:
        """A layout is all there is."""

    def _image(self, layout: _Layout) -> SourceImage:
        root, place = self._root(layout), layout.place
        pin = LayoutPin(self.kind, self.path, self.name, root.descriptor.digest, self._choice)

        def read(blob: Descriptor) -> bytes | None:
            return root.raw if root.raw and blob.digest == root.descriptor.digest else place.read(blob)

        tree = Tree(root.descriptor, read, place.has, self._choice, where=str(self.path))
        return tree.image(place.file_of, pin)

    @contextmanager
    def _open(self) -> Iterator[_Layout]:
        if self.kind == LAYOUT:
            yield _Layout(
                self._index(), BlobFolder(self.path, str(self.path), follow_links=self._choice.follow_links)
            )
            return
        if self._pin is not None and not self.path.exists():
            raise self._gone_error()
        with open_archive(self.path) as archive:
            if "index.json" not in archive and "manifest.json" in archive:
                raise ImageUnsupported(
                    f"{self.path} is a docker-archive, not an OCI archive",
                    hint=suggest("use: {}", f"docker-archive:{self.path}"),
                )
            archive.check_for("index.json")
            yield _Layout(archive.read("index.json"), BlobsInArchive(archive))

    def _index(self) -> bytes:
        try:
            return read_small(self.path, "index.json", follow_links=self._choice.follow_links)
        except ImageNotFound as error:
            if self._pin is not None:
                raise self._gone_error() from error
            if not self.path.is_dir():
                raise ImageNotFound(f"there is no folder {self.path}", hint="check the path") from error
            raise wrong_folder_error(self.path, LAYOUT) from error

    # --- the choice ---------------------------------------------------------------------------------------

    def _root(self, layout: _Layout) -> _Root:
        index = self._read_index(layout)
        if self._pin is not None:
            return self._find_pinned_root(layout, index, self._pin.root_digest)
        if not index.children:
            raise ImageNotFound(f"{self.path} contains no image")
        found = _matching(index.children, self.name)
        if len(found) == 1:
            return _Root(found[0].descriptor, _names(found[0]))
        if (joined := _join_entries(index, found)) is not None:
            return joined
        names = [name for child in index.children for name in _names(child)[:1]]
        known = [display_name(name) for name in names]
        numbers = f"@0 to @{len(index.children) - 1}"
        if found:
            listed = ", ".join(known[:20]) if len(set(known)) == len(index.children) else numbers
            raise ImageAmbiguous(
                f"{self.path} contains {len(found)} images{f' {self.name}' if self.name else ''}: {listed}",
                hint=choose_one(f"{self.kind}:{self.path}", names if listed != numbers else ()),
            )
        unlisted = self._blob(layout, (self.name or "").removeprefix("@"))
        if unlisted is not None:
            return unlisted
        hint = did_you_mean(self.name or "", known) if known else f"it has {numbers}"
        raise ImageNotFound(f"{self.path} contains no image {self.name}", hint=hint)

    def _read_index(self, layout: _Layout) -> Index:
        try:
            return parse_index(layout.index)
        except UnsupportedDigest as error:
            raise ImageUnsupported(
                f"the index.json in {self.path} cannot be used: {error}",
                hint="copy the image with a tool that writes sha256 digests, which is what registries take",
            ) from error
        except ValueError as error:
            raise ArchiveInvalid(
                f"the index.json in {self.path} cannot be used: {error}",
                hint="make the copy again, with the tool that made it",
            ) from error

    def _find_pinned_root(self, layout: _Layout, index: Index, digest: str) -> _Root:
        found = self._blob(layout, digest) or _join_entries(index, _matching(index.children, self.name))
        if found is None or found.descriptor.digest != digest:
            raise ImageChanged(
                f"{self.path} no longer contains the image that was enqueued ({digest})",
                hint="enqueue the new image instead, or put the old one back",
            )
        return found

    def _blob(self, layout: _Layout, digest: str) -> _Root | None:
        """Return a manifest that index.json need not list, as one platform's."""
        size = layout.place.size_of(digest) if is_digest(digest) else None
        return None if size is None else _Root(Descriptor(OCI_INDEX, digest, size))

    def _gone_error(self) -> ImageChanged:
        return ImageChanged(
            f"{self.path} was removed after the image was enqueued",
            hint="`pusher cancel` the job, or put it back",
        )


def _join_entries(index: Index, found: Sequence[Child]) -> _Root | None:
    """Return several entries of one name, each for another platform, as the one index that they are; else
    None."""
    platforms = [child.platform for child in found if not child.is_attestation]
    names = {tuple(_names(child)) for child in found}
    if len(found) < 2 or len(names) > 1 or None in platforms or len(set(platforms)) < len(platforms):
        return None
    others = {child.digest for child in index.children} - {child.digest for child in found}
    joined = index.without(others) if others else index
    (name,) = names
    return _Root(Descriptor(OCI_INDEX, joined.digest, len(joined.raw)), name, joined.raw)


def _matching(children: Sequence[Child], name: str | None) -> list[Child]:
    """Return the entries that a name means, of equal ones the first."""
    return list({child.digest: child for child in reversed(_find_named(children, name))}.values())[::-1]


def _find_named(children: Sequence[Child], name: str | None) -> list[Child]:
    if name is None:
        return list(children)
    if (number := parse_number(name)) is not None:
        return list(children[number:][:1])
    if name.startswith("@sha256:"):
        return [child for child in children if child.digest == name[1:]]
    exact = [child for child in children if name in _names(child)]
    wanted = normalize_name(name)
    return exact or [child for child in children if wanted in {normalize_name(own) for own in _names(child)}]


def _names(child: Child) -> list[str]:
    return [child.annotations[key] for key in _NAMES if child.annotations.get(key)]
