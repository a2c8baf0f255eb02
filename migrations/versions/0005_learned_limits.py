"""What is learned of a registry has an age; bytes sent in vain and sessions left behind are kept.

Limits learned from bodies of a few bytes are dropped, and with them the ways of sending that passing errors
taught; chunk sizes of open sessions are raised to what is worth a request.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MIN_CHUNK = 256 * 1024
_MIN_LIMIT = 1024 * 1024


def upgrade() -> None:
    op.add_column("registries", sa.Column("breaks", sa.Integer()))
    op.add_column("registries", sa.Column("limited_at", sa.DateTime(timezone=True)))
    op.add_column("layers", sa.Column("bytes_wasted", sa.BigInteger()))
    op.add_column("uploads", sa.Column("furthest", sa.BigInteger()))
    op.add_column("uploads", sa.Column("losses", sa.Integer()))
    op.add_column("uploads", sa.Column("restarts", sa.Boolean()))
    op.create_table(
        "dead_sessions",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_sessions")),
    )
    registries = sa.table(
        "registries", sa.column("max_chunk"), sa.column("profile"), sa.column("carries"), sa.column("breaks")
    )
    op.execute(registries.update().where(registries.c.max_chunk < _MIN_LIMIT).values(max_chunk=None))
    op.execute(
        registries.update().where(registries.c.profile.in_(["monolithic", "chunked"])).values(profile=None)
    )
    op.execute(registries.update().where(registries.c.carries < 8 * _MIN_CHUNK).values(carries=None))
    uploads = sa.table(
        "uploads", sa.column("chunk_size"), sa.column("max_chunk"), sa.column("profile"), sa.column("state")
    )
    tiny = (uploads.c.chunk_size < _MIN_CHUNK, uploads.c.state.in_(["open", "abandoned"]))
    op.execute(
        uploads.update()
        .where(*tiny, sa.func.coalesce(uploads.c.profile, "") != "serverless-registry")
        .values(chunk_size=_MIN_CHUNK, max_chunk=None)
    )
