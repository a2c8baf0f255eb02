"""What a link carries between two breaks is remembered for each registry."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("registries", sa.Column("carries", sa.Float()))
