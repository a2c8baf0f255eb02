"""Identify a worker in its leases, and find out whether the owner of a lease is alive."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from filelock import FileLock, Timeout

from pusher import __version__
from pusher.config.private import make_private_folder
from pusher.errors import home_error
from pusher.store.leases import LONGEST_LEASE
from pusher.store.records import Machine
from pusher.store.store import Store
from pusher.system import boot_id, elapsed
from pusher.worker.expired_leases import ExpiredLeases
from pusher.worker.local_journal import SUFFIX, LocalJournal, make_left_changes
from pusher.worker.periodic import calling_every

_HEARTBEAT: Final = 1.0
"""Seconds between two checks of the leases."""
_GRACE: Final = 4 * _HEARTBEAT
"""Seconds for which an expired lease is still respected: its owner's machine may have slept or the store's
clock jumped, and it renews the lease within a heartbeat."""
_LOCK_LIMIT: Final = 10.0
"""Seconds for which a worker tries to lock its new file, which others may be looking at."""
_STEP: Final = 1.0
"""Seconds of difference from the monotonic clock after which a clock counts as changed."""


class WorkerIdentity:
    """One worker's identity: a name in its leases, and a file lock held as long as the process lives.

    A dead worker of this host is known at once because its lock is free (the kernel frees it, whatever killed
    the process); one of another host when its lease runs out. A host is known by its name, and by its boot
    where the name is another one by now, or another container's.
    """

    def __init__(self, folder: Path, lease: float, machine: Machine | None = None) -> None:
        """``machine``: where the worker is listed; None for a command that only looks at others."""
        self._folder = folder
        self.machine = machine
        self._host = socket.gethostname()
        self._name = f"{os.getpid()}-{_boot()}-{uuid.uuid4().hex[:8]}"
        self.owner = f"{self._host}/{self._name}"
        self.lease = min(lease, LONGEST_LEASE.total_seconds())
        self._lock = FileLock(self._path(self._name), timeout=_LOCK_LIMIT, poll_interval=0.01)
        self._recovery = threading.Lock()
        self._renewed_at = elapsed()
        self.longest_stall = 0.0
        """Longest time in seconds without renewal in which this worker's leases expired."""
        self._expired = ExpiredLeases(_GRACE)

    def __enter__(self) -> WorkerIdentity:
        try:
            make_private_folder(self._folder.parent)
            make_private_folder(self._folder, closed=True)
            self._lock.acquire()
            while not self._path(self._name).exists():  # removed between opening and locking it
                self._lock.release()
                self._lock.acquire()
        except OSError as error:
            message = f"{self._folder} cannot be written: {error.strerror}"
            raise home_error(error, self._folder, message) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
        if kind is None:
            self._path(self._name).unlink(missing_ok=True)
        # else leases may be left: a lock file that is free shows that their owner is dead

    def journal(self, store: Store) -> LocalJournal:
        """Return the journal of this worker for the time in which the job store is away."""
        return LocalJournal(self._folder / f"{self._name}{SUFFIX}", store.label)

    @property
    def lease_may_have_ended(self) -> bool:
        """Whether another worker may have taken over what this one had, as its leases were not renewed.

        Others respect an expired lease for a while.
        """
        return self.seconds_unrenewed >= self.lease + _GRACE * 0.75

    def register(self, store: Store) -> None:
        """List this worker in the job store."""
        if self.machine is not None:
            store.workers.register(
                self.owner, self.machine, pid=os.getpid(), version=__version__, lease=self.lease
            )

    def find_dead_owners(self, store: Store) -> set[str]:
        """Return the owners of leases that ran on this host, in this PUSHER_HOME, and are dead.

        What they could not record any more is recorded first, as their uploads may be taken over now.
        """
        with self._recovery:
            make_left_changes(self._folder, self._name, store)
        return {
            owner
            for owner in _lease_owners(store)
            if owner != self.owner and is_owner_dead(self._folder, owner)
        }

    def find_expired_owners(self, store: Store) -> set[str]:
        """Return the owners that have not renewed their leases in time, nor while this worker was looking."""
        self._look_at_leases(store)
        return self._expired.owners()

    def find_late_owners(self, store: Store) -> set[str]:
        """Return the owners of expired leases, also of those that may still be renewed."""
        self._look_at_leases(store)
        return self._expired.late_owners()

    def _look_at_leases(self, store: Store) -> None:
        began = elapsed()
        leases = store.jobs.leases()
        self._expired.update([each for each in leases if each.owner != self.owner], began, elapsed())

    @property
    def seconds_unrenewed(self) -> float:
        """Seconds since this worker's leases were last renewed."""
        return elapsed() - self._renewed_at

    def release_dead_owners(self, store: Store) -> None:
        """Release the uploads of dead workers, remove them from the list, and the lock files of those without
        a lease."""
        for owner in self.find_dead_owners(store):
            store.uploads.release_all(owner)
        listed = [worker.id for worker in store.workers.all()]
        if dead := [each for each in listed if is_owner_dead(self._folder, each)]:
            store.workers.remove(dead)
        names = {owner.partition("/")[2] for owner in _lease_owners(store)}
        for path in self._folder.glob("*.lock"):
            if path.stem not in names and path.stem != self._name:
                with contextlib.suppress(OSError), FileLock(path, timeout=0):  # else its worker lives
                    path.unlink()  # while it is locked: a worker that has just made it makes it again

    @contextlib.contextmanager
    def heartbeat(self, store: Store, check: Callable[[], None]) -> Iterator[None]:
        """Renew this worker's leases in the background, and call ``check`` every second.

        After a sleep or a change of the store's clock they are renewed before anything else, so that no other
        worker takes over. ``check`` finds out whether one did. The other workers' leases are looked at as
        well: then it is known for how long they have been expired once this worker has room for their jobs.
        """
        self._renewed_at = elapsed()
        clock: float | None = None  # the store's, as seconds after ours; None: unknown

        def beat() -> None:
            nonlocal clock
            now = elapsed()
            seen = store.now().timestamp() - now
            was_set = clock is None or abs(seen - clock) > _STEP
            if was_set or self.seconds_unrenewed >= self.lease / 3:
                if self.seconds_unrenewed > self.lease:
                    self.longest_stall = self.seconds_unrenewed
                store.jobs.renew(self.owner, self.lease)
                if not store.workers.renew(self.owner, self.lease):
                    self.register(store)
                self._renewed_at, clock = now, seen
            self._look_at_leases(store)
            check()

        with calling_every(_HEARTBEAT, beat, name="heartbeat"):
            yield

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.lock"


def _lease_owners(store: Store) -> set[str]:
    """Return the owners of all leases: one whose lock is free is dead, also once its lease has expired."""
    return {each.owner for each in store.jobs.leases()}


@functools.cache
def _boot() -> str:
    """Return the kernel's boot ID: locks of its processes are visible here, whatever the host's name is."""
    return (boot_id() or uuid.uuid4().hex)[:8].replace("-", "")


def is_owner_dead(folder: Path, owner: str) -> bool:
    """Return whether the owner of a lease ran on this host, with its lock in ``folder``, and is dead."""
    host, _, name = owner.partition("/")
    path = folder / f"{name}.lock"
    here = host == socket.gethostname() or name.split("-")[1:2] == [_boot()]
    if not here or not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return True
    except (Timeout, OSError):
        return False
