"""An index of the running jobs: each claim looks at their leases, however many jobs are queued."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    where = sa.text("lease_owner IS NOT NULL")
    columns = ["lease_owner", "lease_expires_at"]
    op.create_index("ix_jobs_lease", "jobs", columns, sqlite_where=where, postgresql_where=where)
