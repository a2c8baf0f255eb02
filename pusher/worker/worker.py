"""Define what one worker has: its identity, its job store, its spool, its connections."""

from __future__ import annotations

from pusher.config import Settings
from pusher.dataclass import dataclass
from pusher.progress.base import Progress
from pusher.spool.spool import Spool
from pusher.store.store import Store
from pusher.worker.control import Activity
from pusher.worker.liveness import WorkerIdentity
from pusher.worker.registries import Registries


@dataclass(frozen=True)
class Worker:
    """A process that pushes jobs, with what all of its jobs share. Thread-safe."""

    identity: WorkerIdentity
    settings: Settings
    store: Store
    spool: Spool
    registries: Registries
    progress: Progress
    activity: Activity
