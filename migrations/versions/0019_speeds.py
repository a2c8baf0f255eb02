"""Jobs: how fast each is sent now."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("speed", sa.BigInteger()))
    op.add_column("jobs", sa.Column("in_flight", sa.BigInteger()))
