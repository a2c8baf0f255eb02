"""Read Docker's images on disk (moby ``daemon/internal/layer/filestore.go``).

Only root can read them, or a container into which the data root is mounted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pusher.errors import StorageDoubtful
from pusher.oci.bounded_json import load_json
from pusher.oci.digest import chain_ids, hex_of, is_sha256
from pusher.sources.engine.disk.storage import (
    StoredLayer,
    find_driver,
    find_image_id,
    read_config,
    read_diff_ids,
    read_metadata,
)
from pusher.sources.image_names import is_image_id

_DRIVERS: Final = {
    "overlay2": "overlay2/{}/diff",
    "fuse-overlayfs": "fuse-overlayfs/{}/diff",
    "vfs": "vfs/dir/{}",
}
"""By graph driver, the folder of the layer with a cache ID; vfs includes the files of the layers below."""


class DockerStorage:
    """A data root such as ``/var/lib/docker``. ``driver``: if several storage drivers have left images.

    Every method raises StorageDoubtful for unexpected data.
    """

    def __init__(self, root: Path, driver: str | None = None) -> None:
        self.root = root
        self.driver = find_driver(root, "image/{}/imagedb/content/sha256", _DRIVERS, driver)
        self._images = root / "image" / self.driver

    def find(self, name: str) -> str:
        """Return the image ID for a name or an ID. Raises ImageNotFound, ImageAmbiguous."""
        if is_image_id(name):
            digits = name.removeprefix("sha256:")
            found = list((self._images / "imagedb/content/sha256").glob(f"{digits}*"))
            if len(found) == 1 and is_sha256(f"sha256:{found[0].name}"):
                return f"sha256:{found[0].name}"
        return find_image_id(name, self._ids_by_name(), self.root)

    def config(self, image_id: str) -> bytes:
        """Return the exact bytes of an image's config. Raises ImageNotFound."""
        return read_config(self._images / "imagedb/content/sha256" / hex_of(image_id), image_id, self.root)

    def layers(self, image_id: str) -> list[StoredLayer]:
        """Return the image's layers, lowest first. Raises ImageNotFound."""
        diff_ids = read_diff_ids(self.config(image_id), image_id)
        return [self._layer(*ids) for ids in zip(diff_ids, chain_ids(diff_ids), strict=True)]

    def _layer(self, diff_id: str, chain_id: str) -> StoredLayer:
        folder = self._images / "layerdb/sha256" / hex_of(chain_id)
        if _read_text(folder / "diff") != diff_id:
            raise StorageDoubtful(f"{folder} belongs to another layer than {diff_id}")
        cache_id = _read_text(folder / "cache-id")
        if not cache_id.replace("-", "").isalnum():
            raise StorageDoubtful(f"{folder} names no folder of files")
        size = _read_text(folder / "size")
        files = self.root / _DRIVERS[self.driver].format(cache_id)
        return StoredLayer(diff_id, folder / "tar-split.json.gz", files, int(size) if size.isdecimal() else 0)

    def _ids_by_name(self) -> dict[str, str]:
        """Return the image IDs by name."""
        path = self._images / "repositories.json"
        try:
            repositories = load_json(read_metadata(path))["Repositories"]
            names = {name: image for each in repositories.values() for name, image in each.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageDoubtful(f"{path} cannot be read: it is not what Docker writes") from error
        return {name: image for name, image in names.items() if isinstance(image, str) and is_sha256(image)}


def _read_text(path: Path) -> str:
    return read_metadata(path).decode("ascii", "replace").strip()
