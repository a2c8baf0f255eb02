"""Idle workers on PostgreSQL are woken by what other processes do, and poll where that does not work."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from pusher.store import notifications
from pusher.store.records import JobState
from pusher.store.store import Store
from pusher.worker import liveness
from pusher.worker.control import Control
from tests.support.databases import PostgresServer, new_job, postgres
from tests.support.fakeregistry import FakeRegistry, Fault, On, Stall
from tests.support.home import CHUNK, Background, Home, keep_controls, pushed
from tests.support.images import Image
from tests.support.quick import QUICK
from tests.support.waiting import PATIENCE, wait_until

__all__ = ["postgres"]

NEVER = 3600.0
ONLY_NOTIFIED = replace(QUICK, poll_notified=NEVER)


@pytest.fixture
def server_url(postgres: PostgresServer) -> Iterator[str]:
    url = postgres.create("head")
    yield url
    postgres.drop(url)


@contextmanager
def _running_forever(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Background]:
    controls = keep_controls(monkeypatch)
    worker = Background(home, forever=True, parallel=1, retry=ONLY_NOTIFIED)
    try:
        yield worker
    finally:
        wait_until(lambda: bool(controls))
        controls[0].stop()
        worker.join()


def _listener_is_alive(monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Returns how to ask whether the one listener of the process is alive."""
    made: list[notifications.JobListener] = []
    listen = notifications.JobListener

    def keep(*arguments: object) -> notifications.JobListener:
        made.append(listen(*arguments))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(notifications, "JobListener", keep)
    return lambda: bool(made) and made[-1].is_alive


def test_a_job_that_is_enqueued_wakes_an_idle_worker(
    server_url: str,
    tmp_path: Path,
    registry: FakeRegistry,
    image: Image,
    archive: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_alive = _listener_is_alive(monkeypatch)
    with (
        Home(tmp_path / "here", database_url=server_url) as home,
        _running_forever(home, monkeypatch),
    ):
        wait_until(is_alive)
        time.sleep(0.2)  # the wait that the first notification ended is followed by an endless one
        job = home.enqueue(archive, f"{registry.address}/app:1")
        wait_until(lambda: home.state(job.id) == JobState.SUCCEEDED)
        pushed(registry, "app", "1", image)


def test_a_job_paused_elsewhere_stops_at_once(
    server_url: str,
    tmp_path: Path,
    registry: FakeRegistry,
    archive: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the next heartbeat."""
    monkeypatch.setattr(liveness, "_HEARTBEAT", NEVER)
    is_alive = _listener_is_alive(monkeypatch)
    lost, lose = threading.Event(), Control.lose_lease

    def lose_lease(control: Control) -> None:
        lose(control)
        lost.set()

    monkeypatch.setattr(Control, "lose_lease", lose_lease)
    stall = Stall(after_bytes=CHUNK // 2)
    registry.faults.add(Fault(On.CHUNK, stall, nth=2))
    with (
        Home(tmp_path / "here", database_url=server_url) as home,
        _running_forever(home, monkeypatch),
    ):
        wait_until(is_alive)
        job = home.enqueue(archive, f"{registry.address}/app:1")
        registry.wait_for_fault(On.CHUNK)
        chunks = len(registry.requests(On.CHUNK))
        home.store.jobs.pause(job.id)
        assert lost.wait(PATIENCE)
        stall.release()
        home.progress.wait_for("job_ended")
        assert (job.id, JobState.PAUSED, "") in home.progress.of("job_ended")
        assert len(registry.requests(On.CHUNK)) == chunks
        assert home.state(job.id) == JobState.PAUSED


def test_a_job_that_is_due_is_not_slept_through(server_url: str) -> None:
    with Store.open(server_url) as store:
        assert store.jobs.seconds_to_next() is None
        store.jobs.add(new_job())
        assert store.jobs.seconds_to_next() is None, "a job without a time is claimed at once"
        job = store.jobs.claim("w", lease=3600)
        assert job is not None
        assert 3000 < (store.jobs.seconds_to_next() or 0) <= 3600
        store.jobs.succeed(job, "sha256:1")
        assert store.jobs.seconds_to_next() is None


class Listening:
    """A listener and the jobs that it was told of."""

    def __init__(self, store: Store) -> None:
        self.heard: list[int | None] = []
        listener = store.listen(self._hear)
        assert listener is not None
        self.listener = listener

    def _hear(self, job_id: int | None) -> None:
        self.heard.append(job_id)

    def close(self) -> None:
        self.listener.close()


def test_what_was_done_to_a_job_is_told(server_url: str) -> None:
    with Store.open(server_url) as store, closing(Listening(store)) as listening:
        wait_until(lambda: listening.listener.is_alive)
        job_id = store.jobs.add(new_job()).id
        for change in (store.jobs.pause, store.jobs.resume, store.jobs.cancel, store.jobs.retry):
            change(job_id)
        wait_until(lambda: len(listening.heard) == 6)
        assert listening.heard == [None] + [job_id] * 5
        assert store.jobs.claim("w", lease=30) is not None, "a claim leaves nothing to do for others"
        store.jobs.cancel(job_id)
        wait_until(lambda: len(listening.heard) == 7)


@pytest.mark.parametrize("text", ["queued " + "1" * 5000, "queued ²", "queued", "", "\x07"])
def test_what_others_send_does_no_harm(server_url: str, text: str) -> None:
    with Store.open(server_url) as store, closing(Listening(store)) as listening:
        wait_until(lambda: listening.listener.is_alive)
        with store._database.write() as connection:
            notifications._send(connection, text)
        job_id = store.jobs.add(new_job()).id
        wait_until(lambda: job_id in listening.heard)


def test_many_open_files_do_not_matter(server_url: str) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as opened, Store.open(server_url) as store:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(2000, most[0]), most[1]))
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, most)
        for _ in range(1024):
            opened.enter_context(Path(os.devnull).open("rb"))
        with closing(Listening(store)) as listening:
            wait_until(lambda: listening.listener.is_alive)


def test_a_listener_outlives_a_restart_of_the_server(
    postgres: PostgresServer, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "_RECONNECT_AFTER", 0.1)
    with Store.open(server_url) as store, closing(Listening(store)) as listening:
        wait_until(lambda: listening.listener.is_alive)
        with postgres.away():
            wait_until(lambda: not listening.listener.is_alive)
        wait_until(lambda: listening.listener.is_alive)
        assert listening.heard == [None, None], "something may have been missed"


def test_a_pooler_that_keeps_notifications_is_found_out(
    postgres: PostgresServer, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session in another database gets none of them, as one behind PgBouncer."""
    monkeypatch.setattr(notifications, "_TEST_LIMIT", 0.1)
    with Store.open(server_url) as store:
        ended = threading.Event()

        class Connection(psycopg.Connection[tuple[object, ...]]):
            def close(self) -> None:
                super().close()
                ended.set()

        def connect() -> psycopg.Connection[tuple[object, ...]]:
            return Connection.connect(postgres.url("postgres"), autocommit=True)

        monkeypatch.setattr(store._database, "connect", connect)
        with closing(Listening(store)) as listening:
            assert ended.wait(PATIENCE)
            assert not listening.listener.is_alive
            assert listening.heard == []


def test_a_file_has_no_notifications(tmp_path: Path) -> None:
    with Home(tmp_path / "home") as home:
        assert home.store.listen(lambda job_id: None) is None
