"""Assemble the parts of a forwarding ``pusher serve``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from pusher.config import Settings
from pusher.config.private import make_private_folder
from pusher.reference import RegistryPath
from pusher.serve.forward.api import ForwardingApi
from pusher.serve.forward.destinations import Destinations
from pusher.serve.forward.images import Images
from pusher.serve.forward.upstream import Upstream
from pusher.serve.local import LocalRegistry
from pusher.store.store import Store
from pusher.worker.machine import record_machine
from pusher.worker.registries import Registries

_UPLOAD_LIFETIME = 3600.0
"""Seconds after which an unused upload is removed."""


@contextmanager
def forwarding(
    store: Store,
    settings: Settings,
    *,
    to: RegistryPath | None,
    port: int,
    waits: bool,
    note: Callable[[str], None],
) -> Iterator[ForwardingApi]:
    """Return the forwarding API, which stores what it receives under PUSHER_HOME; it runs no jobs.

    Raises FolderInUse, HomeUnusable, StoreError.
    """
    make_private_folder(settings.home)
    folder = settings.home / "serve"
    make_private_folder(folder, closed=True)
    with (
        closing(LocalRegistry(folder / "received", upload_lifetime=_UPLOAD_LIFETIME)) as registry,
        closing(Registries(store, settings, note)) as registries,
    ):
        destinations = Destinations(to, port, settings.aliases)
        upstream = Upstream(registries, destinations)
        machine = record_machine(store, settings)
        images = Images(
            *(folder / "images", store, registry, upstream, destinations, registries),
            machine=machine.id if machine else None,
        )
        api = ForwardingApi(registry, store, destinations, images, upstream, waits=waits)
        with api.tidying():
            yield api
