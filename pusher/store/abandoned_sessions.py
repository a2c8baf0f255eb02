"""Find sessions that no job can use any more, which are to be deleted at their registries."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from pusher.oci.digest import provisional_digest
from pusher.store.dead_sessions import record_dead
from pusher.store.engine import Database
from pusher.store.job_blobs import BLOB_DONE, HAS_SESSION
from pusher.store.leases import has_ended, lease_values
from pusher.store.records import UploadRecord
from pusher.store.uploads import NO_SESSION, upload_of
from pusher.store.writes import assignments, lock_rows

_UNSENT: Final = f"""
    SELECT 1 FROM job_blobs JOIN jobs ON jobs.id = job_blobs.job_id
    {{join}}
    WHERE jobs.host = uploads.host AND jobs.repository = uploads.repository
    AND (jobs.finished_at IS NULL OR jobs.state = 'failed') AND NOT {BLOB_DONE}"""
# three queries: with OR, SQLite reads every layer
_NEEDED_BY_DIGEST: Final = f"{_UNSENT.format(join='')} AND job_blobs.digest = uploads.digest"
_NEEDED_BY_LAYER: Final = (
    _UNSENT.format(join="JOIN known_blobs ON known_blobs.diff_id = job_blobs.diff_id")
    + " AND job_blobs.digest IS NULL AND known_blobs.digest = uploads.digest"
)
_NEEDED_BY_UNFINISHED: Final = (
    _UNSENT.format(join="")
    + " AND uploads.compression IS NOT NULL"
    + f" AND job_blobs.diff_id = substr(uploads.digest, {len(provisional_digest('')) + 1})"
)
_IS_UNNEEDED: Final = f"""{HAS_SESSION}
    AND NOT EXISTS ({_NEEDED_BY_DIGEST})
    AND NOT EXISTS ({_NEEDED_BY_LAYER})
    AND NOT EXISTS ({_NEEDED_BY_UNFINISHED})
    AND (lease_owner IS NULL OR {has_ended("uploads")} OR lease_owner IN :dead_owners)"""
_ABANDON: Final = """
    UPDATE uploads SET
        state = 'abandoned', lease_token = lease_token + 1, lease_owner = NULL, lease_expires_at = NULL
    WHERE id IN :ids"""


class AbandonedSessions:
    """The uploads whose session was given up with the last job that needed it.

    Until a session is deleted, a new job for the blob may use it again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def mark_unneeded(self, dead_owners: Collection[str] = ()) -> int:
        """Mark the sessions that no job can use any more for deletion; return how many.

        A failed job keeps its sessions for ``pusher retry``; a layer whose digest is not yet known again
        keeps those of all its known blobs, and the one begun while it was being compressed. Sessions under a
        lease are skipped.
        """
        now = self._database.now()
        with self._database.write() as connection:
            ids = lock_rows(connection, "uploads", _IS_UNNEEDED, **lease_values(now, dead_owners))
            return connection.execute(_ABANDON, ids=ids) if ids else 0

    def all(self) -> list[UploadRecord]:
        """Return the sessions to delete at their registries."""
        query = "SELECT * FROM uploads WHERE state = 'abandoned' ORDER BY id"
        with self._database.read() as connection:
            return [upload_of(row) for row in connection.rows(query)]

    def record_deletion(self, u: UploadRecord, *, refused: bool = False) -> None:
        """Record that an abandoned session is gone; no effect if a job uses it again meanwhile.

        ``refused``: the registry did not delete it; it is not used again, and deleting it is retried.
        """
        with self._database.write() as connection:
            done = connection.execute(
                f"""UPDATE uploads SET state = 'idle', {assignments(NO_SESSION)}
                WHERE id = :id AND lease_token = :token AND state = 'abandoned'""",
                id=u.id,
                token=u.lease_token,
                **NO_SESSION,
            )
            if refused and done and u.location is not None:
                record_dead(connection, u.registry, u.repository, u.location)
