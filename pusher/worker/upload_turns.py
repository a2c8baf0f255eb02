"""Limit the uploads to one registry at a time: of all workers of the queue together, as the user set it, and
of this worker to one where each break of the link restarts all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from typing import Any, Final

from pusher.dataclass import dataclass
from pusher.store.budgets import Budgets, BudgetState
from pusher.store.upload_slots import SlotBudget, SlotUsage
from pusher.system import elapsed
from pusher.worker.share_lease import ShareLease

_CHECK_EVERY: Final = 0.1
"""Seconds between two checks of an upload that waits."""


@dataclass(eq=False)
class _Upload:
    needs_link_alone: Callable[[], bool] | None
    """Whether it waits for the others that have this, too; None: it is small."""
    is_sending: bool = False


@dataclass
class _Registry:
    name: str
    most: int | None
    """Uploads at a time of all workers; None: any number."""
    lease: ShareLease
    uploads: list[_Upload] = field(default_factory=list)
    """In the order in which they get the slots."""
    granted: int = 0
    peak: int = 0
    """Uploads at a time since the last renewal: the next one follows within milliseconds."""

    @property
    def slots(self) -> int:
        return self.granted if self.lease.is_current else 0

    def has_slot(self, upload: _Upload) -> bool:
        return self.most is None or self.uploads.index(upload) < self.slots

    def has_link(self, upload: _Upload) -> bool:
        """Return whether no other upload has the link for itself."""
        if upload.needs_link_alone is None or not upload.needs_link_alone():
            return True
        return next(other for other in self.uploads if other.needs_link_alone is not None) is upload


class UploadTurns:
    """The turns of a worker's uploads at each registry that is limited. Thread-safe.

    An upload that lost its slot pauses where it can be continued: before its next request.
    """

    def __init__(self, limit: Callable[[str], int | None], clock: Callable[[], float] = elapsed) -> None:
        """``limit`` returns the most uploads at a time to a registry; None: any number."""
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._registries: dict[str, _Registry] = {}
        self.on_lack: Callable[[], None] = lambda: None
        """Called when an upload begins to wait."""

    @contextmanager
    def join(
        self, registry: str, needs_link_alone: Callable[[], bool] | None = None
    ) -> Iterator[UploadTurn | None]:
        """Join the queue of a registry, until the context ends; None where nothing is limited.

        ``needs_link_alone`` returns whether large blobs are to be sent one at a time at present; None for a
        small one, which neither waits for others nor they for it.
        """
        most = self._limit(registry)
        if most is None and needs_link_alone is None:
            yield None
            return
        upload = _Upload(needs_link_alone)
        with self._lock:
            known = self._registries.setdefault(registry, _Registry(registry, most, ShareLease(self._clock)))
            known.uploads.append(upload)
            known.peak = max(known.peak, len(known.uploads))
        try:
            yield UploadTurn(self, known, upload)
        finally:
            with self._lock:
                known.uploads.remove(upload)

    def renew(self, budgets: Budgets, owner: str) -> None:
        """Renew the slots at each registry that is in use. Raises StoreError; the last ones are used."""
        with self._lock:
            used = [each for each in self._registries.values() if each.uploads or each.peak or each.granted]
        for registry in used:
            self._renew(budgets, owner, registry)

    def _renew(self, budgets: Budgets, owner: str, registry: _Registry) -> None:
        with self._lock:
            wanted, registry.peak = max(registry.peak, len(registry.uploads)), len(registry.uploads)
            busy = sum(upload.is_sending for upload in registry.uploads)
        self._lease(budgets, owner, registry, wanted, busy)

    def _lease(self, budgets: Budgets, owner: str, registry: _Registry, wanted: int, busy: int) -> None:
        most = registry.most
        if most is None:
            return
        with registry.lease.renewing() as renewal:

            def change(state: BudgetState) -> tuple[Mapping[str, Any], int]:
                usage = SlotUsage(wanted, busy, renewal.since(), renewal.is_new)
                budget = SlotBudget.from_json(state.content)
                granted = budget.renew(owner, most, usage, state.at)
                return budget.to_json(), granted

            granted = budgets.change(f"uploads {registry.name}", change)
        with self._lock:
            registry.granted = granted

    def release(self, budgets: Budgets, owner: str) -> None:
        """Give all slots to other workers. Raises StoreError."""
        with self._lock:
            registries = list(self._registries.values())
        for registry in registries:
            self._lease(budgets, owner, registry, 0, 0)

    def take(self, registry: _Registry, upload: _Upload, wait: Callable[[float], None]) -> None:
        """Wait until the upload has a slot; ``wait`` is called with a pause meanwhile, and may raise."""
        waited = False
        while True:
            with self._lock:
                upload.is_sending = registry.has_slot(upload) and registry.has_link(upload)
                if upload.is_sending:
                    return
            if not waited:
                waited = True
                self.on_lack()
            wait(_CHECK_EVERY)

    def give_way(self, registry: _Registry, upload: _Upload) -> None:
        """Let all other uploads go first."""
        with self._lock:
            registry.uploads.remove(upload)
            registry.uploads.append(upload)
            upload.is_sending = False

    def has_link(self, registry: _Registry, upload: _Upload) -> bool:
        """Return whether no other upload has the link for itself."""
        with self._lock:
            return registry.has_link(upload)


class UploadTurn:
    """The turn of one upload."""

    def __init__(self, turns: UploadTurns, registry: _Registry, upload: _Upload) -> None:
        self._turns = turns
        self._registry = registry
        self._upload = upload

    @property
    def most(self) -> int | None:
        """Uploads at a time that the registry gets from all workers; None: any number."""
        return self._registry.most

    @property
    def has_link(self) -> bool:
        """Return whether no other upload to the registry has the link for itself."""
        return self._turns.has_link(self._registry, self._upload)

    def give_way(self) -> None:
        """Let the other uploads go first, as this one is paused for another reason."""
        self._turns.give_way(self._registry, self._upload)

    def wait(self, wait: Callable[[float], None]) -> None:
        """Wait until the upload may send its next request; ``wait`` is called with a pause meanwhile."""
        self._turns.take(self._registry, self._upload, wait)
