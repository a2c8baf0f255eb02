"""The job store as first released.

Migrations do not import the models, which go on changing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "blob_memos",
        sa.Column("diff_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("compression", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("uncompressed_size", sa.BigInteger()),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("diff_id", "digest", name=op.f("pk_blob_memos")),
    )
    op.create_index("ix_blob_memos_digest", "blob_memos", ["digest"])
    op.create_table(
        "configs",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_configs")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("image", sa.Text(), nullable=False),
        sa.Column("source", sa.JSON(), nullable=False),
        sa.Column("config_digest", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("digest", sa.Text()),
        sa.Column("bytes_sent", sa.BigInteger(), nullable=False),
        sa.Column("error_code", sa.Text()),
        sa.Column("error_message", sa.Text()),
        sa.Column("error_hint", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("next_try_at", sa.DateTime(timezone=True)),
        sa.Column("lease_owner", sa.Text()),
        sa.Column("lease_token", sa.Integer(), nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint(
            "(state = 'running') = (lease_owner IS NOT NULL)", name=op.f("ck_jobs_lease_owner")
        ),
        sa.CheckConstraint("(state = 'succeeded') = (digest IS NOT NULL)", name=op.f("ck_jobs_digest")),
        sa.CheckConstraint("(state = 'waiting') = (next_try_at IS NOT NULL)", name=op.f("ck_jobs_next_try")),
        sa.CheckConstraint(
            "(state IN ('cancelled', 'failed', 'succeeded')) = (finished_at IS NOT NULL)",
            name=op.f("ck_jobs_finished"),
        ),
        sa.CheckConstraint(
            "state IN ('cancelled', 'failed', 'paused', 'queued', 'running', 'succeeded', 'waiting')",
            name=op.f("ck_jobs_state"),
        ),
        sa.CheckConstraint(
            "(lease_owner IS NULL) = (lease_expires_at IS NULL)", name=op.f("ck_jobs_lease_expiry")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_claim", "jobs", ["finished_at", "priority", "id"])
    op.create_index("ix_jobs_state_id", "jobs", ["state", "id"])
    op.create_table(
        "registries",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("max_chunk", sa.BigInteger()),
        sa.Column("uplink", sa.Float()),
        sa.Column("profile", sa.Text()),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_registries")),
    )
    op.create_table(
        "uploads",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("location", sa.Text()),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("in_flight", sa.BigInteger(), nullable=False),
        sa.Column("chunk_size", sa.BigInteger()),
        sa.Column("min_chunk", sa.BigInteger()),
        sa.Column("max_chunk", sa.BigInteger()),
        sa.Column("profile", sa.Text()),
        sa.Column("opened_at", sa.DateTime(timezone=True)),
        sa.Column("used_at", sa.DateTime(timezone=True)),
        sa.Column("lease_owner", sa.Text()),
        sa.Column("lease_token", sa.Integer(), nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint(
            "(state IN ('idle', 'present')) = (location IS NULL)", name=op.f("ck_uploads_location")
        ),
        sa.CheckConstraint(
            "state IN ('abandoned', 'closing', 'idle', 'open', 'present')", name=op.f("ck_uploads_state")
        ),
        sa.CheckConstraint('"offset" >= 0 AND in_flight >= 0', name=op.f("ck_uploads_counts")),
        sa.CheckConstraint(
            "(lease_owner IS NULL) = (lease_expires_at IS NULL)", name=op.f("ck_uploads_lease_expiry")
        ),
        sa.CheckConstraint(
            'location IS NOT NULL OR ("offset" = 0 AND in_flight = 0)', name=op.f("ck_uploads_no_session")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
        sa.UniqueConstraint("host", "repository", "digest", name=op.f("uq_uploads_host_repository_digest")),
    )
    op.create_index("ix_uploads_lease_owner", "uploads", ["lease_owner"])
    op.create_index("ix_uploads_host_digest", "uploads", ["host", "digest"])
    op.create_table(
        "events",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_events_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index("ix_events_job_id", "events", ["job_id"])
    op.create_table(
        "layers",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("diff_id", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text()),
        sa.Column("digest", sa.Text()),
        sa.Column("size", sa.BigInteger()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("bytes_sent", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state <> 'ready' OR size IS NOT NULL", name=op.f("ck_layers_size")),
        sa.CheckConstraint("state = 'pending' OR digest IS NOT NULL", name=op.f("ck_layers_digest")),
        sa.CheckConstraint(
            "state IN ('exists', 'mounted', 'pending', 'ready', 'uploaded')", name=op.f("ck_layers_state")
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_layers_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "position", name=op.f("pk_layers")),
    )
    op.create_index("ix_layers_digest", "layers", ["digest"])
