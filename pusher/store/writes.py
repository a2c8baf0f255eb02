"""Write rows, given as columns and values. The names are pusher's own, never from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pusher.store.connection import Connection


def insert_sql(table: str, columns: Iterable[str]) -> str:
    """Return the INSERT of one row."""
    names = list(columns)
    quoted, values = ", ".join(f'"{name}"' for name in names), ", ".join(f":{name}" for name in names)
    return f"INSERT INTO {table} ({quoted}) VALUES ({values})"


def assignments(columns: Iterable[str]) -> str:
    """Return what follows SET in an UPDATE."""
    return ", ".join(f'"{name}" = :{name}' for name in columns)


def lock_rows(connection: Connection, table: str, where: str, /, **values: Any) -> list[int]:
    """Lock the rows of ``jobs`` or ``uploads`` that meet a condition, by id; return their ids.

    A transaction that changes several rows of a table locks them with this first, so that no two of them wait
    for each other.
    """
    return connection.column(f"SELECT id FROM {table} WHERE {where} ORDER BY id FOR UPDATE", **values)


def insert_if_missing(connection: Connection, table: str, values: Mapping[str, Any]) -> None:
    """Insert a row, unless one has the same key (primary or unique)."""
    connection.execute(f"{insert_sql(table, values)} ON CONFLICT DO NOTHING", **values)


def upsert(connection: Connection, table: str, key: tuple[str, ...], values: Mapping[str, Any]) -> None:
    """Insert a row, or update the one with the same ``key``, the columns of the primary key."""
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in values if name not in key)
    if not changes:
        insert_if_missing(connection, table, values)
        return
    conflict = f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
    connection.execute(f"{insert_sql(table, values)} {conflict}", **values)
