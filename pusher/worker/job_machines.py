"""Describe the machines that share a job store, for users: their names, and what each does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pusher.dataclass import dataclass
from pusher.store.records import JobRecord, JobState
from pusher.store.store import Store
from pusher.store.workers import MachineRecord, WorkerRecord
from pusher.text import printable
from pusher.units import human_seconds
from pusher.worker.machine import find_machine_id


@dataclass(frozen=True)
class JobMachine:
    """The machine that has a job's image."""

    id: str
    name: str
    """Of the host."""
    label: str
    """The name, and the home where another machine has the same name."""
    seen_at: datetime
    is_here: bool
    has_worker: bool
    """A worker that may push the job is alive."""

    def absence(self, now: datetime) -> str:
        """Return that the job waits for a worker there; "" if one lives, or this is the machine."""
        if self.has_worker or self.is_here:
            return ""
        ago = human_seconds(max(0.0, (now - self.seen_at).total_seconds()))
        return f"no worker runs on its machine {printable(self.label)}, which was last seen {ago} ago"


class JobMachines:
    """The machines of jobs. Where all images are on one machine, the job store is not asked."""

    def __init__(self, store: Store, workers: Path, jobs: Sequence[JobRecord]) -> None:
        """``workers``: the folder of the workers' lock files."""
        self._found: dict[str, JobMachine] = {}
        self._spools: set[str | None] = set()
        now = self._now = store.now()
        listed = store.workers.all()
        self._late = {worker.id: worker for worker in listed if worker.is_late(now)}
        alive = {worker.machine for worker in listed if not worker_is_gone(worker, now, workers)}
        self._are_alive = bool(alive)
        if all(job.machine is None for job in jobs):
            self.are_several = False
            return
        here = find_machine_id(workers.parent)
        machines = store.workers.machines()
        self.are_several = any(each.machine.id != here for each in machines)
        """Whether users need to know which one a job is for."""
        names = Counter(each.machine.name for each in machines)
        for each in machines:
            machine = each.machine
            label = f"{machine.name} {machine.home}" if names[machine.name] > 1 else machine.name
            if machine.id in alive:
                self._spools.add(machine.spool)
            self._found[machine.id] = JobMachine(
                machine.id, machine.name, label, each.seen_at, machine.id == here, machine.id in alive
            )

    def has_worker(self, job: JobRecord) -> bool:
        """Return whether a worker is alive that may push the job."""
        machine = self.of(job)
        return self._are_alive if machine is None else machine.has_worker

    def silence(self, job: JobRecord) -> float | None:
        """Return for how many seconds the worker of a running job has given no sign of life; None if it is
        not late."""
        if job.state is not JobState.RUNNING:
            return None
        worker = self._late.get(job.lease_owner or "")
        if worker is None and not job.has_lapsed(self._now):
            return None
        seen_at = job.lease_expires_at if worker is None else worker.seen_at
        return (self._now - (seen_at or self._now)).total_seconds()

    def of(self, job: JobRecord) -> JobMachine | None:
        """Return the machine of a job; None if any may work on it."""
        found = None if job.machine is None else self._found.get(job.machine)
        if found is not None and job.spool is not None and job.spool in self._spools:
            return replace(found, has_worker=True)  # on another machine, which has the blobs as well
        return found


@dataclass(frozen=True)
class ListedWorker:
    """A worker and the jobs that it runs."""

    worker: WorkerRecord
    is_gone: bool
    jobs: Sequence[JobRecord]


@dataclass(frozen=True)
class ListedMachine:
    """A machine with its workers; ``waiting``: unfinished jobs whose images it has, without those it runs."""

    record: MachineRecord
    is_here: bool
    waiting: int
    workers: Sequence[ListedWorker]


def list_machines(store: Store, workers: Path) -> list[ListedMachine]:
    """Return the machines that use the job store, and their workers. ``workers``: as for JobMachines."""
    now, here = store.now(), find_machine_id(workers.parent)
    running: dict[str | None, list[JobRecord]] = {}
    for job in store.workers.running_jobs():
        running.setdefault(job.lease_owner, []).append(job)
    listed: dict[str, list[ListedWorker]] = {}
    for worker in store.workers.all():
        is_gone = worker_is_gone(worker, now, workers)
        found = ListedWorker(worker, is_gone, running.get(worker.id, []))
        listed.setdefault(worker.machine, []).append(found)
    waiting = store.workers.count_waiting()
    return [
        ListedMachine(
            each, each.machine.id == here, waiting.get(each.machine.id, 0), listed.get(each.machine.id, [])
        )
        for each in store.workers.machines()
    ]


def describe_silence(seconds: float) -> str:
    """Return that a worker is gone, or hangs."""
    return f"no sign of life from its worker for {human_seconds(seconds)}"


def worker_is_gone(worker: WorkerRecord, now: datetime, workers: Path) -> bool:
    """Return whether a worker died: its lock shows it here, elsewhere the time since it was last seen."""
    from pusher.worker.liveness import is_owner_dead  # imports filelock

    return worker.is_gone(now) or is_owner_dead(workers, worker.id)
