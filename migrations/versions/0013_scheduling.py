"""Jobs: labels, the job that each starts after, and the time before which it does not start."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("labels", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("jobs", sa.Column("after_job", sa.BigInteger()))
    op.add_column("jobs", sa.Column("not_before", sa.DateTime(timezone=True)))
