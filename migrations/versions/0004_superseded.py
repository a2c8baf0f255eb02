"""A newer job for a tag supersedes older ones; who sets the tag is recorded."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_CHECKS = {
    "state": "state IN ('cancelled', 'failed', 'paused', 'queued', 'running', 'succeeded', 'superseded', "
    "'waiting')",
    "finished": "(state IN ('cancelled', 'failed', 'succeeded', 'superseded')) = (finished_at IS NOT NULL)",
}


def upgrade() -> None:
    bind = op.get_bind()
    last = _last_id(bind)
    with op.batch_alter_table("jobs", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.add_column(sa.Column("keeps_older", sa.Boolean(), nullable=False, server_default=sa.false()))
        table.add_column(sa.Column("tagging_at", sa.DateTime(timezone=True)))
        table.add_column(sa.Column("superseded_by", sa.BigInteger()))
        for name, condition in _CHECKS.items():
            table.drop_constraint(op.f(f"ck_jobs_{name}"), type_="check")
            table.create_check_constraint(op.f(f"ck_jobs_{name}"), condition)
        table.create_check_constraint(op.f("ck_jobs_tagging"), "tagging_at IS NULL OR state = 'running'")
        table.create_check_constraint(
            op.f("ck_jobs_superseded"), "(state = 'superseded') = (superseded_by IS NOT NULL)"
        )
    op.create_index("ix_jobs_destination", "jobs", ["host", "repository", "tag", "id"])
    if last is not None:
        # The table was made anew; an id is never used twice, not even that of a job that was pruned.
        bind.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = 'jobs'"))
        bind.execute(
            sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('jobs', :last)"), {"last": last}
        )


def _last_id(bind: sa.Connection) -> int | None:
    if bind.dialect.name != "sqlite":
        return None
    last: int | None = bind.execute(sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")).scalar()
    return last
