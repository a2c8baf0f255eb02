"""Commands whose job store another process locks, or whose server is not there yet."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pusher.cli import store as cli_store
from pusher.cli.output import print_notice
from pusher.store import engine
from pusher.store.store import Store
from tests.cli.conftest import Pusher, add_job
from tests.support.databases import PostgresServer, postgres
from tests.support.images import make_image, write_archive
from tests.support.quick import COMMANDS, hand_in

__all__ = ["postgres"]


@contextmanager
def _locked_until_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Another program holds the lock that writers need until the command has said that it waits."""
    monkeypatch.setattr(engine, "BUSY_TIMEOUT", 0.2)
    words, told = list[str](), threading.Event()

    def tell(line: str) -> None:
        words.append(line)
        told.set()
        print_notice(line)

    monkeypatch.setattr(cli_store, "print_notice", tell)
    held = threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            held.set()
            told.wait(60)
            other.execute("ROLLBACK")

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    try:
        yield words
    finally:
        told.set()
        holder.join()


def test_a_locked_store_is_waited_for_with_a_word(
    home: Path, store: Store, pusher: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = add_job(store)
    with _locked_until_told(home / "jobs.db", monkeypatch) as words:
        done = pusher("pause", str(job.id))
    assert done.code == 0, done
    assert "locked by another process" in words[0]
    assert "waiting for it" in words[0]
    assert "is back after" in words[1]


def test_enqueueing_waits_too(
    home: Path, store: Store, pusher: Pusher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_archive(tmp_path / "a.tar", make_image(100))
    with _locked_until_told(home / "jobs.db", monkeypatch) as words:
        done = pusher("enqueue", str(archive), "--to", "r.example/app:1")
    assert (done.code, done.out) == (0, "1\n")
    assert len([word for word in words if "waiting for it" in word]) == 1


def test_a_store_that_stays_locked_ends_the_command(
    home: Path, store: Store, pusher: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_in(monkeypatch, replace(COMMANDS, store_command=0.3))
    monkeypatch.setattr(engine, "BUSY_TIMEOUT", 0.1)
    job = add_job(store)
    with closing(sqlite3.connect(home / "jobs.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        done = pusher("pause", str(job.id))
    assert done.code == 8
    assert "locked by another process" in done.err


def test_what_watches_jobs_waits_for_the_server(postgres: PostgresServer, home: Path) -> None:
    url = postgres.create("head")
    with Store.open(url) as store:
        job = add_job(store)
    environment = {**os.environ, "PUSHER_DATABASE_URL": url}
    with ExitStack() as stack:
        watching = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "pusher", *command.split()],
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for command in ("wait", "log 1 --follow", "status --watch")
        ]
        said = [process.stderr for process in watching if process.stderr is not None]
        for first in (said[0], watching[1].stdout, watching[2].stdout):
            assert first is not None
            assert first.readline()
        with postgres.away():
            for each in said:
                assert any("waiting for it" in line for line in each)
        for each in said:
            assert any("is back after" in line for line in each)
        with Store.open(url) as store:
            store.jobs.cancel(job.id)
        for process in watching:
            process.communicate(timeout=60)
        assert [process.returncode for process in watching] == [3, 0, 0]
    postgres.drop(url)


def test_run_forever_waits_for_a_server_that_is_not_there_yet(postgres: PostgresServer, home: Path) -> None:
    """At boot the two start side by side; any other command says at once that it is not there."""
    url = postgres.create("head")
    environment = {**os.environ, "PUSHER_DATABASE_URL": url}
    command = [sys.executable, "-m", "pusher"]
    with postgres.away():
        once = subprocess.run(
            [*command, "status"], env=environment, capture_output=True, text=True, check=False
        )
        assert once.returncode == 8, once
        worker = subprocess.Popen(
            [*command, "run", "--forever"], env=environment, stderr=subprocess.PIPE, text=True
        )
        assert worker.stderr is not None
        assert "waiting for it" in worker.stderr.readline()
    with worker:
        assert "is back after" in worker.stderr.readline()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) in (128 + signal.SIGTERM, -signal.SIGTERM)  # before it is ready for it
    postgres.drop(url)
