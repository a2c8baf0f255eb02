"""Record which machines and workers use the job store, and when each was last seen by the store's clock."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from pusher.dataclass import dataclass
from pusher.store.connection import ResultRow, time_of
from pusher.store.engine import Database
from pusher.store.job_rows import job_of
from pusher.store.records import JobRecord, Machine
from pusher.store.writes import upsert

_GONE_FOR: Final = timedelta(days=1)
"""How long a worker that was not heard of is listed."""
_RENEWAL_TAKES: Final = timedelta(seconds=5)
"""How late a renewal may be on a busy machine."""


@dataclass(frozen=True)
class WorkerRecord:
    """A worker: a process of ``pusher run``, ``push`` or ``serve``. It removes its row when it ends."""

    id: str
    """The owner of its leases."""
    machine: str
    """The ID of its machine."""
    pid: int
    version: str
    """Of pusher."""
    started_at: datetime
    seen_at: datetime
    """When it last renewed its leases."""
    expires_at: datetime
    """When it counts as gone unless it renews them."""

    def is_gone(self, now: datetime) -> bool:
        """Return whether it has not renewed its leases in time."""
        return self.expires_at <= now

    def is_late(self, now: datetime) -> bool:
        """Return whether it has missed a renewal: there is one each third of the lease."""
        return self.is_gone(now) or now - self.seen_at > (self.expires_at - self.seen_at) / 3 + _RENEWAL_TAKES


@dataclass(frozen=True)
class MachineRecord:
    """A machine, and when a worker or another command ran there last."""

    machine: Machine
    seen_at: datetime


class Workers:
    """The machines and workers that share the job store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record_machine(self, machine: Machine) -> None:
        """Record a machine as seen now."""
        values = {**vars(machine), "seen_at": self._database.now()}
        with self._database.write() as connection:
            upsert(connection, "machines", ("id",), values)

    def register(self, worker: str, machine: Machine, *, pid: int, version: str, lease: float) -> None:
        """Record a worker that starts, and its machine. ``lease``: seconds after which it counts as gone."""
        now = self._database.now()
        values = {
            "id": worker,
            "machine": machine.id,
            "pid": pid,
            "version": version,
            "started_at": now,
            "seen_at": now,
            "expires_at": now + timedelta(seconds=lease),
        }
        with self._database.write() as connection:
            upsert(connection, "machines", ("id",), {**vars(machine), "seen_at": now})
            upsert(connection, "workers", ("id",), values)

    def renew(self, worker: str, lease: float) -> bool:
        """Record that a worker lives; return False if it is not known, as after a month of sleep."""
        now = self._database.now()
        change = "UPDATE workers SET seen_at = :now, expires_at = :until WHERE id = :worker"
        with self._database.write() as connection:
            until = now + timedelta(seconds=lease)
            return connection.execute(change, now=now, until=until, worker=worker) == 1

    def remove(self, workers: Collection[str]) -> None:
        """Remove workers that have ended; their machines were seen now."""
        seen = """UPDATE machines SET seen_at = :now
            WHERE id IN (SELECT machine FROM workers WHERE workers.id IN :workers)"""
        now = self._database.now()
        with self._database.write() as connection:
            connection.execute(seen, now=now, workers=workers)
            connection.execute("DELETE FROM workers WHERE id IN :workers", workers=workers)

    def all(self) -> list[WorkerRecord]:
        """Return the workers of each machine, in the order in which they started."""
        with self._database.read() as connection:
            found = connection.rows("SELECT * FROM workers ORDER BY machine, started_at, id")
            return list(map(_worker, found))

    def machines(self) -> list[MachineRecord]:
        """Return the machines by name; each was seen when the last of its workers was, or later."""
        query = """SELECT machines.*, max(workers.seen_at) AS worker_seen_at
            FROM machines LEFT JOIN workers ON workers.machine = machines.id
            GROUP BY machines.id ORDER BY machines.name, machines.home, machines.id"""
        with self._database.read() as connection:
            return list(map(_machine, connection.rows(query)))

    def running_jobs(self) -> list[JobRecord]:
        """Return the running jobs by ID; their workers are the owners of their leases."""
        query = "SELECT * FROM jobs WHERE finished_at IS NULL AND state = 'running' ORDER BY id"
        with self._database.read() as connection:
            return list(map(job_of, connection.rows(query)))

    def count_waiting(self) -> dict[str, int]:
        """Return how many unfinished jobs that no worker has there are for each machine, by its ID."""
        query = """SELECT machine, count(*) AS jobs FROM jobs
            WHERE finished_at IS NULL AND state <> 'running' AND machine IS NOT NULL GROUP BY machine"""
        with self._database.read() as connection:
            return {row["machine"]: row["jobs"] for row in connection.rows(query)}

    def forget(self, before: datetime) -> None:
        """Remove workers that are gone for a day, and machines without unfinished jobs that were last seen
        before a moment."""
        gone = "SELECT id FROM workers WHERE expires_at < :gone FOR UPDATE SKIP LOCKED"
        unused = """SELECT id FROM machines WHERE seen_at < :before
            AND NOT EXISTS (SELECT 1 FROM workers WHERE workers.machine = machines.id)
            AND id NOT IN (SELECT machine FROM jobs WHERE finished_at IS NULL AND machine IS NOT NULL)
            FOR UPDATE SKIP LOCKED"""
        with self._database.write() as connection:
            workers = connection.column(gone, gone=self._database.now(connection) - _GONE_FOR)
            connection.execute("DELETE FROM workers WHERE id IN :ids", ids=workers)
        with self._database.write() as connection:
            machines = connection.column(unused, before=before)
            connection.execute("DELETE FROM machines WHERE id IN :ids", ids=machines)


def _worker(row: ResultRow) -> WorkerRecord:
    return WorkerRecord(
        row["id"],
        row["machine"],
        row["pid"],
        row["version"],
        time_of(row["started_at"]),
        time_of(row["seen_at"]),
        time_of(row["expires_at"]),
    )


def _machine(row: ResultRow) -> MachineRecord:
    seen = time_of(row["seen_at"])
    if row["worker_seen_at"] is not None:
        seen = max(seen, time_of(row["worker_seen_at"]))
    return MachineRecord(Machine(row["id"], row["name"], row["home"], row["spool"]), seen)
