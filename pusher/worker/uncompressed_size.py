"""Estimate the bytes of layers that must be compressed, for a user who asks what a push would send."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pusher.errors import PusherError
from pusher.sources.archive.file import open_archive
from pusher.sources.base import Pin
from pusher.sources.engine.command import DOCKER, ENGINES, run_command
from pusher.sources.engine.disk.kinds import DOCKER_KIND, PODMAN_KIND
from pusher.sources.engine.disk.source import open_storage
from pusher.sources.pins import ArchivePin, EnginePin, StoragePin


def estimate_uncompressed_size(pin: Pin, diff_ids: Collection[str]) -> int | None:
    """Return about how many bytes these layers have at most before compression; None if that is unknown.

    Where the size of each layer is not known it is that of the image, or of an archive that is not
    compressed. Engines count the bytes of files alone.
    """
    try:
        match pin:
            case ArchivePin(path=path, size=size, unpacked=()):
                with open_archive(path) as archive:
                    return None if archive.is_compressed else size
            case StoragePin(kind=kind, root=root, driver=driver):
                return _size_in_storage(kind, root, driver, pin.id, diff_ids)
            case EnginePin(storage=Path() as root, driver=driver):
                kind = DOCKER_KIND if pin.kind == DOCKER.kind else PODMAN_KIND
                return _size_in_storage(kind, root, driver, pin.id, diff_ids)
            case EnginePin():
                inspect = ("image", "inspect", "--format", "{{.Size}}", "--", pin.id)
                return int(run_command(ENGINES[pin.kind], *inspect, daemon=pin.daemon))
    except (PusherError, OSError, ValueError):  # the push itself reports the error
        return None
    return None


def _size_in_storage(
    kind: str, root: Path, driver: str | None, image_id: str, diff_ids: Collection[str]
) -> int:
    layers = open_storage(kind, root, driver).layers(image_id)
    return sum({layer.diff_id: layer.size for layer in layers if layer.diff_id in diff_ids}.values())
