"""Store uploads of blobs: the state of their sessions at the registry."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, Final

from pusher.errors import LeaseLost
from pusher.oci.digest import provisional_digest
from pusher.store.connection import Connection, ResultRow, time_if_set
from pusher.store.dead_sessions import record_dead
from pusher.store.engine import Database
from pusher.store.job_blobs import HAS_SESSION, NEW_UPLOAD, count_sent
from pusher.store.leases import NO_LEASE, is_lapsed, lease_columns, lease_values
from pusher.store.records import UploadRecord, UploadState
from pusher.store.writes import assignments, insert_if_missing, lock_rows

SESSION_STATES: Final = (UploadState.OPEN, UploadState.CLOSING)
"""The states in which a session holds bytes."""

_NO_PREFIX: Final[dict[str, Any]] = {"prefix_size": None, "prefix_sha256": None}
NO_SESSION: Final[dict[str, Any]] = {"location": None, "offset": 0, "in_flight": 0, **_NO_PREFIX}
"""The columns of an upload without a session."""
_SESSION: Final = (
    *("location", "offset", "in_flight", "chunk_size", "min_chunk", "max_chunk", "profile", "restarts"),
    *("opened_at", "furthest"),
)
"""The columns of a session."""
_FIELDS = tuple(field.name for field in fields(UploadRecord))
_COLUMNS: Final = {"registry": "host"}

_AT_PLACE: Final = "host = :host AND repository = :repository AND digest = :digest"

_IS_UPLOADED: Final = """SELECT id FROM uploads WHERE host = :host AND digest = :digest AND (
    lease_owner IS NOT NULL OR (repository = :repository AND location IS NOT NULL)) LIMIT 1"""


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
        expired_owners: Collection[str] = (),
        compression: str | None = None,
    ) -> UploadRecord | None:
        """Take the upload for ``lease`` seconds; ``compression`` is that of an unfinished blob.

        None while another live owner has an upload of this blob to any repository of this registry, since the
        blob can then be mounted. An owner gets its own upload again, with a new token. A session that was to
        be deleted is open again. Leases of ``dead_owners`` do not count, nor expired ones of
        ``expired_owners``.
        """
        now = self._database.now()
        place = {"host": registry, "repository": repository, "digest": digest}
        with self._database.write() as connection:
            # Two workers that ask for the blob in two repositories lock different rows.
            self._database.lock(connection, f"{registry} {digest}")
            leases = lease_values(now, dead_owners, expired_owners)
            if _is_leased(connection, registry, digest, owner, leases):
                return None
            insert_if_missing(connection, "uploads", {**NEW_UPLOAD, **place})
            values = {**lease_columns(owner, now, lease), "compression": compression, "used_at": now}
            connection.execute(
                f"""UPDATE uploads SET {assignments(values)}, lease_token = lease_token + 1,
                state = CASE WHEN state = 'abandoned' THEN 'open' ELSE state END
                WHERE {_AT_PLACE}""",
                **values,
                **place,
            )
            (row,) = connection.rows(f"SELECT * FROM uploads WHERE {_AT_PLACE}", **place)
            return upload_of(row)

    def is_leased_by_others(
        self,
        registry: str,
        digest: str,
        *,
        owner: str,
        dead_owners: Collection[str] = (),
        expired_owners: Collection[str] = (),
    ) -> bool:
        """Return whether ``acquire`` would return None."""
        leases = lease_values(self._database.now(), dead_owners, expired_owners)
        with self._database.read() as connection:
            return _is_leased(connection, registry, digest, owner, leases)

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
            **_NO_PREFIX,
        )

    def record_profile(self, u: UploadRecord, *, profile: str, restarts: bool) -> UploadRecord:
        """Record the profile that the session revealed."""
        return self._change(u, expected=SESSION_STATES, profile=profile, restarts=restarts)

    def record_chunk(self, u: UploadRecord, length: int, prefix_sha256: str | None = None) -> UploadRecord:
        """Record that a chunk of ``length`` bytes is about to be sent from the acknowledged offset.

        ``prefix_sha256``: of an unfinished blob, the hash of all bytes up to the end of that chunk.
        """
        prefix: dict[str, Any] = {}
        if prefix_sha256 is not None:
            prefix = {"prefix_size": u.offset + length, "prefix_sha256": prefix_sha256}
        return self._change(u, expected=SESSION_STATES, in_flight=length, **prefix)

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

    def record_prefix(self, u: UploadRecord, size: int, sha256: str) -> UploadRecord:
        """Record the hash of the first ``size`` bytes of an unfinished blob, which are about to be sent."""
        return self._change(u, expected=SESSION_STATES, prefix_size=size, prefix_sha256=sha256)

    def record_closing(self, u: UploadRecord, in_flight: int = 0) -> UploadRecord:
        """Record that the closing PUT is about to be sent, with the whole blob (``in_flight`` bytes) or
        empty."""
        return self._change(u, expected=SESSION_STATES, state=UploadState.CLOSING, in_flight=in_flight)

    def record_present(
        self,
        u: UploadRecord,
        *,
        session_left: bool = False,
        job_id: int | None = None,
        sent: int = 0,
        wasted: int = 0,
    ) -> UploadRecord:
        """Record that the registry has the blob, and release the lease.

        ``session_left``: the blob came from elsewhere, and the session is to be deleted. ``sent`` and
        ``wasted`` are counted as in ``record_offset``.
        """
        return self._change(
            u,
            sent=(job_id, sent, wasted) if job_id is not None and (sent or wasted) else None,
            left=u.location if session_left else None,
            state=UploadState.PRESENT,
            furthest=None,
            losses=None,
            **NO_SESSION,
            **NO_LEASE,
        )

    def record_loss(
        self, u: UploadRecord, *, job_id: int | None = None, wasted: int = 0, is_discarded: bool = False
    ) -> UploadRecord:
        """Record that the session, if there was one, is lost with its bytes.

        It is to be deleted at the registry in case it still exists; ``wasted`` bytes are counted as in
        ``record_offset``. ``is_discarded``: it was given up here, so it is none of the registry's losses.
        """
        return self._change(
            u,
            sent=(job_id, 0, wasted) if job_id is not None else None,
            left=u.location,
            state=UploadState.IDLE,
            losses=(u.losses or 0) + (not is_discarded),
            **NO_SESSION,
        )

    def give_digest(self, u: UploadRecord, digest: str) -> bool:
        """Record the digest of an unfinished blob, which is complete now. Raises LeaseLost.

        Return False, without a change, if there is an upload of that blob already.
        """
        place = {"host": u.registry, "repository": u.repository, "digest": digest}
        with self._database.write() as connection:
            self._database.lock(connection, f"{u.registry} {digest}")
            if connection.value(_IS_UPLOADED, **place) is not None:
                return False
            lock_rows(connection, "uploads", f"id = :own_id OR {_AT_PLACE}", own_id=u.id, **place)
            connection.execute(f"DELETE FROM uploads WHERE {_AT_PLACE}", **place)
            self._update(connection, u, {"digest": digest, "compression": None})
            return True

    def unfinished(self, registry: str, repository: str, diff_id: str) -> UploadRecord | None:
        """Return the upload with a session that was begun while this layer was being compressed."""
        place = {"host": registry, "repository": repository, "digest": provisional_digest(diff_id)}
        with self._database.read() as connection:
            row = connection.row(f"SELECT * FROM uploads WHERE {_AT_PLACE} AND location IS NOT NULL", **place)
            return None if row is None else upload_of(row)

    def begun_elsewhere(self, u: UploadRecord) -> list[UploadRecord]:
        """Return the uploads of the same blob to other repositories of the registry whose sessions are ahead
        of this one by a chunk or more, the furthest first. Others may have their leases."""
        query = f"""SELECT * FROM uploads
            WHERE host = :host AND digest = :digest AND repository <> :repository
            AND {HAS_SESSION} AND "offset" - :offset >= chunk_size ORDER BY "offset" DESC, id"""
        place = {"host": u.registry, "repository": u.repository, "digest": u.digest}
        with self._database.read() as connection:
            return [upload_of(row) for row in connection.rows(query, offset=u.offset, **place)]

    def take_session(self, u: UploadRecord, unfinished: UploadRecord) -> UploadRecord:
        """Move the session of an unfinished blob to the upload of the complete one, which has none.

        The caller holds the leases of both; that of ``unfinished`` is released.
        """
        session = {name: getattr(unfinished, name) for name in _SESSION}
        with self._database.write() as connection:
            lock_rows(connection, "uploads", "id IN :ids", ids=(u.id, unfinished.id))
            self._update(connection, unfinished, {"state": UploadState.IDLE, **NO_SESSION, **NO_LEASE})
            return self._update(connection, u, {**session, "state": UploadState.OPEN})

    def make_late_change(self, change: str, u: UploadRecord, values: Mapping[str, Any]) -> bool:
        """Call the method ``change`` for a worker that was killed before it could; return whether it was.

        Nothing is changed, and False returned, if the upload has another session by now or is further, or if
        the change was made after all. Raises LeaseLost if another worker has it.
        """
        with self._database.read() as connection:
            row = connection.row("SELECT * FROM uploads WHERE id = :id", id=u.id)
        now = None if row is None else upload_of(row)
        if now is None or (now.lease_owner, now.lease_token) != (u.lease_owner, u.lease_token):
            raise LeaseLost(f"the upload of {u.digest} is not ours any more")
        # an older offset: of a server that lost its last second when it failed over
        if now.opened_at != u.opened_at or now.offset > u.offset or now.state not in (u.state, "open"):
            return False
        reached = values.get("location", now.location), values.get("offset", now.offset)
        if change == "record_offset" and (now.location, now.offset, now.in_flight) == (*reached, 0):
            return False
        getattr(self, change)(u, **values)
        return True

    def release(self, u: UploadRecord) -> UploadRecord:
        """Release the lease; the session stays as it is."""
        return self._change(u, **NO_LEASE)

    def release_all(self, owner: str) -> None:
        """Release every lease of ``owner``, which stopped without waiting for its requests.

        The token increases, so that results of those requests are not recorded.
        """
        with self._database.write() as connection:
            ids = lock_rows(connection, "uploads", "lease_owner = :owner", owner=owner)
            connection.execute(
                f"""UPDATE uploads SET lease_token = lease_token + 1, {assignments(NO_LEASE)}
                WHERE id IN :ids""",
                ids=ids,
                **NO_LEASE,
            )

    def has_any_at(self, registry: str) -> bool:
        """Return whether a session was ever opened, or a blob found, at the registry."""
        query = """SELECT id FROM uploads WHERE host = :host AND (opened_at IS NOT NULL OR state = 'present')
            LIMIT 1"""
        with self._database.read() as connection:
            return connection.value(query, host=registry) is not None

    def holders(self, registry: str, digest: str) -> list[str]:
        """Return the repositories known to have the blob (to mount it from), last used first."""
        query = """SELECT repository FROM uploads
            WHERE host = :host AND digest = :digest AND state = 'present' ORDER BY used_at DESC, id DESC"""
        with self._database.read() as connection:
            return connection.column(query, host=registry, digest=digest)

    def profiles(self, places: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Return by registry and repository the profile of the session that was opened last, if there was
        one."""
        found: dict[tuple[str, str], str] = {}
        last = """SELECT profile FROM uploads WHERE host = :host AND repository = :repository
            AND opened_at IS NOT NULL AND profile IS NOT NULL ORDER BY opened_at DESC LIMIT 1"""
        with self._database.read() as connection:
            for host, repository in set(places):
                if profile := connection.value(last, host=host, repository=repository):
                    found[host, repository] = profile
        return found

    def forget_present(self, registry: str, repository: str, digests: Collection[str]) -> None:
        """Record that the registry lacks these blobs after all."""
        # coalesce: with a plain comparison SQLite reads all that are present
        where = """host = :host AND repository = :repository AND digest IN :digests
            AND coalesce(state, '') = 'present'"""
        with self._database.write() as connection:
            ids = lock_rows(
                connection, "uploads", where, host=registry, repository=repository, digests=digests
            )
            connection.execute("UPDATE uploads SET state = 'idle' WHERE id IN :ids", ids=ids)

    def _change(
        self,
        u: UploadRecord,
        *,
        expected: Collection[UploadState] | None = None,
        sent: tuple[int, int, int] | None = None,
        left: str | None = None,
        **values: Any,
    ) -> UploadRecord:
        with self._database.write() as connection:
            changes = {"used_at": self._database.now(connection), **values}
            changed = self._update(connection, u, changes, expected)
            if sent is not None:
                count_sent(connection, sent[0], u.digest, *sent[1:])
            if left is not None:
                record_dead(connection, u.registry, u.repository, left)
            return changed

    @staticmethod
    def _update(
        connection: Connection,
        u: UploadRecord,
        changes: Mapping[str, Any],
        expected: Collection[UploadState] | None = None,
    ) -> UploadRecord:
        """Change an upload whose lease is held, and is in one of the states ``expected``."""
        # a record that was released has no owner, and matches nothing
        held = "id = :held_id AND lease_owner = :held_by AND lease_token = :held_token"
        if expected is not None:
            held += " AND state IN :expected"
        changed = connection.execute(
            f"UPDATE uploads SET {assignments(changes)} WHERE {held}",
            **changes,
            held_id=u.id,
            held_by=u.lease_owner,
            held_token=u.lease_token,
            expected=expected,
        )
        if changed == 0:
            raise LeaseLost(f"the upload of {u.digest} is not ours any more")
        (row,) = connection.rows("SELECT * FROM uploads WHERE id = :id", id=u.id)
        return upload_of(row)


def _is_leased(
    connection: Connection, registry: str, digest: str, owner: str, leases: Mapping[str, Any]
) -> bool:
    """Return whether another owner has an upload of the blob; ``leases``: the result of ``lease_values``."""
    query = f"""SELECT id FROM uploads WHERE host = :host AND digest = :digest
        AND lease_owner <> :owner AND NOT coalesce({is_lapsed("uploads")}, TRUE) LIMIT 1"""
    return connection.value(query, host=registry, digest=digest, owner=owner, **leases) is not None


def upload_of(row: ResultRow) -> UploadRecord:
    """Return the record of a row of ``uploads``."""
    values = {name: row[_COLUMNS.get(name, name)] for name in _FIELDS}
    values["state"] = UploadState(values["state"])
    values["restarts"] = None if values["restarts"] is None else bool(values["restarts"])
    for name in ("opened_at", "used_at"):
        values[name] = time_if_set(values[name])
    return UploadRecord(**values)
