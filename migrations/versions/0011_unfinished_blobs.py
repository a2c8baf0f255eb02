"""Uploads of blobs that are still being compressed.

Their digest is not known yet: the row has the layer's diff ID for it, the compression, so that the next run
makes the same bytes again, and the hash of what was sent, to see that it did.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("uploads", sa.Column("compression", sa.Text()))
    op.add_column("uploads", sa.Column("prefix_size", sa.BigInteger()))
    op.add_column("uploads", sa.Column("prefix_sha256", sa.Text()))
