"""Translate errors of the database drivers to those of :mod:`pusher.errors`."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from pusher.errors import (
    DiskFull,
    PusherError,
    Retry,
    StoreCorrupt,
    StoreLocked,
    StoreReadOnly,
    StoreUnreachable,
)
from pusher.text import suggest


@contextmanager
def translate_errors(label: str) -> Iterator[None]:
    """Translate the drivers' errors to StoreError; ``label`` names the job store without secrets."""
    try:
        yield
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:  # of values in a row
        raise corrupt_error(label, "holds something that pusher did not write") from error
    except Exception as error:
        known = _driver_error(error, label)
        if known is None:
            raise
        raise known from error


_RETRY = "try again; `pusher status` shows what is running"
_NO_CONNECTION_LEFT: Final = re.compile("too many (connections|clients)|connection slots are reserved")
"""psycopg gives no code for an error before the session has begun."""
_NO_DATABASE: Final = re.compile(r'FATAL: +database "(.+?)" does not exist')
_LOGIN_REFUSED: Final = re.compile(
    r'(?:FATAL: +|fe_sendauth: )(role ".*" (?:does not exist|is not permitted to log in)|no password supplied'
    r"|.*authentication failed.*|no pg_hba\.conf entry.*|permission denied for database.*)"
)
"""A server in another language is only quoted."""
_NO_SPACE: Final = "no space left on the disk of the job store {}"
_SHARED_MEMORY: Final = 32 * 1024
"""Bytes of the file that SQLite creates next to a database in WAL mode: https://sqlite.org/walformat.html"""


def _driver_error(error: Exception, label: str) -> PusherError | None:
    if isinstance(error, sqlite3.Error):
        return _sqlite_error(error, label)
    psycopg = sys.modules.get("psycopg")  # its import takes time
    return _postgresql_error(error, label) if psycopg and isinstance(error, psycopg.Error) else None


def _sqlite_error(error: sqlite3.Error, label: str) -> PusherError | None:
    # The low byte is the error, the rest its finer kind: https://sqlite.org/rescode.html
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreLocked(f"the job store {label} is locked by another process", hint=_RETRY)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return read_only_error(label)
    if code == sqlite3.SQLITE_FULL:
        return _full_error(label, "free some space there, then run the command again")
    if code == sqlite3.SQLITE_IOERR:
        return _failing_disk_error(error, label)
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH):
        closed = StoreUnreachable(
            f"the job store {label} cannot be opened: {error}",
            hint="check that the path exists and that you may write to its folder",
        )
        if not Path(label).exists():
            closed.retry = Retry.NEVER  # waiting does not restore a file
        return closed
    if "no such table" in str(error) or "no such column" in str(error):
        return corrupt_error(label, f"lacks a part of its schema ({error})")
    if code == sqlite3.SQLITE_NOTADB:
        return corrupt_error(label, "is not an SQLite database")
    if code == sqlite3.SQLITE_CORRUPT and _is_whole(label):
        return _failing_disk_error(error, label)
    return corrupt_error(label, "is damaged" if code == sqlite3.SQLITE_CORRUPT else f"is damaged ({error})")


def _full_error(label: str, hint: str) -> DiskFull:
    full = DiskFull(_NO_SPACE.format(label), hint=hint)
    full.retry = Retry.BACKOFF  # a run waits, and records acknowledged offsets once there is room
    return full


def _failing_disk_error(error: sqlite3.Error, label: str) -> StoreUnreachable:
    return StoreUnreachable(
        f"the job store {label} cannot be read or written now: {error}",
        hint="check its disk (see dmesg); the job store itself may be undamaged: pusher db check",
    )


def _is_whole(label: str) -> bool:
    """Return whether a file that looked damaged is intact when all of it is read again."""
    try:
        with closing(sqlite3.connect(f"file:{quote(label)}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",))
    except (sqlite3.Error, UnicodeDecodeError):  # SQLite quotes the damaged bytes
        return False


def _postgresql_error(error: Exception, label: str) -> PusherError | None:
    state: str = getattr(error, "sqlstate", None) or ""
    reason = (str(error).strip().splitlines() or [""])[0]
    if state in ("55P03", "57014", "40P01", "40001"):  # lock time-out, cancelled, deadlock, serialisation
        return StoreLocked(f"the job store {label} is locked by another session", hint=_RETRY)
    if refusal := _refusal_error(str(error), label):
        return refusal
    if state == "25006":  # a transaction that only reads: of a standby, as a rule
        return StoreReadOnly(
            f"the job store {label} cannot be written: {reason}",
            hint="name the primary server in PUSHER_DATABASE_URL, not a standby",
        )
    if state == "42501":
        return StoreReadOnly(
            f"the job store {label} cannot be used by this role: {reason}",
            hint="connect as the owner of the database, or have the owner grant this role the rights",
        )
    if state in ("42P01", "42703"):  # no such table, no such column
        return corrupt_error(label, f"lacks a part of its schema ({reason})")
    if state == "53100":
        return _full_error(label, "free some space there")
    if state == "53300" or _NO_CONNECTION_LEFT.search(reason):
        return StoreUnreachable(
            f"the job store {label} has no connection left: {reason}",
            hint="run fewer workers, or raise max_connections of the server or the role's CONNECTION LIMIT",
        )
    # 25P03: the process stood still in a transaction, which the server has ended
    if (
        state == "25P03"
        or state[:2] in ("08", "28", "3D", "53", "57")
        # without a code: no connection, or none in time (ConnectionTimeout, from psycopg 3.2 on)
        or (not state and any(each.__name__ == "OperationalError" for each in type(error).__mro__))
    ):
        return StoreUnreachable(
            f"the job store {label} does not respond: {reason}",
            hint="check PUSHER_DATABASE_URL and that the PostgreSQL server runs",
        )
    return None


def _refusal_error(text: str, label: str) -> StoreUnreachable | None:
    """Return the error of a server that responded and refused the connection; None if it is not known why.

    psycopg gives no code for it: only the text says why.
    """
    if found := _NO_DATABASE.search(text):
        return StoreUnreachable(
            f"the job store {label} does not exist: its server has no database of that name",
            hint=suggest("create it on the server with `createdb {}`, then: pusher db upgrade", found[1])
            or "create the database on the server, then: pusher db upgrade",
        )
    if found := _LOGIN_REFUSED.search(text):
        return StoreUnreachable(
            f"the server of the job store {label} refuses the login: {found[1]}",
            hint="check the user and the password in PUSHER_DATABASE_URL, and what the server allows this "
            "user (pg_hba.conf, GRANT CONNECT)",
        )
    return None


def read_only_error(label: str) -> StoreReadOnly | DiskFull:
    """Return the error of a write to a job store that can only be read.

    SQLite also opens a file for reading only where there is no room for its shared memory.
    """
    if "://" not in label and _has_no_room(Path(label)):
        return DiskFull(_NO_SPACE.format(label), hint="free some space there, then run the command again")
    if "://" not in label and _is_mounted_read_only(Path(label)):
        return StoreReadOnly(
            f"the job store {label} is on a disk that is mounted read-only",
            hint="make the disk writable and run the command again (a disk that fails becomes read-only: see "
            "dmesg)",
        )
    return StoreReadOnly(
        f"the job store {label} cannot be written", hint="check the permissions of the file and of its folder"
    )


def _has_no_room(path: Path) -> bool:
    """Return whether a file may be written, but its disk has no room for SQLite's shared memory."""
    try:
        may_write = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
        return may_write and shutil.disk_usage(path.parent).free < _SHARED_MEMORY
    except OSError:
        return False


def _is_mounted_read_only(path: Path) -> bool:
    try:
        return bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def corrupt_error(label: str, what: str) -> StoreCorrupt:
    """Return the error of a damaged store; ``what`` continues the sentence after its name."""
    away = "" if "://" in label else suggest(" with `mv {} {}`", label, f"{label}.damaged")
    return StoreCorrupt(
        f"the job store {label} {what}",
        hint=f"move it away{away} and enqueue again (uploads start anew); an older copy may lie next to it",
    )
