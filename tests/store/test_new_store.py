"""A new store is created by SQL that is written from models.py, without SQLAlchemy and Alembic."""

from __future__ import annotations

import re
import sqlite3
from contextlib import AbstractContextManager, closing
from pathlib import Path

from sqlalchemy import Connection, create_mock_engine
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from pusher.config.load import sqlite_url
from pusher.store import migrate, schema
from pusher.store.models import Base
from pusher.store.url import parse_url
from tests.support.databases import PostgresServer
from tests.support.snapshots import check


def changing(url: str) -> AbstractContextManager[Connection]:
    """A transaction of SQLAlchemy's, as migrations have it."""
    return migrate.connect_sqlalchemy(parse_url(url))


def _schema_of(path: Path) -> dict[str, set[str]]:
    """The statements that made each table and index, as sets of their parts: the order may differ, a table
    made anew has its name in quotes, and a column added later stands in the line of the one before."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    parts = r",\n|[\n\t]|, (?=[a-z_0-9]+ [A-Z])"
    plain = {name: sql.replace(f'CREATE TABLE "{name}"', f"CREATE TABLE {name}") for name, sql in rows}
    found = {name: {part.strip().rstrip(",") for part in re.split(parts, sql)} for name, sql in plain.items()}
    return {name: each - {""} for name, each in found.items()}


def test_a_new_store_is_what_its_migrations_lead_to(tmp_path: Path) -> None:
    """It is created without Alembic."""
    migrate.upgrade(sqlite_url(tmp_path / "new.db"))
    (tmp_path / "migrated.db").touch()
    with changing(sqlite_url(tmp_path / "migrated.db")) as connection:
        migrate._run(connection)
    new, migrated = _schema_of(tmp_path / "new.db"), _schema_of(tmp_path / "migrated.db")
    for each in (new, migrated):
        each.pop("alembic_version")
    assert new == migrated
    assert migrate.check(sqlite_url(tmp_path / "new.db")).current == schema.head()


_CATALOG = """
    SELECT table_name || '.' || column_name,
        data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '')
        FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT tablename || '.' || indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"""


def _catalog(connection: Connection) -> dict[str, str]:
    return {row[0]: row[1] for row in connection.exec_driver_sql(_CATALOG)}


def test_a_new_store_on_a_server_is_what_its_migrations_lead_to(postgres: PostgresServer) -> None:
    """Columns may stand in another order."""
    new, migrated = postgres.create("head"), postgres.create()
    with changing(new) as connection:
        found = _catalog(connection)
    with changing(migrated) as connection:
        migrate._run(connection)
        expected = _catalog(connection)
    postgres.drop(new)
    postgres.drop(migrated)
    assert found == expected
    assert len(found) > 100


def test_new_stores_have_the_tables_of_the_models(kind: str) -> None:
    """PUSHER_TEST_REWRITE_SNAPSHOTS=1 writes the SQL again, after a change of models.py and its migration."""
    url = "sqlite://" if kind == "sqlite" else "postgresql+psycopg://"
    dialect = create_mock_engine(url, executor=None).dialect
    statements: list[ExecutableDDLElement] = []
    for table in Base.metadata.sorted_tables:
        statements.append(CreateTable(table))
        statements += [CreateIndex(index) for index in sorted(table.indexes, key=lambda each: str(each.name))]
    texts = [str(statement.compile(dialect=dialect)) for statement in statements]
    texts += [f"INSERT INTO schema_support (oldest) VALUES ('{schema.OLDEST}')"]
    texts += [_VERSION_TABLE, f"INSERT INTO alembic_version (version_num) VALUES ('{schema.head()}')"]
    lines = [[line.rstrip().replace("\t", "    ") for line in text.strip().splitlines()] for text in texts]
    check(
        Path(schema.__file__).with_name(f"new_{kind}.sql"),
        "-- Written from models.py by tests/store/test_new_store.py. Blank lines part the statements.\n"
        + ";\n\n".join("\n".join(each) for each in lines)
        + ";\n",
    )


_VERSION_TABLE = """
CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
)"""
