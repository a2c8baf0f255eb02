"""Read containerd's content store (Docker 29's default, nerdctl, k3s): final blobs, named by digest.

An image's digest is in a database that only containerd opens, so pusher asks the engine for it.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from pusher.errors import ImageChanged, ImageIncomplete
from pusher.oci.digest import algorithm_of, hex_of
from pusher.oci.manifest import Descriptor
from pusher.oci.media_types import OCI_INDEX
from pusher.oci.platform import Platform
from pusher.sources.base import EVERYTHING, Choice, InPlace, SourceImage
from pusher.sources.blob_places import LAYOUT, BlobFolder
from pusher.sources.image_names import is_image_id
from pusher.sources.image_tree import tree_or_own
from pusher.sources.pins import ContentStorePin

_BLOBS: Final = f"io.containerd.content.v1.content/{LAYOUT}"


def usual_roots() -> list[Path]:
    """Return containerd's usual content stores; Docker's is below Docker's data root."""
    data = os.environ.get("XDG_DATA_HOME")
    return [
        Path("/var/lib/containerd"),
        Path("/var/lib/rancher/k3s/agent/containerd"),
        Path("/var/lib/rancher/rke2/agent/containerd"),
        (Path(data) if data else Path.home() / ".local/share") / "containerd",  # rootless
    ]


def find_store(digest: str, roots: Collection[Path]) -> Path | None:
    """Return the first content store that has this blob and is readable, else None."""
    below = _BLOBS.format(algorithm=algorithm_of(digest), hex=hex_of(digest))
    for root in roots:
        try:
            with (root / below).open("rb"):
                return root
        except OSError:
            continue
    return None


class ContentStoreSource(InPlace):
    """The image below one manifest or index of a content store.

    ``platform`` is this machine's, which is pushed if only some platforms were pulled.
    """

    def __init__(
        self,
        root: Path,
        digest: str,
        name: str,
        choice: Choice = EVERYTHING,
        *,
        platform: Platform | None = None,
        pin: ContentStorePin | None = None,
    ) -> None:
        self.root = root
        self.digest = digest
        self.name = name
        self._choice = choice if pin is None else pin.choice
        self._platform = platform
        self._pin = pin

    @classmethod
    def from_pin(cls, pin: ContentStorePin) -> ContentStoreSource:
        """Return the source of a job, from its pin."""
        return cls(pin.root, pin.root_digest, pin.name, pin=pin)

    def own_name(self) -> str | None:
        """Return the name as typed; None for an image ID."""
        return None if is_image_id(self.name) else self.name

    def resolve(self) -> SourceImage:
        """Read the manifests and configs."""
        place = BlobFolder(self.root, f"the image {self.name}", _BLOBS)
        size = place.size_of(self.digest)
        if size is None and self._pin is not None:
            raise self._deleted_error()
        root = Descriptor(OCI_INDEX, self.digest, size or 0)
        try:
            tree = tree_or_own(
                root, place.read, place.has, self._choice, own=self._platform, where=place.name
            )
        except ImageIncomplete as error:
            # containerd deletes blobs one by one: attestations at once, blobs of the build cache much later
            if self._pin is None:
                raise
            raise self._deleted_error() from error
        return tree.image(place.file_of, ContentStorePin(self.root, self.digest, self.name, tree.choice))

    def _deleted_error(self) -> ImageChanged:
        return ImageChanged(
            f"{self.name} was deleted from {self.root} after it was enqueued",
            hint="build or pull it again and enqueue it, or `pusher cancel` the job",
        )
