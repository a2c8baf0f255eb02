"""Define what the storages of all engines share."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from pusher.dataclass import dataclass
from pusher.errors import ImageAmbiguous, ImageNotFound, StorageDoubtful
from pusher.oci.digest import of_bytes
from pusher.oci.manifest import diff_ids_of
from pusher.sources.base import ExportPiece
from pusher.sources.engine.disk.tar_split import open_layer_tar
from pusher.sources.foreign_files import open_regular
from pusher.sources.image_names import did_you_mean, normalize_name
from pusher.text import suggest

_MAX_BYTES: Final = 64 << 20
"""Bytes of a config, or of the file that lists all layers."""


@dataclass(frozen=True)
class StoredLayer:
    """One layer in a storage: its diff ID, tar-split and folder of files. ``size``: about its bytes."""

    diff_id: str
    tar_split: Path
    files: Path
    size: int

    def tar(self) -> BinaryIO:
        """Open its exact tar. Raises StorageDoubtful, as does reading it."""
        return open_layer_tar(self.tar_split, self.files)


class Storage(Protocol):
    """An engine's images on this disk. Methods raise StorageDoubtful for unexpected data."""

    root: Path
    driver: str

    def find(self, name: str) -> str:
        """Return the image ID (the config's digest) for a name or ID; ImageNotFound, ImageAmbiguous."""

    def config(self, image_id: str) -> bytes:
        """Return the exact bytes of an image's config. Raises ImageNotFound."""

    def layers(self, image_id: str) -> list[StoredLayer]:
        """Return the image's layers, lowest first. Raises ImageNotFound."""


def export_layers(layers: Collection[StoredLayer], wanted: Collection[str]) -> Iterator[ExportPiece]:
    """Yield the wanted layers, each once. Raises StorageDoubtful."""
    seen: set[str] = set()
    for layer in layers:
        if layer.diff_id in wanted and layer.diff_id not in seen:
            seen.add(layer.diff_id)
            with closing(layer.tar()) as stream:
                yield ExportPiece("layer", layer.diff_id, layer.size, stream)


def read_metadata(path: Path) -> bytes:
    """Read a file that describes images. Raises StorageDoubtful."""
    try:
        return _read(path)
    except OSError as error:
        raise _unreadable_error(path, error) from error


def read_config(path: Path, image_id: str, root: Path) -> bytes:
    """Read the config of an image and check its digest. Raises ImageNotFound, StorageDoubtful."""
    try:
        raw = _read(path)
    except FileNotFoundError as error:
        raise ImageNotFound(f"{root} contains no image {image_id}") from error
    except OSError as error:
        raise _unreadable_error(path, error) from error
    if of_bytes(raw) != image_id:
        raise StorageDoubtful(f"the config of {image_id} in {root} is damaged", hint="pull or load it again")
    return raw


def read_diff_ids(config: bytes, image_id: str) -> tuple[str, ...]:
    """Return the diff IDs that a config lists. Raises StorageDoubtful."""
    try:
        return diff_ids_of(config)
    except ValueError as error:
        raise StorageDoubtful(f"{image_id} is not an image whose layers are known: {error}") from error


def find_driver(root: Path, pattern: str, known: Collection[str], wanted: str | None) -> str:
    """Return the one of the ``known`` storage drivers that has images below ``root``, in folders ``pattern``.

    A root may have images of an earlier driver: then only the engine knows which is in use, and
    ``wanted`` must name it. Raises StorageDoubtful.
    """
    try:
        listed = {name: _list_folder(root / pattern.format(name)) for name in known}
    except OSError as error:
        raise _unreadable_error(root, error) from error
    found = [name for name, images in listed.items() if images]
    if listed.get(wanted or "") is not None or (wanted is None and len(found) == 1):
        return wanted or found[0]
    if wanted is None and found:
        raise StorageDoubtful(
            f"{root} holds images of several storage drivers: {', '.join(found)}",
            hint=suggest("say which is in use: {}", f"[{found[0]}@{root}]NAME"),
        )
    if not root.is_dir():
        raise StorageDoubtful(
            f"there is no folder {root}",
            hint="`docker info` or `podman info` shows the right one; write it in brackets before the name: "
            "docker-storage:[/mnt/docker]app:1.2 or containers-storage:[/mnt/containers]app:1.2",
        )
    raise StorageDoubtful(
        f"{root} contains no images of {wanted or 'a storage driver'} that can be read directly",
        hint=f"the drivers {', '.join(known)} can; docker-daemon:NAME and podman:NAME go through the engine",
    )


def find_image_id(name: str, ids: Mapping[str, str], root: Path) -> str:
    """Return the ID of the image with this name, among image IDs by their names as the engine writes them.

    The exact spelling is tried first: to Docker ``app`` and ``localhost/app`` are two images.
    Raises ImageNotFound, ImageAmbiguous.
    """
    for exact in (name, f"{name}:latest"):
        if exact in ids:
            return ids[exact]
    wanted = normalize_name(name)
    found = {known: image_id for known, image_id in ids.items() if normalize_name(known) == wanted}
    if len(set(found.values())) > 1:
        raise ImageAmbiguous(
            f"{root} contains {len(found)} images that are called {name} for short",
            hint=f"write the whole name: {' or '.join(sorted(found))}",
        )
    if not found:
        hint = did_you_mean(name, [known for known in ids if "@" not in known])
        raise ImageNotFound(f"{root} contains no image {name}", hint=hint)
    return next(iter(found.values()))


def _list_folder(folder: Path) -> list[Path] | None:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return None


def _read(path: Path) -> bytes:
    with os.fdopen(open_regular(path)[0], "rb") as file:
        raw = file.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise OSError("it is too large")
    return raw


def _unreadable_error(path: Path, error: OSError) -> StorageDoubtful:
    hint = "check that it is the complete folder of an engine of this machine"
    if isinstance(error, PermissionError):
        hint = "only root can read it: run the command with `sudo -E`, or read through the engine"
    return StorageDoubtful(f"cannot read {path}: {error.strerror or error}", hint=hint)
