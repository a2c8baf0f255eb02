"""Registries: the rate of the link for all uploads together, and the gzip level that it got."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("registries", sa.Column("link_rate", sa.Float()))
    op.add_column("registries", sa.Column("gzip_level", sa.Integer()))
