"""Find running jobs that need a blob which another job is pushing to the same registry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Final

from pusher.dataclass import dataclass
from pusher.store.connection import ResultRow
from pusher.store.engine import Database
from pusher.store.job_blobs import BLOB_DONE

_LEASED_BLOBS: Final = f"""
    SELECT jobs.id, jobs.host, jobs.lease_owner, jobs.priority, jobs.speed, job_blobs.digest, job_blobs.size,
        jobs.repository = uploads.repository AS is_place, uploads.lease_owner AS uploader
    FROM jobs
    JOIN job_blobs ON job_blobs.job_id = jobs.id
    JOIN uploads ON uploads.host = jobs.host AND uploads.digest = job_blobs.digest
    WHERE jobs.state = 'running' AND job_blobs.kind = 'layer' AND NOT {BLOB_DONE}
    AND uploads.lease_owner IS NOT NULL"""


@dataclass(frozen=True)
class BlobWait:
    """A running job that waits for a blob."""

    digest: str
    size: int
    """Bytes."""
    pushed_by: int
    """The job that is pushing the blob."""


class BlobWaits:
    """The waits of running jobs, as the leases of uploads show them.

    A lease has a worker, but no job. Of several jobs of that worker that need the blob, the one that is being
    sent counts as the one that pushes it, or else the first in the queue.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[int, BlobWait]:
        """Return what each job waits for; the largest blob, if it waits for several."""
        blobs: defaultdict[tuple[str, str], list[ResultRow]] = defaultdict(list)
        with self._database.read() as connection:
            for row in connection.rows(_LEASED_BLOBS):
                blobs[row["host"], row["digest"]].append(row)
        waits: dict[int, BlobWait] = {}
        for (_, digest), rows in blobs.items():
            if (pushing := _find_pushing(rows)) is None:
                continue
            for row in rows:
                wait = BlobWait(digest, row["size"] or 0, pushing)
                before = waits.get(row["id"])
                if row["id"] != pushing and (before is None or before.size < wait.size):
                    waits[row["id"]] = wait
        return waits


def _find_pushing(rows: Sequence[ResultRow]) -> int | None:
    """Return the job that is pushing the blob; None if none of the worker's jobs needs it any more."""
    candidates: Collection[ResultRow] = [row for row in rows if row["lease_owner"] == row["uploader"]]
    ranks = [(not row["speed"], not row["is_place"], -row["priority"], row["id"]) for row in candidates]
    return min(ranks)[-1] if ranks else None
