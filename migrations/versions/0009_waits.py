"""Jobs: since when one waits without progress, and what was reported of that."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("waiting_since", sa.DateTime(timezone=True)))
    op.add_column("jobs", sa.Column("waiting_reported", sa.Text()))
