"""Read the URL of a job store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from pusher.config import values
from pusher.dataclass import dataclass
from pusher.errors import InvalidOption

_URL: Final = re.compile(
    r"(?P<kind>[\w+]+)://"
    r"(?:(?P<user>[^:/]*)(?::(?P<password>[^@]*))?@)?"
    r"(?:\[(?P<ipv6>[^/?]+)\]|(?P<host>[^/:?]+))?(?::(?P<port>[^/?]*))?"
    r"(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?"
)
_SQLITE: Final = ("sqlite", "sqlite+pysqlite")
_POSTGRESQL: Final = ("postgres", "postgresql", "postgresql+psycopg")


@dataclass(frozen=True)
class DatabaseUrl:
    """A SQLite file or a database of a PostgreSQL server."""

    is_sqlite: bool
    database: str
    """Path of the file, or name."""
    host: str | None
    port: int | None
    user: str | None
    password: str | None
    query: Mapping[str, str]

    def connect_arguments(self) -> dict[str, Any]:
        """Return the arguments for psycopg."""
        named = {"host": self.host, "port": self.port, "user": self.user, "password": self.password}
        named["dbname"] = self.database or None
        return {**{name: value for name, value in named.items() if value is not None}, **self.query}


def parse_url(url: str) -> DatabaseUrl:
    """Read a database URL; InvalidOption if it names no database that pusher can use."""
    found = _URL.match(url)
    if found is None or (found["port"] and not found["port"].isdecimal()):
        raise _bad_url_error("is not a database URL")
    if found["kind"] not in _SQLITE + _POSTGRESQL:
        raise _bad_url_error(f"names a database of the kind {found['kind']}, which pusher does not use")
    is_sqlite = found["kind"] in _SQLITE
    database = unquote(found["database"] or "")
    if is_sqlite and database in ("", ":memory:"):
        raise _bad_url_error("names no file")
    query: dict[str, str] = {}
    for name, value in parse_qsl(found["query"] or ""):
        query[name] = f"{query[name]},{value}" if name in query else value  # several hosts, several ports
    return DatabaseUrl(
        is_sqlite,
        database,
        found["ipv6"] or found["host"],
        int(found["port"]) if found["port"] else None,
        None if found["user"] is None else unquote(found["user"]),
        None if found["password"] is None else unquote(found["password"]),
        query,
    )


def label_of(url: DatabaseUrl) -> str:
    """Return the name of the job store in messages: without password and query."""
    if url.is_sqlite:
        return url.database
    where = str(url.host or url.query.get("host") or "localhost").rpartition("@")[2]  # "@" in a password
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{where}{port}/{url.database}"


def file_of(url: DatabaseUrl) -> Path:
    """Return the file of a SQLite job store."""
    return values.parse_path(url.database, "PUSHER_DATABASE_URL").absolute()


def _bad_url_error(what: str) -> InvalidOption:
    # The value itself may hold a password.
    return InvalidOption(
        f"PUSHER_DATABASE_URL {what}",
        hint="use sqlite:////path/to/jobs.db or postgresql://user@host/database, or unset it",
    )
