"""What finds old rows, and those that are looked for again and again, without reading all of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("configs", sa.Column("used_at", sa.DateTime(timezone=True)))
    op.create_index("ix_layers_diff_id", "layers", ["diff_id"])
    op.create_index("ix_uploads_state", "uploads", ["state"])
    op.create_index("ix_uploads_lease_expires_at", "uploads", ["lease_expires_at"])
    op.create_index("ix_uploads_host_repository_opened_at", "uploads", ["host", "repository", "opened_at"])
