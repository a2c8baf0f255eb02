"""Indexes for tags with many finished jobs, and for what retention reads."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    destination = ["host", "repository", "tag", "id"]
    _create_partial("ix_jobs_unfinished", destination, "finished_at IS NULL")
    _create_partial("ix_jobs_superseded_by", ["superseded_by"], "superseded_by IS NOT NULL")
    op.create_index("ix_uploads_used_at", "uploads", ["used_at"])
    op.create_index("ix_known_blobs_created_at", "known_blobs", ["created_at"])
    op.create_index("ix_documents_used_at", "documents", ["used_at"])


def _create_partial(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "jobs", columns, sqlite_where=where, postgresql_where=where)
