"""``dir:`` folders, as skopeo and `podman save --format docker-dir` write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pusher.errors import ArchiveInvalid, ImageChanged, ImageNotFound
from pusher.oci.digest import of_bytes
from pusher.oci.manifest import Descriptor
from pusher.oci.media_types import OCI_INDEX
from pusher.sources.base import EVERYTHING, Choice, InPlace, Pinned, SourceImage
from pusher.sources.blob_places import BlobFolder, read_small
from pusher.sources.image_tree import Tree
from pusher.text import suggest

KIND: Final = "dir"


class DirSource(InPlace):
    """The image of a folder: ``manifest.json``, ``<hex>.manifest.json`` for what an index lists, blobs."""

    def __init__(
        self,
        path: Path,
        choice: Choice = EVERYTHING,
        *,
        pinned: Mapping[str, str | int | None] | None = None,
    ) -> None:
        self.path = path.absolute()
        self._choice = choice if pinned is None else Choice.of_pinned(pinned)
        self._pinned = pinned

    def own_name(self) -> None:
        """Such a folder has no name."""

    def resolve(self) -> SourceImage:
        """Read the manifests and configs; blobs stay where they lie."""
        raw = self._manifest()
        root = Descriptor(OCI_INDEX, of_bytes(raw), len(raw))
        if self._pinned is not None and self._pinned["root"] != root.digest:
            raise ImageChanged(
                f"{self.path} no longer holds the image that was enqueued ({self._pinned['root']})",
                hint="put the old one back and `pusher retry` the job, or enqueue the new image",
            )
        follow = self._choice.follow_links
        blobs = BlobFolder(self.path, str(self.path), "{hex}", follow_links=follow)
        listed = BlobFolder(self.path, str(self.path), "{hex}.manifest.json", follow_links=follow)

        def read(blob: Descriptor) -> bytes | None:
            if blob.digest == root.digest:
                return raw
            return listed.read(blob) or blobs.read(blob)

        pinned: Pinned = {
            "kind": KIND,
            "path": str(self.path),
            "root": root.digest,
            "choice": self._choice.pinned(),
        }
        tree = Tree(root, read, blobs.has, self._choice, where=str(self.path))
        return tree.image(blobs.slice_of, pinned)

    def _manifest(self) -> bytes:
        try:
            raw = read_small(self.path, "manifest.json", follow_links=self._choice.follow_links)
        except ImageNotFound as error:
            if self._pinned is not None:
                raise ImageChanged(
                    f"{self.path} is gone since the image was enqueued",
                    hint="put it back and `pusher retry` the job, or `pusher cancel` it",
                ) from error
            if self.path.is_dir():
                raise ArchiveInvalid(
                    f"{self.path} holds no manifest.json", hint="skopeo copy SOURCE dir:PATH writes one"
                ) from error
            raise
        if raw.lstrip().startswith(b"["):
            raise ArchiveInvalid(
                f"{self.path} is an unpacked docker-archive, which cannot be pushed",
                hint=suggest("pack it again: tar -C {} -cf app.tar .", self.path),
            )
        return raw
