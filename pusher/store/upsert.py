"""Insert rows that may exist, in both databases' dialects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, inspect

from pusher.store.models import Base


def upsert(connection: Connection, table: type[Base], values: Mapping[str, Any]) -> None:
    """Insert a row, or update the one with the same primary key."""
    keys = [column.name for column in inspect(table).primary_key]
    changes = {name: value for name, value in values.items() if name not in keys}
    if not changes:
        insert_if_missing(connection, table, values)
    else:
        insert = _insert(connection, table).values(**values)
        connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=changes))


def insert_if_missing(connection: Connection, table: type[Base], values: Mapping[str, Any]) -> None:
    """Insert a row, unless one has the same key (primary or unique)."""
    connection.execute(_insert(connection, table).values(**values).on_conflict_do_nothing())


def _insert(connection: Connection, table: type[Base]) -> Any:
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)
