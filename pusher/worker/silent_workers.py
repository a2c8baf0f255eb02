"""Describe workers that have jobs and give no sign of life, for a user who wants these jobs pushed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pusher.dataclass import dataclass
from pusher.store.records import JobRecord
from pusher.store.store import Store
from pusher.system import is_frozen
from pusher.text import printable
from pusher.units import human_seconds
from pusher.worker.machine import find_machine_id

_TOLERATED: Final = 5.0
"""Seconds without a renewal of the leases that are not worth a word."""


@dataclass(frozen=True)
class SilentWorker:
    """A worker that has missed a renewal of its leases, or was stopped by a signal."""

    pid: int
    host: str | None
    """The name of its machine; None for this one."""
    is_frozen: bool
    """Whether it was stopped by a signal, as far as this machine shows it."""
    silent_for: float
    """Seconds since it was last heard of."""
    free_in: float
    """Seconds after which other workers may take its jobs."""
    jobs: Sequence[JobRecord]

    @property
    def state(self) -> str:
        """Return what is known of it, to follow its name."""
        heard = f"last heard of {human_seconds(self.silent_for)} ago"
        if not self.is_frozen:
            return f"was {heard}"
        return "is frozen, as by SIGSTOP" + (f", and was {heard}" if self.silent_for >= _TOLERATED else "")

    @property
    def advice(self) -> list[str]:
        """Return how its jobs continue: each possibility."""
        wait = f"to wait until they are free, in {human_seconds(self.free_in)}: pusher run --wait"
        if self.host is not None:
            return [wait]
        end = f"to end it and continue here: kill -KILL {self.pid} && pusher run"
        return [f"to let it continue: kill -CONT {self.pid}"] * self.is_frozen + [end, wait]


def find_silent_workers(store: Store, folder: Path, jobs: Sequence[JobRecord]) -> list[SilentWorker]:
    """Return the silent workers that have ``jobs``, which are running. ``folder``: of the workers' locks."""
    now, here = store.now(), find_machine_id(folder.parent)
    names = {each.machine.id: printable(each.machine.name) for each in store.workers.machines()}
    found = []
    for worker in store.workers.all():
        theirs = [job for job in jobs if job.lease_owner == worker.id]
        host = None if worker.machine == here else names.get(worker.machine, "another machine")
        frozen = host is None and is_frozen(worker.pid)
        if theirs and (frozen or worker.is_late(now)):
            ends = [job.lease_expires_at or now for job in theirs]
            silent_for, free_in = (now - worker.seen_at).total_seconds(), (max(ends) - now).total_seconds()
            found.append(SilentWorker(worker.pid, host, frozen, silent_for, max(0.0, free_in), theirs))
    return found
