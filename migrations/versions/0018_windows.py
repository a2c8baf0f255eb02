"""Jobs: the hours in which each may be pushed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("time_window", sa.Text()))
    where = sa.text("finished_at IS NULL AND time_window IS NOT NULL")
    op.create_index(
        "ix_jobs_time_window", "jobs", ["time_window"], sqlite_where=where, postgresql_where=where
    )
