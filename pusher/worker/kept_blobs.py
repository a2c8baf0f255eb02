"""Keep blobs in the spool that pass while the manifests of an image are looked for in a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import BinaryIO

from pusher.config import Settings
from pusher.errors import DiskFull, LayerMismatch
from pusher.spool.spool import Spool
from pusher.store.store import Store
from pusher.worker.destination import Destination


class SpoolKeeper:
    """Writes to the spool what it lacks and not all registries of ``destinations`` are known to have.

    ``note`` is called once if there is such a blob: it may take as long as the engine's export.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        destinations: Sequence[Destination],
        note: Callable[[str], object],
    ) -> None:
        self._note: Callable[[str], object] | None = note
        self._store = store
        self._settings = settings
        self._destinations = destinations
        self._is_known = cache(self._look_up)
        self._is_full = False

    @cached_property
    def _spool(self) -> Spool:
        return Spool(self._settings.spool, is_shared=self._settings.spool_folder is not None)

    def wants(self, digest: str, size: int) -> bool:
        """Return whether the blob is to be kept."""
        return not self._is_full and not self._is_known(digest, size)

    def keep(self, digest: str, size: int, stream: BinaryIO) -> None:
        """Write the blob to the spool. A wrong one is not kept: its job reports it, if it is sent at all."""
        if self._note is not None:
            self._note("copying the image's blobs to the spool, as its manifests are somewhere between them")
            self._note = None
        try:
            self._spool.write_blob(stream, digest=digest, size=size, media_type="")
        except LayerMismatch:
            pass
        except DiskFull:  # the rest is exported when there is room again
            self._is_full = True

    def _look_up(self, digest: str, size: int) -> bool:
        if self._spool.has(digest, size):
            return True
        registries = {destination.registry() for destination in self._destinations}
        return all(self._store.uploads.holders(registry, digest) for registry in registries)
