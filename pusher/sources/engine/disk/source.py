"""Read images from an engine's disk: ``docker-storage:NAME``, ``containers-storage:NAME``."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pusher.errors import ImageChanged, ImageNotFound, PusherError, ReferenceMalformed
from pusher.sources.base import EVERYTHING, Choice, ExportPiece, Source, SourceImage, SourceLayer
from pusher.sources.engine.command import DOCKER, PODMAN
from pusher.sources.engine.disk.data_roots import DOCKER_ROOT, podman_root
from pusher.sources.engine.disk.docker import DockerStorage
from pusher.sources.engine.disk.kinds import DOCKER_KIND, PODMAN_KIND
from pusher.sources.engine.disk.podman import PodmanStorage
from pusher.sources.engine.disk.podman_lists import find_list, image_of_list
from pusher.sources.engine.disk.storage import Storage, export_layers, read_diff_ids
from pusher.sources.engine.save import EngineSource
from pusher.sources.foreign_files import typed_path
from pusher.sources.image_names import is_image_id
from pusher.sources.pins import EnginePin, StoragePin
from pusher.sources.platforms import check_platform, platform_of

STORAGES: Final[Mapping[str, Callable[[Path, str | None], Storage]]] = {
    DOCKER_KIND: DockerStorage,
    PODMAN_KIND: PodmanStorage,
}
_ENGINES: Final = {DOCKER_KIND: DOCKER, PODMAN_KIND: PODMAN}
_WITH_ROOT: Final = re.compile(r"\[(?:([a-z0-9-]+)@)?([^]+]*)(?:\+[^]]*)?\](.*)")
"""``[driver@graphroot+runroot]NAME``, as in containers-transports(5); the runroot is not used."""


def open_storage(kind: str, root: Path, driver: str | None) -> Storage:
    """Open the storage of this kind at ``root``. Raises StorageDoubtful."""
    return STORAGES[kind](root, driver)


class StorageSource:
    """One image in the storage of an engine that need not run. ``text`` is ``NAME`` or ``[root]NAME``."""

    def __init__(
        self,
        kind: str,
        text: str,
        choice: Choice = EVERYTHING,
        *,
        pin: StoragePin | None = None,
        docker_root: Path | None = None,
    ) -> None:
        self.kind = kind
        self._choice = choice
        self._pin = pin
        if pin is not None:
            self.name, self.root, self.driver = pin.name, pin.root, pin.driver
            return
        self.driver, root, self.name = _parse(text)
        if root is not None:
            self.root = root.absolute()
        elif kind == DOCKER_KIND:
            self.root = (docker_root or DOCKER_ROOT).absolute()
        else:
            self.root, self.driver = podman_root()

    def own_name(self) -> str | None:
        """Return the name as typed; None for an image ID."""
        return None if is_image_id(self.name) else self.name

    def resolve(self) -> SourceImage:
        """Read the config, which lists the layers; of a manifest list, those of all its images.

        Missing data of a layer shows only when that is read.
        """
        storage = open_storage(self.kind, self.root, self.driver)
        if self._pin is None:
            if isinstance(storage, PodmanStorage) and (index := find_list(storage, self.name)):
                return image_of_list(storage, index, self.name, self._choice)
            image_id = storage.find(self.name)
            config = storage.config(image_id)
            check_platform(platform_of(config), self._choice, str(self.root))
        else:
            image_id = self._pin.id
            try:
                config = storage.config(image_id)
            except ImageNotFound as error:
                raise ImageChanged(
                    f"{self.name} was deleted from {self.root} after it was enqueued",
                    hint="build or pull it again and enqueue it, or `pusher cancel` the job",
                ) from error
        pin = StoragePin(self.kind, self.name, self.root, storage.driver, image_id)
        layers = tuple(SourceLayer(diff_id) for diff_id in read_diff_ids(config, image_id))
        return SourceImage(image_id, layers, pin, config)

    @contextmanager
    def export(
        self,
        wanted: Collection[str],
        *,
        skip_sizes: Collection[int] = (),  # noqa: ARG002 - every layer is known by its diff ID
        check_stop: Callable[[], None] | None = None,  # noqa: ARG002 - reading a disk does not block
    ) -> Iterator[Iterator[ExportPiece]]:
        """Yield the wanted layers, each assembled while it is read. Raises StorageDoubtful."""
        storage = open_storage(self.kind, self.root, self.driver)
        yield export_layers(storage.layers(self.resolve().config_digest), wanted)

    def fall_back(self) -> Source | None:
        """Return the same image from the engine, if that has it."""
        if self._pin is None:
            return None
        engine = _ENGINES[self.kind]
        try:
            pin = EngineSource(engine, self._pin.id).resolve().pin
        except PusherError:
            return None
        if not isinstance(pin, EnginePin) or pin.id != self._pin.id:
            return None
        return EngineSource(engine, self.name, pin=pin)


def _parse(text: str) -> tuple[str | None, Path | None, str]:
    """Return driver, root and name of ``[driver@root]NAME``."""
    match = _WITH_ROOT.fullmatch(text)
    driver, root, name = (match[1], match[2], match[3]) if match else (None, "", text)
    if not name:
        raise ReferenceMalformed(
            f"{text!r} names no image",
            hint="write it like docker-storage:app:1.2, or docker-storage:[/mnt/docker]app:1.2",
        )
    return driver, typed_path(root) if root else None, name
