"""Read an image of an engine on this machine, with layers from the engine's disk if possible."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from pusher.errors import EngineFailed, ImageAmbiguous, ImageNotFound, PusherError, StorageDoubtful
from pusher.oci.platform import Platform
from pusher.sources.base import EVERYTHING, BlobKeeper, Choice, ExportPiece, Source, SourceImage
from pusher.sources.engine.command import DOCKER, PODMAN, Engine, run_command
from pusher.sources.engine.content_store import ContentStoreSource, find_store, usual_roots
from pusher.sources.engine.disk.data_roots import is_root
from pusher.sources.engine.disk.kinds import DOCKER_KIND, PODMAN_KIND
from pusher.sources.engine.disk.podman import PodmanStorage
from pusher.sources.engine.disk.podman_lists import find_list, image_of_list
from pusher.sources.engine.disk.source import StorageSource, open_storage
from pusher.sources.engine.disk.storage import export_layers
from pusher.sources.engine.podman_manifest import list_error, listed_digests
from pusher.sources.engine.save import EngineSource
from pusher.sources.pins import EnginePin

_STORAGE_OF: Final = {
    DOCKER.kind: (DOCKER_KIND, "{{.DockerRootDir}}\n{{.Driver}}"),
    PODMAN.kind: (PODMAN_KIND, "{{.Store.GraphRoot}}\n{{.Store.GraphDriverName}}"),
}
"""For each engine the kind of its storage, and the template with which `info` prints root and driver."""


class LocalEngineSource(EngineSource):
    """One image in an engine. If a layer cannot be read from disk, ``fall_back`` reads it from `save`."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        choice: Choice = EVERYTHING,
        *,
        pin: EnginePin | None = None,
        docker_root: Path | None = None,
        keeper: BlobKeeper | None = None,
    ) -> None:
        """``docker_root``: where Docker's data root is mounted, if not where Docker says."""
        super().__init__(engine, name, choice, pin=pin, keeper=keeper)
        self._docker_root = docker_root if engine is DOCKER else None

    def resolve(self) -> SourceImage:
        """Ask the engine; if its disk has the image, add the config and pin the place on disk."""
        try:
            image = super().resolve()
        except EngineFailed as failed:
            return self._from_disk_alone(failed)
        if self._pin is not None or not isinstance(image.pin, EnginePin) or image.documents or not is_root():
            return image
        try:
            return self._from_storage(image, image.pin, *self._info())
        except (PusherError, KeyError):  # KeyError: an engine whose storage is unknown
            return image

    @contextmanager
    def export(
        self,
        wanted: Collection[str],
        *,
        skip_sizes: Collection[int] = (),
        check_stop: Callable[[], None] | None = None,
    ) -> Iterator[Iterator[ExportPiece]]:
        """Yield the wanted layers from disk. Raises StorageDoubtful if one is not as expected."""
        pin = self.resolve().pin
        if not isinstance(pin, EnginePin) or pin.storage is None:
            with super().export(wanted, skip_sizes=skip_sizes, check_stop=check_stop) as pieces:
                yield pieces
            return
        kind, _ = _STORAGE_OF[self.engine.kind]
        try:
            layers = open_storage(kind, pin.storage, pin.driver).layers(pin.id)
        except ImageNotFound as error:
            raise StorageDoubtful(error.message) from error
        yield export_layers(layers, wanted)

    def fall_back(self) -> Source | None:
        """Return the same image from `save`."""
        if self._pin is None or self._pin.storage is None:
            return None
        return EngineSource(self.engine, self.name, pin=replace(self._pin, storage=None))

    def _from_disk_alone(self, failed: EngineFailed) -> SourceImage:
        """Return the image from Podman's disk if `inspect` fails, as Podman 4.3 does for an image without
        layers beside a manifest list. Raises ``failed`` if it cannot be read there."""
        if self.engine is not PODMAN or any(self._daemon.values()) or not is_root():
            raise failed
        try:
            root, driver = self._info()
            return StorageSource(PODMAN_KIND, f"[{driver}@{root}]{self.name}", self._choice).resolve()
        except (StorageDoubtful, ImageNotFound, ImageAmbiguous, EngineFailed):
            raise failed from None

    def _from_storage(
        self, image: SourceImage, pin: EnginePin, root: Path, driver: str | None
    ) -> SourceImage:
        try:
            storage = open_storage(_STORAGE_OF[self.engine.kind][0], root, driver)
            config, layers = storage.config(image.config_digest), storage.layers(image.config_digest)
            whole = all(layer.tar_split.is_file() and layer.files.is_dir() for layer in layers)
        except (StorageDoubtful, ImageNotFound, OSError):
            return image  # probably the disk of another machine
        if not whole:
            note = f"{root} lacks what its layers are assembled from: `{self.engine.command} save` is used"
            return replace(image, notes=(*image.notes, note))
        return replace(image, config=config, pin=replace(pin, storage=root, driver=driver))

    def _from_content_store(self, target: str, own: Platform | None) -> SourceImage | None:
        """Return the image with all its platforms from containerd's content store if it is readable."""
        try:
            roots = [self._info()[0] / "containerd/daemon", *usual_roots()]
        except (PusherError, KeyError):
            roots = usual_roots()
        store = find_store(target, roots)
        if store is None:
            return None
        return ContentStoreSource(store, target, self.name, self._choice, platform=own).resolve()

    def _from_list(self) -> SourceImage:
        """Return the images of a manifest list from Podman's storage, if that is on this disk."""
        try:
            storage = PodmanStorage(*self._info())
            index = find_list(storage, self.name)
            listed = index and [child.digest for child in index.children]
            if index is None or listed != listed_digests(self.name, self._daemon):
                raise StorageDoubtful(f"{storage.root} is another Podman's")
        except (ValueError, ImageNotFound, ImageAmbiguous, StorageDoubtful) as error:
            raise list_error(self.name, f"which cannot be read from its disk: {error}") from error
        # files of other users may belong to users of their containers: Podman itself must read them
        return image_of_list(storage, index, self.name, self._choice, with_save=not is_root())

    def _info(self) -> tuple[Path, str]:
        """Return the engine's root and driver."""
        _, template = _STORAGE_OF[self.engine.kind]
        root, _, driver = run_command(
            self.engine, "info", "--format", template, daemon=self._daemon
        ).partition("\n")
        return self._docker_root or Path(root.strip()), driver.strip()
