"""Settings of the queue: what one that ends by itself returns to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.add_column("queue_settings", sa.Column("next_value", sa.Text()))
