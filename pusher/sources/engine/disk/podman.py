"""Read Podman's images on disk (containers/storage), for its overlay and vfs drivers."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any, Final

from pusher.errors import StorageDoubtful
from pusher.oci.bounded_json import load_json
from pusher.oci.digest import hex_of, is_sha256
from pusher.sources.engine.disk.storage import (
    StoredLayer,
    find_driver,
    find_image_id,
    read_config,
    read_diff_ids,
    read_metadata,
)
from pusher.sources.foreign_files import exists
from pusher.sources.image_names import is_image_id

_DRIVERS: Final = {"overlay": "overlay/{}/diff", "vfs": "vfs/dir/{}"}
"""By driver, the folder of the layer with an ID; vfs includes the files of the layers below."""
_ID: Final = re.compile(r"[0-9a-f]{64}")
_PLAIN: Final = re.compile(r"[0-9a-z.]+")
_MANIFEST: Final = "manifest-"
"""The names of manifests: this, then the digest."""
_MAX_VALUES: Final = 1_000_000
"""JSON values in a list of all layers or images: about 20 a layer."""


class PodmanStorage:
    """A graph root such as ``/var/lib/containers/storage``. ``driver``: if several have left images.

    Every method raises StorageDoubtful for unexpected data.
    """

    def __init__(self, root: Path, driver: str | None = None) -> None:
        self.root = root
        self.driver = find_driver(root, "{}-images", _DRIVERS, driver)
        self._images = root / f"{self.driver}-images"

    def find(self, name: str) -> str:
        """Return the image ID for a name or an ID. Raises ImageNotFound, ImageAmbiguous."""
        images = self._read_list(self._images / "images.json")
        if is_image_id(name):
            digits = name.removeprefix("sha256:")
            found = {_image_id(image) for image in images if str(image.get("id")).startswith(digits)}
            if len(found) == 1:
                return found.pop()
        ids = {known: _image_id(image) for image in images for known in _names(image)}
        return find_image_id(name, ids, self.root)

    def config(self, image_id: str) -> bytes:
        """Return the exact bytes of an image's config. Raises ImageNotFound."""
        return read_config(self._images / hex_of(image_id) / _file_name(image_id), image_id, self.root)

    def manifest_list(self, image_id: str) -> bytes | None:
        """Return the bytes of the manifest list with this ID; None if it is the ID of an image."""
        folder = self._images / hex_of(image_id)
        return read_metadata(folder / "manifest") if exists(folder / "instances.json") else None

    def manifests(self) -> dict[str, Path]:
        """Return the files of the manifests of all images, by digest."""
        found: dict[str, Path] = {}
        for image in self._read_list(self._images / "images.json"):
            names = image.get("big-data-names")
            for name in names if isinstance(names, list) else ():
                if isinstance(name, str) and name.startswith(_MANIFEST):
                    file = self._images / hex_of(_image_id(image)) / _file_name(name)
                    found.setdefault(name.removeprefix(_MANIFEST), file)
        return found

    def layers(self, image_id: str) -> list[StoredLayer]:
        """Return the image's layers, lowest first. Raises ImageNotFound."""
        diff_ids = read_diff_ids(self.config(image_id), image_id)
        by_id = {str(layer.get("id")): layer for layer in self._all_layers()}
        images = self._read_list(self._images / "images.json")
        top = next((image.get("layer") for image in images if _image_id(image) == image_id), None)
        found: list[StoredLayer] = []
        while top:  # each ID is removed, so a circle ends
            layer = by_id.pop(str(top), None)
            if layer is None:
                raise StorageDoubtful(f"the layer {top} of {image_id} is not in {self.root}")
            found.insert(0, self._layer(str(top), layer))
            top = layer.get("parent")
        if tuple(layer.diff_id for layer in found) != diff_ids:
            raise StorageDoubtful(f"{self.root} has other layers than the config of {image_id}")
        return found

    def _all_layers(self) -> list[dict[str, Any]]:
        folder = self.root / f"{self.driver}-layers"
        volatile = folder / "volatile-layers.json"
        return self._read_list(folder / "layers.json") + (
            self._read_list(volatile) if volatile.exists() else []
        )

    def _layer(self, layer_id: str, layer: dict[str, Any]) -> StoredLayer:
        diff_id, size = layer.get("diff-digest"), layer.get("diff-size")
        if not _ID.fullmatch(layer_id) or not isinstance(diff_id, str) or not is_sha256(diff_id):
            raise StorageDoubtful(f"the layer {layer_id} in {self.root} has no diff ID")
        return StoredLayer(
            diff_id,
            self.root / f"{self.driver}-layers/{layer_id}.tar-split.gz",
            self.root / _DRIVERS[self.driver].format(layer_id),
            size if isinstance(size, int) else 0,
        )

    def _read_list(self, path: Path) -> list[dict[str, Any]]:
        try:
            listed = load_json(read_metadata(path), most_values=_MAX_VALUES)
            if isinstance(listed, list) and all(isinstance(entry, dict) for entry in listed):
                return listed
        except ValueError:
            pass
        raise StorageDoubtful(f"{path} cannot be read: it is not what Podman writes")


def _names(image: dict[str, Any]) -> list[str]:
    names = image.get("names")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _image_id(image: dict[str, Any]) -> str:
    image_id = f"sha256:{image.get('id')}"
    if not is_sha256(image_id):
        raise StorageDoubtful(f"an image has the ID {image.get('id')!r}")
    return image_id


def _file_name(name: str) -> str:
    """Return the name of the file that holds the data of this name."""
    return name if _PLAIN.fullmatch(name) else "=" + base64.b64encode(name.encode()).decode()
