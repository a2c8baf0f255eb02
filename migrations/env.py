"""Runs the migrations on the connection that pusher hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from pusher.store.models import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    transactional_ddl=True,  # true of both databases; Alembic does not assume it of SQLite
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
