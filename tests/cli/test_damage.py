"""A job store of which some bytes are others: every command says so, none takes it for a bug of pusher."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pusher.errors import StoreCorrupt, StoreUnreachable
from pusher.store import driver_errors
from pusher.store.records import JobState, StoredError
from pusher.store.store import Store
from tests.cli.conftest import Pusher, add_job, claim

COMMANDS = (
    ("status", "--all"),
    ("status", "1", "--json"),
    ("log", "2"),
    ("retry", "2"),
    ("pause", "1"),
    ("cancel", "1"),
    ("db", "check"),
)
FLIPS = 30
"""Damaged stores; each is shown to every command."""


@pytest.fixture
def healthy(store: Store, home: Path) -> bytes:
    """The bytes of a store with a job in each of several states, nothing of it in the log."""
    error = StoredError("registry-busy", "busy", "wait")
    for number in range(4):
        add_job(store, f"app{number}:1")
    store.jobs.fail(claim(store, store.jobs.get(2)), error)
    store.jobs.release(claim(store, store.jobs.get(3)), state=JobState.QUEUED, attempt=True)
    store.uploads.acquire("r.example", "app", "sha256:" + "a" * 64, owner="w", lease=60)
    store.close()
    with closing(sqlite3.connect(home / "jobs.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return (home / "jobs.db").read_bytes()


@pytest.mark.parametrize("seed", range(FLIPS))
def test_flipped_bytes(seed: int, healthy: bytes, home: Path, pusher: Pusher) -> None:
    draw = random.Random(seed)
    used = [at for at in range(len(healthy)) if healthy[at]]
    for command in COMMANDS:
        damaged = bytearray(healthy)
        for at in draw.sample(used, draw.choice((1, 3, 40))):
            damaged[at] ^= 1 << draw.randrange(8)
        for extra in home.glob("jobs.db*"):
            extra.unlink()
        (home / "jobs.db").write_bytes(damaged)
        result = pusher(*command)
        assert "bug" not in result.err, (command, result.err)
        assert "Traceback" not in result.err
        assert result.code in (0, 2, 8), (command, result)


def test_what_stands_in_a_row_is_named_as_damage(store: Store, home: Path, pusher: Pusher) -> None:
    add_job(store)
    with closing(sqlite3.connect(home / "jobs.db")) as connection:
        connection.execute("UPDATE jobs SET source = '{not json'")
        connection.commit()
    result = pusher("status")
    assert result.code == 8
    assert "holds something that pusher did not write" in result.err


def _fail(code: int, text: str) -> None:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    raise error


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (sqlite3.SQLITE_IOERR, "disk I/O error"),
        (sqlite3.SQLITE_IOERR | 1 << 8, "disk I/O error"),
        (sqlite3.SQLITE_CORRUPT, "database disk image is malformed"),
    ],
)
def test_a_healthy_file_is_never_to_be_moved_away(code: int, text: str, healthy: bytes, home: Path) -> None:
    """A disk that fails for a moment, or memory: the file is read once more before it is called damaged."""
    with pytest.raises(StoreUnreachable) as caught, driver_errors.translate_errors(str(home / "jobs.db")):
        _fail(code, text)
    assert "mv" not in caught.value.hint
    assert "db check" in caught.value.hint


def test_a_damaged_file_is(healthy: bytes, home: Path) -> None:
    path = home / "jobs.db"
    path.write_bytes(healthy[:4096] + bytes(len(healthy) - 4096))
    with pytest.raises(StoreCorrupt) as caught, driver_errors.translate_errors(str(path)):
        _fail(sqlite3.SQLITE_CORRUPT, "database disk image is malformed")
    assert "mv" in caught.value.hint
