"""What the stores of all engines have in common."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from pusher.errors import ImageAmbiguous, ImageNotFound, StorageDoubtful
from pusher.oci.digest import of_bytes
from pusher.oci.manifest import diff_ids_of
from pusher.sources.base import Exported
from pusher.sources.engine.disk.tar_split import layer_tar
from pusher.sources.foreign_files import open_regular
from pusher.sources.image_names import did_you_mean, normalized
from pusher.text import suggest

_LARGEST: Final = 64 << 20
"""Bytes of a config, or of the file that lists all layers."""


@dataclass(frozen=True)
class StoredLayer:
    """One layer: its diff ID, and where its tar-split and its files are. ``size``: about its bytes."""

    diff_id: str
    tar_split: Path
    files: Path
    size: int

    def tar(self) -> BinaryIO:
        """Its exact tar; raises StorageDoubtful, as does reading it."""
        return layer_tar(self.tar_split, self.files)


class Storage(Protocol):
    """An engine's images on this disk. Everything raises StorageDoubtful where it is not as expected."""

    root: Path
    driver: str

    def find(self, name: str) -> str:
        """The image ID (the config's digest) that a name or an ID means; ImageNotFound, ImageAmbiguous."""

    def config(self, image_id: str) -> bytes:
        """The exact bytes of an image's config; ImageNotFound."""

    def layers(self, image_id: str) -> list[StoredLayer]:
        """The image's layers, lowest first; ImageNotFound."""


def pieces_of(layers: Collection[StoredLayer], wanted: Collection[str]) -> Iterator[Exported]:
    """The wanted ones among some layers, each once; raises StorageDoubtful."""
    seen: set[str] = set()
    for layer in layers:
        if layer.diff_id in wanted and layer.diff_id not in seen:
            seen.add(layer.diff_id)
            with closing(layer.tar()) as stream:
                yield Exported("layer", layer.diff_id, layer.size, stream)


def read_small(path: Path) -> bytes:
    """A file that tells of images; its layers are read as streams. StorageDoubtful."""
    try:
        return _read(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def read_config(path: Path, image_id: str, root: Path) -> bytes:
    """The config of an image, which has its digest. ImageNotFound, StorageDoubtful."""
    try:
        raw = _read(path)
    except FileNotFoundError as error:
        raise ImageNotFound(f"{root} holds no image {image_id}") from error
    except OSError as error:
        raise _unreadable(path, error) from error
    if of_bytes(raw) != image_id:
        raise StorageDoubtful(f"the config of {image_id} in {root} is damaged", hint="pull or load it again")
    return raw


def diff_ids_in(config: bytes, image_id: str) -> tuple[str, ...]:
    """The diff IDs that a config lists. StorageDoubtful."""
    try:
        return diff_ids_of(config)
    except ValueError as error:
        raise StorageDoubtful(f"{image_id} is no image whose layers are known: {error}") from error


def driver_at(root: Path, pattern: str, known: Collection[str], wanted: str | None) -> str:
    """The one of the ``known`` storage drivers that has images below ``root``, in folders called ``pattern``.

    A root may hold what an earlier driver left behind: then nobody but the engine knows which is in use, and
    ``wanted`` must say. Raises StorageDoubtful.
    """
    try:
        listed = {name: _listed(root / pattern.format(name)) for name in known}
    except OSError as error:
        raise _unreadable(root, error) from error
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
            hint="name the root of the storage, which the engine's `info` tells: [/var/lib/docker]NAME",
        )
    raise StorageDoubtful(
        f"{root} holds no images of {wanted or 'a storage driver'} that can be read directly",
        hint=f"the drivers {', '.join(known)} can; docker-daemon:NAME and podman:NAME go through the engine",
    )


def image_called(name: str, ids: Mapping[str, str], root: Path) -> str:
    """The ID of the image with this name, among image IDs by their names as the engine writes them.

    The exact spelling goes first: to Docker ``app`` and ``localhost/app`` are two images.
    Raises ImageNotFound, ImageAmbiguous.
    """
    for exact in (name, f"{name}:latest"):
        if exact in ids:
            return ids[exact]
    wanted = normalized(name)
    found = {known: image_id for known, image_id in ids.items() if normalized(known) == wanted}
    if len(set(found.values())) > 1:
        raise ImageAmbiguous(
            f"{root} holds {len(found)} images that are called {name} for short",
            hint=f"write the whole name: {' or '.join(sorted(found))}",
        )
    if not found:
        hint = did_you_mean(name, [known for known in ids if "@" not in known])
        raise ImageNotFound(f"{root} holds no image {name}", hint=hint)
    return next(iter(found.values()))


def _listed(folder: Path) -> list[Path] | None:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return None


def _read(path: Path) -> bytes:
    with os.fdopen(open_regular(path)[0], "rb") as file:
        raw = file.read(_LARGEST + 1)
    if len(raw) > _LARGEST:
        raise OSError("it is too large to be what it should be")
    return raw


def _unreadable(path: Path, error: OSError) -> StorageDoubtful:
    hint = "look whether it is the folder of an engine of this machine, and whole"
    if isinstance(error, PermissionError):
        hint = "only root may read it: put `sudo -E` before the command, or read through the engine"
    return StorageDoubtful(f"cannot read {path}: {error.strerror or error}", hint=hint)
