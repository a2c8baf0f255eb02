"""Read ``dir:`` folders, as skopeo and `podman save --format docker-dir` write them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pusher.errors import ImageChanged, ImageNotFound
from pusher.oci.digest import of_bytes
from pusher.oci.manifest import Descriptor
from pusher.oci.media_types import OCI_INDEX
from pusher.sources.base import EVERYTHING, Choice, InPlace, SourceImage
from pusher.sources.blob_places import BlobFolder, read_small
from pusher.sources.folders import unpacked_archive_error, wrong_folder_error
from pusher.sources.image_tree import Tree
from pusher.sources.pins import DirPin

KIND: Final = DirPin.kind


class DirSource(InPlace):
    """The image of a folder: ``manifest.json``, ``<hex>.manifest.json`` for what an index lists, blobs."""

    def __init__(
        self,
        path: Path,
        choice: Choice = EVERYTHING,
        *,
        pin: DirPin | None = None,
    ) -> None:
        self.path = path.absolute()
        self._choice = choice if pin is None else pin.choice
        self._pin = pin

    def own_name(self) -> None:
        """Return None: such a folder has no name."""

    def resolve(self) -> SourceImage:
        """Read the manifests and configs; blobs stay where they lie."""
        raw = self._manifest()
        root = Descriptor(OCI_INDEX, of_bytes(raw), len(raw))
        if self._pin is not None and self._pin.root_digest != root.digest:
            raise ImageChanged(
                f"{self.path} no longer contains the image that was enqueued ({self._pin.root_digest})",
                hint="enqueue the new image instead, or put the old one back",
            )
        follow = self._choice.follow_links
        blobs = BlobFolder(self.path, str(self.path), "{hex}", follow_links=follow)
        listed = BlobFolder(self.path, str(self.path), "{hex}.manifest.json", follow_links=follow)

        def read(blob: Descriptor) -> bytes | None:
            if blob.digest == root.digest:
                return raw
            return listed.read(blob) or blobs.read(blob)

        tree = Tree(root, read, blobs.has, self._choice, where=str(self.path))
        return tree.image(blobs.file_of, DirPin(self.path, root.digest, self._choice))

    def _manifest(self) -> bytes:
        try:
            raw = read_small(self.path, "manifest.json", follow_links=self._choice.follow_links)
        except ImageNotFound as error:
            if self._pin is not None:
                raise ImageChanged(
                    f"{self.path} was removed after the image was enqueued",
                    hint="`pusher cancel` the job, or put it back",
                ) from error
            if self.path.is_dir():
                raise wrong_folder_error(self.path, KIND) from error
            raise
        if raw.lstrip().startswith(b"["):
            raise unpacked_archive_error(self.path)
        return raw
