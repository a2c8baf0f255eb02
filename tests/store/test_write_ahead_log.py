"""Several switch one SQLite file to the write-ahead log."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from pusher.store.drivers import _use_wal
from tests.support.waiting import PATIENCE


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    """Also where SQLite's own waiting is off, as it is where it may end in a deadlock."""
    path = tmp_path / "jobs.db"
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("CREATE TABLE jobs (id INTEGER)")
    holder.execute("BEGIN EXCLUSIVE")
    other = sqlite3.connect(path, timeout=0, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        _use_wal(other, 0.0)
    release = threading.Timer(0.1, holder.execute, ["COMMIT"])
    release.start()
    _use_wal(other, PATIENCE)
    release.join()
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    holder.close()
    other.close()
