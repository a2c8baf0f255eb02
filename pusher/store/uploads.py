"""Store uploads of blobs: the state of their sessions at the registry."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import Any

from sqlalchemy import Row, and_, case, exists, func, or_, select, update

from pusher.errors import LeaseLost
from pusher.store.dead_sessions import record_dead
from pusher.store.engine import Database
from pusher.store.job_blobs import SESSION_STATES, count_sent
from pusher.store.leases import NO_LEASE, is_lapsed, lease_columns
from pusher.store.models import STORED_DONE, JobBlobRow, JobRow, KnownBlobRow, UploadRow
from pusher.store.records import JobState, UploadRecord, UploadState
from pusher.store.upsert import insert_if_missing

_NO_SESSION: dict[str, Any] = {"location": None, "offset": 0, "in_flight": 0}
_FIELDS = tuple(field.name for field in fields(UploadRecord) if field.name != "registry")


class Uploads:
    """One upload for each registry, repository and digest, shared by every job that needs the blob.

    Methods that take an UploadRecord require that the caller still holds its lease, raise LeaseLost
    otherwise, and return the new record.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(
        self,
        registry: str,
        repository: str,
        digest: str,
        *,
        owner: str,
        lease: float,
        dead_owners: Collection[str] = (),
        spared: Collection[str] = (),
    ) -> UploadRecord | None:
        """Take the upload for ``lease`` seconds.

        None while another live owner has an upload of this blob to any repository of this registry, since the
        blob can then be mounted. An owner gets its own upload again, with a new token. A session that was to
        be deleted is open again. The expired lease of an owner in ``spared`` still counts.
        """
        now = self._database.now()
        same_blob = and_(UploadRow.host == registry, UploadRow.digest == digest)
        elsewhere = and_(
            same_blob,
            UploadRow.lease_owner != owner,
            ~func.coalesce(is_lapsed(UploadRow, now, dead_owners, spared), True),
        )
        with self._database.write() as connection:
            # Two workers that ask for the blob in two repositories lock different rows.
            self._database.lock(connection, f"{registry} {digest}")
            if connection.scalar(select(exists().where(elsewhere))):
                return None
            row = and_(same_blob, UploadRow.repository == repository)
            place = {"host": registry, "repository": repository, "digest": digest}
            insert_if_missing(connection, UploadRow, place)
            values = {
                **lease_columns(owner, now, lease),
                "state": case(
                    (UploadRow.state == UploadState.ABANDONED, UploadState.OPEN), else_=UploadRow.state
                ),
                "lease_token": UploadRow.lease_token + 1,
                "used_at": now,
            }
            connection.execute(update(UploadRow).where(row).values(values))
            return _upload(connection.execute(select(UploadRow).where(row)).one())

    def record_session(
        self,
        u: UploadRecord,
        *,
        location: str,
        chunk_size: int | None,
        min_chunk: int | None,
        max_chunk: int | None,
        profile: str | None,
        restarts: bool = False,
    ) -> UploadRecord:
        """Record a new session that replaces the old one. Sizes in bytes.

        ``restarts``: whether a break inside a chunk costs, or may cost, the whole session.
        """
        return self._change(
            u,
            state=UploadState.OPEN,
            location=location,
            offset=0,
            in_flight=0,
            chunk_size=chunk_size,
            min_chunk=min_chunk,
            max_chunk=max_chunk,
            profile=profile,
            restarts=restarts,
            opened_at=self._database.now(),
        )

    def record_profile(self, u: UploadRecord, *, profile: str, restarts: bool) -> UploadRecord:
        """Record the profile that the session revealed."""
        return self._change(u, expected=SESSION_STATES, profile=profile, restarts=restarts)

    def record_chunk(self, u: UploadRecord, length: int) -> UploadRecord:
        """Record that a chunk of ``length`` bytes is about to be sent from the acknowledged offset."""
        return self._change(u, expected=SESSION_STATES, in_flight=length)

    def record_offset(
        self,
        u: UploadRecord,
        *,
        location: str,
        offset: int,
        job_id: int | None = None,
        sent: int = 0,
        wasted: int = 0,
    ) -> UploadRecord:
        """Record that the registry has the first ``offset`` bytes and accepts more at ``location``.

        ``sent`` body bytes are counted for the blob in job ``job_id`` in the same transaction; ``wasted``:
        how many of the bytes counted so far are lost.
        """
        return self._change(
            u,
            expected=SESSION_STATES,
            sent=(job_id, sent, wasted) if job_id is not None else None,
            state=UploadState.OPEN,
            location=location,
            offset=offset,
            in_flight=0,
            furthest=max(u.furthest or 0, offset),
        )

    def record_closing(self, u: UploadRecord, in_flight: int = 0) -> UploadRecord:
        """Record that the closing PUT is about to be sent, with the whole blob (``in_flight`` bytes) or
        empty."""
        return self._change(u, expected=SESSION_STATES, state=UploadState.CLOSING, in_flight=in_flight)

    def record_present(self, u: UploadRecord, *, session_left: bool = False) -> UploadRecord:
        """Record that the registry has the blob, and release the lease.

        ``session_left``: the blob came from elsewhere, and the session is to be deleted.
        """
        return self._change(
            u,
            left=u.location if session_left else None,
            state=UploadState.PRESENT,
            furthest=None,
            losses=None,
            **_NO_SESSION,
            **NO_LEASE,
        )

    def record_loss(self, u: UploadRecord, *, job_id: int | None = None, wasted: int = 0) -> UploadRecord:
        """Record that the session, if there was one, is lost with its bytes.

        It is to be deleted at the registry in case it still exists; ``wasted`` bytes are counted as in
        ``record_offset``.
        """
        return self._change(
            u,
            sent=(job_id, 0, wasted) if job_id is not None else None,
            left=u.location,
            state=UploadState.IDLE,
            losses=(u.losses or 0) + 1,
            **_NO_SESSION,
        )

    def release(self, u: UploadRecord) -> UploadRecord:
        """Release the lease; the session stays as it is."""
        return self._change(u, **NO_LEASE)

    def release_all(self, owner: str) -> None:
        """Release every lease of ``owner``, which stopped without waiting for its requests.

        The token increases, so that results of those requests are not recorded.
        """
        with self._database.write() as connection:
            connection.execute(
                update(UploadRow)
                .where(UploadRow.lease_owner == owner)
                .values(lease_token=UploadRow.lease_token + 1, **NO_LEASE)
            )

    def has_any_at(self, registry: str) -> bool:
        """Return whether a session was ever opened, or a blob found, at the registry."""
        used = or_(UploadRow.opened_at.is_not(None), UploadRow.state == UploadState.PRESENT)
        with self._database.read() as connection:
            return bool(connection.scalar(select(exists().where(UploadRow.host == registry, used))))

    def holders(self, registry: str, digest: str) -> list[str]:
        """Return the repositories known to have the blob (to mount it from), last used first."""
        query = (
            select(UploadRow.repository)
            .where(
                UploadRow.host == registry, UploadRow.digest == digest, UploadRow.state == UploadState.PRESENT
            )
            .order_by(UploadRow.used_at.desc(), UploadRow.id.desc())
        )
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def profiles(self, places: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Return by registry and repository the profile of the session that was opened last, if there was
        one."""
        found: dict[tuple[str, str], str] = {}
        with self._database.read() as connection:
            for host, repository in set(places):
                last = (
                    select(UploadRow.profile)
                    .where(UploadRow.host == host, UploadRow.repository == repository)
                    .where(UploadRow.opened_at.is_not(None), UploadRow.profile.is_not(None))
                    .order_by(UploadRow.opened_at.desc())
                    .limit(1)
                )
                if profile := connection.scalar(last):
                    found[host, repository] = profile
        return found

    def forget_present(self, registry: str, repository: str, digests: Collection[str]) -> None:
        """Record that the registry lacks these blobs after all."""
        with self._database.write() as connection:
            connection.execute(
                update(UploadRow)
                .where(UploadRow.host == registry, UploadRow.repository == repository)
                .where(UploadRow.digest.in_(set(digests)), UploadRow.state == UploadState.PRESENT)
                .values(state=UploadState.IDLE)
            )

    def abandon_unneeded(self, dead_owners: Collection[str] = ()) -> int:
        """Mark the sessions that no job can use any more for deletion; returns how many.

        A failed job keeps its sessions for ``pusher retry``; a layer whose digest is not yet known again
        keeps those of all its known blobs. Sessions under a lease are skipped.
        """
        now = self._database.now()
        unsent = (
            select(JobBlobRow.job_id)
            .join(JobRow, JobRow.id == JobBlobRow.job_id)
            .where(JobRow.host == UploadRow.host, JobRow.repository == UploadRow.repository)
            .where(or_(JobRow.finished_at.is_(None), JobRow.state == JobState.FAILED))
            .where(JobBlobRow.state.not_in(STORED_DONE))
            .correlate(UploadRow)
        )
        # two queries: with OR, SQLite reads every layer
        named = unsent.where(JobBlobRow.digest == UploadRow.digest)
        unnamed = unsent.join(KnownBlobRow, KnownBlobRow.diff_id == JobBlobRow.diff_id).where(
            JobBlobRow.digest.is_(None), KnownBlobRow.digest == UploadRow.digest
        )
        with self._database.write() as connection:
            done = connection.execute(
                update(UploadRow)
                .where(UploadRow.state.in_(SESSION_STATES), ~named.exists(), ~unnamed.exists())
                .where(or_(UploadRow.lease_owner.is_(None), is_lapsed(UploadRow, now, dead_owners)))
                .values(state=UploadState.ABANDONED, lease_token=UploadRow.lease_token + 1, **NO_LEASE)
            )
            return done.rowcount

    def list_abandoned(self) -> list[UploadRecord]:
        """Return the sessions to delete at their registries."""
        query = select(UploadRow).where(UploadRow.state == UploadState.ABANDONED).order_by(UploadRow.id)
        with self._database.read() as connection:
            return [_upload(row) for row in connection.execute(query)]

    def record_deletion(self, u: UploadRecord, *, refused: bool = False) -> None:
        """Record that an abandoned session is gone; no effect if a job uses it again meanwhile.

        ``refused``: the registry did not delete it; it is not used again, and deleting it is retried.
        """
        with self._database.write() as connection:
            done = connection.execute(
                update(UploadRow)
                .where(UploadRow.id == u.id, UploadRow.lease_token == u.lease_token)
                .where(UploadRow.state == UploadState.ABANDONED)
                .values(state=UploadState.IDLE, **_NO_SESSION)
            )
            if refused and done.rowcount and u.location is not None:
                record_dead(connection, u.registry, u.repository, u.location)

    def _change(
        self,
        u: UploadRecord,
        *,
        expected: Collection[UploadState] | None = None,
        sent: tuple[int, int, int] | None = None,
        left: str | None = None,
        **values: Any,
    ) -> UploadRecord:
        change = update(UploadRow).where(
            UploadRow.id == u.id,
            UploadRow.lease_owner.is_not(None),  # a record that was released holds none
            UploadRow.lease_owner == u.lease_owner,
            UploadRow.lease_token == u.lease_token,
        )
        if expected is not None:
            change = change.where(UploadRow.state.in_(expected))
        with self._database.write() as connection:
            now = self._database.now(connection)
            if connection.execute(change.values(used_at=now, **values)).rowcount == 0:
                raise LeaseLost(f"the upload of {u.digest} is not ours any more")
            if sent is not None:
                connection.execute(count_sent(sent[0], u.digest, *sent[1:]))
            if left is not None:
                record_dead(connection, u.registry, u.repository, left)
            return _upload(connection.execute(select(UploadRow).where(UploadRow.id == u.id)).one())


def _upload(row: Row[Any]) -> UploadRecord:
    return UploadRecord(registry=row.host, **{name: getattr(row, name) for name in _FIELDS})
