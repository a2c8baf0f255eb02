"""Only blobs that pusher made or compared are remembered for a layer.

Until now the word of images and registries was remembered, too. Unfinished jobs forget the blobs that they
have from there, and look for them again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_MEMOS = sa.table("blob_memos", sa.column("diff_id"), sa.column("digest"), sa.column("compression"))
_JOBS = sa.table(
    "jobs",
    sa.column("id"),
    sa.column("finished_at"),
    sa.column("options", sa.JSON),
)
_LAYERS = sa.table(
    "layers",
    *(sa.column(name) for name in ("job_id", "position", "diff_id", "digest", "size", "state")),
)


def upgrade() -> None:
    connection = op.get_bind()
    connection.execute(sa.delete(_MEMOS).where(_MEMOS.c.compression == "original"))
    own = sa.exists().where(_MEMOS.c.diff_id == _LAYERS.c.diff_id, _MEMOS.c.digest == _LAYERS.c.digest)
    for job in connection.execute(sa.select(_JOBS).where(_JOBS.c.finished_at.is_(None))).all():
        if not (job.options or {}).get("documents"):  # else its manifest says what its blobs are
            named = sa.and_(_LAYERS.c.job_id == job.id, _LAYERS.c.position >= 0)
            forget = sa.update(_LAYERS).where(named, ~own)
            connection.execute(forget.values(digest=None, size=None, state="pending"))
