"""Who holds a lease, and whether he still lives."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from pusher.errors import HomeUnusable, PusherError
from pusher.store.store import Store


class Presence:
    """One worker's identity: a name in its leases, and a file lock held as long as the process lives.

    A dead worker of this host is known at once because its lock is free (the kernel frees it, whatever killed
    the process); one of another host when its lease runs out.
    """

    def __init__(self, folder: Path, lease: float) -> None:
        self._folder = folder
        self._host = socket.gethostname()
        self._name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.owner = f"{self._host}/{self._name}"
        self.lease = lease
        self._lock = FileLock(self._path(self._name), timeout=0)

    def __enter__(self) -> Presence:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.acquire()
        except OSError as error:
            raise HomeUnusable(
                f"{self._folder} cannot be written: {error.strerror}",
                hint="point PUSHER_HOME to a folder that you can write",
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
        if kind is None:
            self._path(self._name).unlink(missing_ok=True)
        # else leases may be left, and a lock file that is free is what tells that they bind nobody

    def dead_owners(self, store: Store) -> set[str]:
        """Owners of leases in ``store`` that ran on this host, in this PUSHER_HOME, and are gone."""
        return {
            owner for owner in store.jobs.owners() if owner != self.owner and is_dead(self._folder, owner)
        }

    def sweep(self, store: Store) -> None:
        """Remove the lock files of dead workers that hold no lease any more."""
        names = {owner.partition("/")[2] for owner in store.jobs.owners()}
        for path in self._folder.glob("*.lock"):
            if (
                path.stem not in names
                and path.stem != self._name
                and is_dead(self._folder, f"{self._host}/{path.stem}")
            ):
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def heartbeat(self, store: Store, check: Callable[[], None]) -> Iterator[None]:
        """Renew this worker's leases in the background, and call ``check`` every second."""
        done = threading.Event()

        def beat() -> None:
            beats = 0
            while not done.wait(1.0):
                beats += 1
                with contextlib.suppress(
                    PusherError
                ):  # locked for a moment: the lease outlives several beats
                    if beats % max(1, int(self.lease / 3)) == 0:
                        store.jobs.renew(self.owner, self.lease)
                    check()

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.lock"


def is_dead(folder: Path, owner: str) -> bool:
    """Whether ``owner``, of a lease, ran on this host with its lock in ``folder``, and is gone."""
    host, _, name = owner.partition("/")
    path = folder / f"{name}.lock"
    if host != socket.gethostname() or not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return True
    except (Timeout, OSError):
        return False
