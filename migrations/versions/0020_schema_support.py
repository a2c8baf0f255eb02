"""Which versions of pusher can use the store, so that those of one revision before need not stop."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    table = op.create_table(
        "schema_support",
        sa.Column("oldest", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("oldest", name=op.f("pk_schema_support")),
    )
    op.bulk_insert(table, [{"oldest": revision}])
