"""Run SQL that is written once for SQLite and PostgreSQL.

A value is named, ``:name``. A collection after ``IN`` or ``NOT IN`` is one value, so that the text of a
statement does not depend on its values, and a collection may have any length. A statement may end in
``FOR UPDATE`` or ``FOR SHARE``; SQLite, with one writer at a time, does not need that. SQLAlchemy could do
all this, but importing it takes longer than most commands.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Any, Final, Protocol

from pusher.dataclass import dataclass

_COLLECTION: Final = re.compile(r"\b(NOT )?IN :(\w+)")
_VALUE: Final = re.compile(r":(\w+)")
_PLAIN: Final = (str, int, float, bytes)
_ROW_LOCK: Final = re.compile(r"\s+FOR (?:UPDATE|SHARE)(?: SKIP LOCKED)?\s*$")


class ResultRow(Protocol):
    """A row of a result."""

    def __getitem__(self, column: str, /) -> Any: ...


@dataclass(frozen=True)
class Driver:
    """What differs between the two drivers."""

    name: str
    statement: Callable[[str], str]
    """Translates a statement."""
    value: Callable[[Any], Any]
    """Converts a value."""
    row: Any
    """The factory of rows with named columns."""
    returns_id: bool
    """Whether INSERT has to ask for the new id; SQLite can be asked only from 3.35 on."""


class Connection:
    """A connection inside a transaction."""

    def __init__(self, raw: Any, driver: Driver) -> None:
        self._raw = raw
        self._driver = driver

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite."""
        return self._driver is SQLITE

    def execute(self, sql: str, /, **values: Any) -> int:
        """Run a statement; return the number of rows that it changed."""
        return int(self._run(self._raw.cursor(), sql, values).rowcount)

    def execute_many(self, sql: str, rows: Iterable[Mapping[str, Any]], /) -> None:
        """Run a statement once for each row of values."""
        value = self._driver.value
        converted = [{name: value(each) for name, each in row.items()} for row in rows]
        self._raw.cursor().executemany(self._driver.statement(sql), converted)

    def insert(self, sql: str, /, **values: Any) -> int:
        """Run an INSERT of one row; return its ``id``."""
        cursor = self._raw.cursor()
        if self._driver.returns_id:
            return int(self._run(cursor, f"{sql} RETURNING id", values).fetchone()[0])
        return int(self._run(cursor, sql, values).lastrowid)

    def rows(self, sql: str, /, **values: Any) -> list[ResultRow]:
        """Return all rows of a query."""
        cursor = self._raw.cursor()
        cursor.row_factory = self._driver.row
        found: list[ResultRow] = self._run(cursor, sql, values).fetchall()
        return found

    def row(self, sql: str, /, **values: Any) -> ResultRow | None:
        """Return the one row of a query; None without one."""
        return next(iter(self.rows(sql, **values)), None)

    def value(self, sql: str, /, **values: Any) -> Any:
        """Return the first column of the one row of a query; None without one."""
        return next(iter(self.column(sql, **values)), None)

    def column(self, sql: str, /, **values: Any) -> list[Any]:
        """Return the first column of all rows of a query."""
        return [row[0] for row in self._run(self._raw.cursor(), sql, values).fetchall()]

    def _run(self, cursor: Any, sql: str, values: Mapping[str, Any]) -> Any:
        value = self._driver.value
        cursor.execute(self._driver.statement(sql), {name: value(each) for name, each in values.items()})
        return cursor


@lru_cache(maxsize=1024)
def _sqlite_statement(sql: str) -> str:
    return _COLLECTION.sub(r"\1IN (SELECT value FROM json_each(:\2))", _ROW_LOCK.sub("", sql))


def _sqlite_value(value: Any) -> Any:
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, datetime):
        # text that sorts like the times do
        return _in_utc(value).replace(tzinfo=None).isoformat(" ", "microseconds")
    return json.dumps(list(value))


@lru_cache(maxsize=1024)
def _postgresql_statement(sql: str) -> str:
    def among(found: re.Match[str]) -> str:
        return f"{'<> ALL' if found[1] else '= ANY'}(%({found[2]})s)"

    return _VALUE.sub(r"%(\1)s", _COLLECTION.sub(among, sql.replace("%", "%%")))


def _postgresql_value(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, _PLAIN):
        return value
    return _in_utc(value) if isinstance(value, datetime) else [_postgresql_value(each) for each in value]


def _in_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError(f"a time without a zone: {time!r}")
    return time.astimezone(UTC)


SQLITE: Final = Driver("sqlite", _sqlite_statement, _sqlite_value, sqlite3.Row, returns_id=False)


def postgresql() -> Driver:
    """Return the driver for psycopg, which is imported now."""
    from psycopg.rows import dict_row

    return Driver("postgresql", _postgresql_statement, _postgresql_value, dict_row, returns_id=True)


def time_of(value: Any) -> datetime:
    """Return the time in a column; SQLite has text in UTC."""
    time = datetime.fromisoformat(value).replace(tzinfo=UTC) if isinstance(value, str) else value
    return time.astimezone(UTC)


def time_if_set(value: Any) -> datetime | None:
    """Return the time in a column that may be empty."""
    return None if value is None else time_of(value)


def json_of(value: Any) -> Any:
    """Return the JSON in a column; psycopg has read it already."""
    return json.loads(value) if isinstance(value, str) else value
