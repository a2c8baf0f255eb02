"""An engine on this machine: asked what an image is, its layers read from its disk where that can be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from pusher.errors import EngineFailed, ImageAmbiguous, ImageNotFound, PusherError, StorageDoubtful
from pusher.oci.platform import Platform
from pusher.sources.base import EVERYTHING, Choice, Exported, Source, SourceImage
from pusher.sources.engine.command import DOCKER, PODMAN, Engine, ask
from pusher.sources.engine.content_store import ContentStoreSource, known_roots, store_with
from pusher.sources.engine.disk.data_roots import is_root
from pusher.sources.engine.disk.lists import list_called, list_image
from pusher.sources.engine.disk.podman import PodmanStorage
from pusher.sources.engine.disk.source import DOCKER_KIND, PODMAN_KIND, StorageSource, storage_of
from pusher.sources.engine.disk.storage import pieces_of
from pusher.sources.engine.podman_lists import digests_listed, list_refusal
from pusher.sources.engine.save import EngineSource
from pusher.sources.pins import EnginePin

_STORAGE_OF: Final = {
    DOCKER.kind: (DOCKER_KIND, "{{.DockerRootDir}}\n{{.Driver}}"),
    PODMAN.kind: (PODMAN_KIND, "{{.Store.GraphRoot}}\n{{.Store.GraphDriverName}}"),
}
"""For each engine the kind of its storage, and how its `info` tells root and driver."""


class NearbyEngineSource(EngineSource):
    """One image in an engine. Where a layer cannot be read from disk, ``fall_back`` gives the `save` pipe."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        choice: Choice = EVERYTHING,
        *,
        pin: EnginePin | None = None,
        docker_root: Path | None = None,
    ) -> None:
        """``docker_root``: where Docker's root is mounted, if it is elsewhere than Docker says."""
        super().__init__(engine, name, choice, pin=pin)
        self._own_root = docker_root if engine is DOCKER else None

    def resolve(self) -> SourceImage:
        """As the engine tells it; with the config, and the place on disk pinned, where the disk has it."""
        try:
            image = super().resolve()
        except EngineFailed as failed:
            return self._from_disk_alone(failed)
        if self._pin is not None or not isinstance(image.pin, EnginePin) or image.documents or not is_root():
            return image
        try:
            return self._from_storage(image, image.pin, *self._info())
        except (PusherError, KeyError):  # KeyError: an engine whose storage is not known
            return image

    @contextmanager
    def export(
        self,
        wanted: Collection[str],
        *,
        skip_sizes: Collection[int] = (),
        check_stop: Callable[[], None] | None = None,
    ) -> Iterator[Iterator[Exported]]:
        """The wanted layers from disk; StorageDoubtful where one is not what it should be."""
        pin = self.resolve().pin
        if not isinstance(pin, EnginePin) or pin.storage is None:
            with super().export(wanted, skip_sizes=skip_sizes, check_stop=check_stop) as pieces:
                yield pieces
            return
        kind, _ = _STORAGE_OF[self.engine.kind]
        try:
            layers = storage_of(kind, pin.storage, pin.driver).layers(pin.id)
        except ImageNotFound as error:
            raise StorageDoubtful(error.message) from error
        yield pieces_of(layers, wanted)

    def fall_back(self) -> Source | None:
        """The same image from `save`."""
        if self._pin is None or self._pin.storage is None:
            return None
        return EngineSource(self.engine, self.name, pin=replace(self._pin, storage=None))

    def _from_disk_alone(self, failed: EngineFailed) -> SourceImage:
        """The image from Podman's disk where Podman fails to describe it, as it does (4.3) with one without
        layers beside a manifest list. Raises ``failed`` where it cannot be read there."""
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
            storage = storage_of(_STORAGE_OF[self.engine.kind][0], root, driver)
            config, layers = storage.config(image.config_digest), storage.layers(image.config_digest)
            whole = all(layer.tar_split.is_file() and layer.files.is_dir() for layer in layers)
        except (StorageDoubtful, ImageNotFound, OSError):
            return image  # another machine's, as likely as not
        if not whole:
            note = f"{root} lacks what its layers are put together from: `{self.engine.command} save` is used"
            return replace(image, notes=(*image.notes, note))
        return replace(image, config=config, pin=replace(pin, storage=root, driver=driver))

    def _from_content_store(self, target: str, own: Platform | None) -> SourceImage | None:
        """The image as containerd's content store has it, if that can be read: with all its platforms."""
        try:
            roots = [self._info()[0] / "containerd/daemon", *known_roots()]
        except (PusherError, KeyError):
            roots = known_roots()
        store = store_with(target, roots)
        if store is None:
            return None
        return ContentStoreSource(store, target, self.name, self._choice, platform=own).resolve()

    def _from_list(self) -> SourceImage:
        """The images of a manifest list, from Podman's storage, if that is on this disk."""
        try:
            storage = PodmanStorage(*self._info())
            index = list_called(storage, self.name)
            listed = index and [child.digest for child in index.children]
            if index is None or listed != digests_listed(self.name, self._daemon):
                raise StorageDoubtful(f"{storage.root} is another Podman's")
        except (ValueError, ImageNotFound, ImageAmbiguous, StorageDoubtful) as error:
            raise list_refusal(self.name, f"which cannot be read from its disk: {error}") from error
        # other users' files may belong to users of their containers: Podman itself must read them
        return list_image(storage, index, self.name, self._choice, with_save=not is_root())

    def _info(self) -> tuple[Path, str]:
        """Root and driver of the engine."""
        _, template = _STORAGE_OF[self.engine.kind]
        root, _, driver = ask(self.engine, "info", "--format", template, daemon=self._daemon).partition("\n")
        return self._own_root or Path(root.strip()), driver.strip()
