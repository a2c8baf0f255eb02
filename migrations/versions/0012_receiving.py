"""Jobs may be receiving their image: the client of a registry on this machine still sends it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_STATES = (
    "state IN ('cancelled', 'failed', 'paused', 'queued', 'receiving', 'running', 'succeeded', 'superseded', "
    "'waiting')"
)


def upgrade() -> None:
    bind = op.get_bind()
    last = _last_id(bind)
    op.drop_index("ix_jobs_claim", "jobs")  # its order is lost where the table is made anew
    with op.batch_alter_table("jobs", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.drop_constraint(op.f("ck_jobs_state"), type_="check")
        table.create_check_constraint(op.f("ck_jobs_state"), _STATES)
    op.create_index("ix_jobs_claim", "jobs", ["finished_at", sa.text("priority DESC"), "id"])
    if last is not None:
        # An id is never used twice, not even that of a job that was pruned.
        bind.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = 'jobs'"))
        bind.execute(
            sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('jobs', :last)"), {"last": last}
        )


def _last_id(bind: sa.Connection) -> int | None:
    if bind.dialect.name != "sqlite":
        return None
    last: int | None = bind.execute(sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")).scalar()
    return last
