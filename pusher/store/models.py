"""Define the tables: migrations lead to them, and the SQL that creates a new store is written from them.

Statements are SQL and do not need this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pusher.store.records import FINAL_STATES, BlobKind, BlobState, JobState, UploadState

_ID = BigInteger().with_variant(Integer, "sqlite")
"""SQLite assigns row ids only where the type is exactly INTEGER."""


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in UTC; SQLite keeps them as text that sorts like the times do."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone: {value!r}")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class EnumText(TypeDecorator[StrEnum]):
    """A string enum, stored as its value: adding a state does not change the column's type."""

    impl = String(16)
    cache_ok = True

    def __init__(self, enum: type[StrEnum]) -> None:
        super().__init__()
        self.enum = enum

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else self.enum(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:  # noqa: ARG002
        return None if value is None else self.enum(value)


def _where(condition: str) -> dict[str, Any]:
    """Return the options of a partial index."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


def _values(states: Iterable[StrEnum]) -> str:
    return ", ".join(f"'{state.value}'" for state in sorted(states))


class Base(DeclarativeBase):
    """Constraints have fixed names, so that later migrations can find them.

    A registry's name is in the column ``host``: SQLAlchemy reserves the attribute ``registry`` for itself.
    """

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


_HAS_WINDOW: Final = "finished_at IS NULL AND time_window IS NOT NULL"


class JobRow(Base):
    """A push: its image, destination, progress and lease."""

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(_ID, primary_key=True, autoincrement=True)
    image: Mapped[str] = mapped_column(Text)
    source: Mapped[dict[str, Any]] = mapped_column(JSON)
    config_digest: Mapped[str] = mapped_column(Text)
    host: Mapped[str] = mapped_column(Text)
    repository: Mapped[str] = mapped_column(Text)
    tag: Mapped[str | None] = mapped_column(Text)
    state: Mapped[JobState] = mapped_column(EnumText(JobState))
    priority: Mapped[int] = mapped_column(Integer)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    options: Mapped[dict[str, Any]] = mapped_column(JSON)
    documents: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list, server_default="[]")
    digest: Mapped[str | None] = mapped_column(Text)
    bytes_sent: Mapped[int] = mapped_column(BigInteger, default=0)
    error_code: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)
    error_hint: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    next_try_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    lease_owner: Mapped[str | None] = mapped_column(Text)
    lease_token: Mapped[int] = mapped_column(Integer, default=0)
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    keeps_older: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    tagging_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When the request that sets the tag was about to be sent."""
    superseded_by: Mapped[int | None] = mapped_column(BigInteger)
    waiting_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When it began to wait, if it has made no progress since."""
    waiting_reported: Mapped[str | None] = mapped_column(Text)
    """Code of this wait's error that the hook was run for."""
    labels: Mapped[dict[str, str]] = mapped_column(JSON, default=dict, server_default="{}")
    after_job: Mapped[int | None] = mapped_column(BigInteger)
    """The job starts once that one has succeeded."""
    not_before: Mapped[datetime | None] = mapped_column(UtcDateTime)
    machine: Mapped[str | None] = mapped_column(Text)
    """The machine that has the image; none where any may work on the job."""
    spool: Mapped[str | None] = mapped_column(Text)
    """The spool that has all of its blobs."""
    time_window: Mapped[str | None] = mapped_column(Text)
    """The hours in which it may be pushed, as ``config.window`` reads them."""
    speed: Mapped[int | None] = mapped_column(BigInteger)
    """Bytes a second that its worker sends."""
    in_flight: Mapped[int | None] = mapped_column(BigInteger)
    """Bytes sent of its chunks in flight when ``speed`` was measured."""

    __table_args__ = (
        CheckConstraint(f"state IN ({_values(JobState)})", name="state"),
        CheckConstraint(f"(state IN ({_values(FINAL_STATES)})) = (finished_at IS NOT NULL)", name="finished"),
        CheckConstraint("(state = 'running') = (lease_owner IS NOT NULL)", name="lease_owner"),
        CheckConstraint("(lease_owner IS NULL) = (lease_expires_at IS NULL)", name="lease_expiry"),
        CheckConstraint("(state = 'waiting') = (next_try_at IS NOT NULL)", name="next_try"),
        CheckConstraint("(state = 'succeeded') = (digest IS NOT NULL)", name="digest"),
        CheckConstraint("tagging_at IS NULL OR state = 'running'", name="tagging"),
        CheckConstraint("(state = 'superseded') = (superseded_by IS NOT NULL)", name="superseded"),
        Index("ix_jobs_state_id", "state", "id"),
        # Claims look only at unfinished jobs, however many finished ones there are.
        # Its order is that of claims: the first row that fits is the one to claim.
        Index("ix_jobs_claim", "finished_at", priority.desc(), "id"),
        Index("ix_jobs_destination", "host", "repository", "tag", "id"),
        # A tag like `latest` has as many finished jobs as there are.
        Index(
            "ix_jobs_time_window", "time_window", **_where("finished_at IS NULL AND time_window IS NOT NULL")
        ),
        Index("ix_jobs_unfinished", "host", "repository", "tag", "id", **_where("finished_at IS NULL")),
        Index("ix_jobs_superseded_by", "superseded_by", **_where("superseded_by IS NOT NULL")),
        # Every claim asks whose leases have ended, however many jobs are queued.
        Index("ix_jobs_lease", "lease_owner", "lease_expires_at", **_where("lease_owner IS NOT NULL")),
        # An id is never used twice, so that a job's number in a log stays true after `pusher prune`.
        {"sqlite_autoincrement": True},
    )


class JobBlobRow(Base):
    """A blob of a job: its config, a layer, or another one."""

    __tablename__ = "job_blobs"

    job_id: Mapped[int] = mapped_column(_ID, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    kind: Mapped[BlobKind] = mapped_column(EnumText(BlobKind))
    diff_id: Mapped[str | None] = mapped_column(Text)
    media_type: Mapped[str | None] = mapped_column(Text)
    digest: Mapped[str | None] = mapped_column(Text)
    size: Mapped[int | None] = mapped_column(BigInteger)
    state: Mapped[BlobState] = mapped_column(EnumText(BlobState))
    bytes_sent: Mapped[int] = mapped_column(BigInteger, default=0)
    bytes_wasted: Mapped[int] = mapped_column(BigInteger, default=0)

    __table_args__ = (
        # `uploading` is never stored: it follows from the upload's row.
        CheckConstraint(f"state IN ({_values(set(BlobState) - {BlobState.UPLOADING})})", name="state"),
        CheckConstraint("state = 'pending' OR digest IS NOT NULL", name="digest"),
        CheckConstraint("state <> 'ready' OR size IS NOT NULL", name="size"),
        CheckConstraint(f"kind IN ({_values(BlobKind)})", name="kind"),
        CheckConstraint("(kind = 'layer') = (diff_id IS NOT NULL)", name="diff_id"),
        CheckConstraint("kind = 'layer' OR digest IS NOT NULL", name="known"),
        Index("ix_job_blobs_digest", "digest"),
        Index("ix_job_blobs_diff_id", "diff_id"),
    )


class UploadRow(Base):
    """The one upload of a blob to a repository; ``digest`` is ``provisional_digest`` until it is known."""

    __tablename__ = "uploads"

    id: Mapped[int] = mapped_column(_ID, primary_key=True, autoincrement=True)
    host: Mapped[str] = mapped_column(Text)
    repository: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(Text)
    state: Mapped[UploadState] = mapped_column(EnumText(UploadState), default=UploadState.IDLE)
    location: Mapped[str | None] = mapped_column(Text)
    offset: Mapped[int] = mapped_column(BigInteger, default=0)
    in_flight: Mapped[int] = mapped_column(BigInteger, default=0)
    chunk_size: Mapped[int | None] = mapped_column(BigInteger)
    min_chunk: Mapped[int | None] = mapped_column(BigInteger)
    max_chunk: Mapped[int | None] = mapped_column(BigInteger)
    profile: Mapped[str | None] = mapped_column(Text)
    furthest: Mapped[int | None] = mapped_column(BigInteger)
    losses: Mapped[int | None] = mapped_column(Integer)
    restarts: Mapped[bool | None] = mapped_column(Boolean)
    compression: Mapped[str | None] = mapped_column(Text)
    prefix_size: Mapped[int | None] = mapped_column(BigInteger)
    prefix_sha256: Mapped[str | None] = mapped_column(Text)
    opened_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    lease_owner: Mapped[str | None] = mapped_column(Text)
    lease_token: Mapped[int] = mapped_column(Integer, default=0)
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    __table_args__ = (
        UniqueConstraint("host", "repository", "digest"),
        CheckConstraint(f"state IN ({_values(UploadState)})", name="state"),
        CheckConstraint("(state IN ('idle', 'present')) = (location IS NULL)", name="location"),
        CheckConstraint('location IS NOT NULL OR ("offset" = 0 AND in_flight = 0)', name="no_session"),
        CheckConstraint('"offset" >= 0 AND in_flight >= 0', name="counts"),
        CheckConstraint("(lease_owner IS NULL) = (lease_expires_at IS NULL)", name="lease_expiry"),
        Index("ix_uploads_host_digest", "host", "digest"),
        Index("ix_uploads_lease_owner", "lease_owner"),
        # Every worker repeatedly queries which leases are current and which sessions are left.
        Index("ix_uploads_lease_expires_at", "lease_expires_at"),
        Index("ix_uploads_state", "state"),
        Index("ix_uploads_used_at", "used_at"),
        Index("ix_uploads_host_repository_opened_at", "host", "repository", "opened_at"),
    )


class KnownBlobRow(Base):
    """A verified blob of a layer: compressed here, or unpacked and compared."""

    __tablename__ = "known_blobs"

    diff_id: Mapped[str] = mapped_column(Text, primary_key=True)
    digest: Mapped[str] = mapped_column(Text, primary_key=True)
    compression: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger)
    uncompressed_size: Mapped[int | None] = mapped_column(BigInteger)
    media_type: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)

    __table_args__ = (
        Index("ix_known_blobs_digest", "digest"),
        Index("ix_known_blobs_created_at", "created_at"),
    )


class DocumentRow(Base):
    """Bytes of a manifest, an index or an image config.

    With its config a known image is pushed again without an export.
    """

    __tablename__ = "documents"

    digest: Mapped[str] = mapped_column(Text, primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When a job that needs it was last recorded."""

    __table_args__ = (Index("ix_documents_used_at", "used_at"),)


class RegistryRow(Base):
    """What was learned about a registry."""

    __tablename__ = "registries"

    host: Mapped[str] = mapped_column(Text, primary_key=True)
    max_chunk: Mapped[int | None] = mapped_column(BigInteger)
    uplink: Mapped[float | None] = mapped_column(Float)
    profile: Mapped[str | None] = mapped_column(Text)
    carries: Mapped[float | None] = mapped_column(Float)
    breaks: Mapped[int | None] = mapped_column(Integer)
    limited_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    link_rate: Mapped[float | None] = mapped_column(Float)
    gzip_level: Mapped[int | None] = mapped_column(Integer)


class DeadSessionRow(Base):
    """A session that will not be used again, to be deleted at its registry."""

    __tablename__ = "dead_sessions"

    id: Mapped[int] = mapped_column(_ID, primary_key=True, autoincrement=True)
    host: Mapped[str] = mapped_column(Text)
    repository: Mapped[str] = mapped_column(Text)
    location: Mapped[str] = mapped_column(Text)
    tries: Mapped[int] = mapped_column(Integer, default=0)


class QueueSettingRow(Base):
    """A setting that running workers follow."""

    __tablename__ = "queue_settings"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    value: Mapped[str] = mapped_column(Text)
    until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    next_value: Mapped[str | None] = mapped_column(Text)
    """The value after ``until``."""


class MachineRow(Base):
    """A machine that uses the job store: a PUSHER_HOME on a host."""

    __tablename__ = "machines"

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    home: Mapped[str] = mapped_column(Text)
    spool: Mapped[str | None] = mapped_column(Text)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)


class WorkerRow(Base):
    """A process that works on jobs; its id is the owner of its leases."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    machine: Mapped[str] = mapped_column(Text, ForeignKey("machines.id", ondelete="CASCADE"))
    pid: Mapped[int] = mapped_column(Integer)
    version: Mapped[str] = mapped_column(Text)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)

    __table_args__ = (Index("ix_workers_machine", "machine"),)


class BudgetRow(Base):
    """Something that all workers divide among them, such as a rate."""

    __tablename__ = "budgets"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)


class SchemaSupportRow(Base):
    """Which versions of pusher can use the store: those that know this revision. One row."""

    __tablename__ = "schema_support"

    oldest: Mapped[str] = mapped_column(String(32), primary_key=True)


class EventRow(Base):
    """One line of a job's history."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(_ID, primary_key=True, autoincrement=True)
    job_id: Mapped[int] = mapped_column(_ID, ForeignKey("jobs.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    kind: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)

    __table_args__ = (Index("ix_events_job_id", "job_id"),)
