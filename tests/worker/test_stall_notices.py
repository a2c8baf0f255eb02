"""What never answers: a word in time, and nobody else kept from his work."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pusher import waiting
from pusher.errors import RegistryNameUnknown, RegistryUnreachable, SourceStalled
from pusher.spool import claims
from pusher.store.records import JobState
from pusher.worker import job_loop, registry_troubles, stall_notices
from pusher.worker.control import Control
from pusher.worker.overview import note, read_overviews
from pusher.worker.pool import BlobPool
from pusher.worker.stall_notices import SourceStallCheck, SourceTurn, StallNotices
from tests.support.credential_helper import helper_on_path
from tests.support.fake_engine import FakeEngine
from tests.support.fakeregistry import FakeRegistry, Fault, On, Stall
from tests.support.home import Background, Home, pushed
from tests.support.images import Image
from tests.support.waiting import PATIENCE

MIB = 1024 * 1024


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_word_after_ten_seconds_and_ever_more_seldom() -> None:
    clock, told = Clock(), list[str]()
    waits = StallNotices(told.append, clock)
    with waits.wait_for("r.example"), waits.wait_for("r.example"):
        for second in range(1, 100):
            clock.now = 100.0 + second
            assert waits.report() == (2 if second >= 5 else 0)
            assert len(told) == (second >= 10) + (second >= 60)
    assert told[0] == "r.example has not responded for 10s; still waiting"
    assert waits.report() == 0
    waits.record_response("r.example")
    waits.record_response("r.example")
    assert told[2:] == ["r.example responds again"]
    with waits.wait_for("r.example"):
        clock.now += 10
        waits.report()
    assert len(told) == 4, "a new silence is told anew"


def test_only_a_response_ends_a_silence() -> None:
    """A proxy takes new connections, and of each request what its buffers hold."""
    clock, told, sent = Clock(), list[str](), [0]
    waits = StallNotices(told.append, clock)
    for _ in range(3):
        sent[0] = 0
        with waits.wait_for("r.example", lambda: sent[0]):
            waits.report()
            sent[0] = 3 * MIB
            for _ in range(15):
                clock.now += 1
                waits.report()
        clock.now += 1
        waits.report()
    assert waits.silent["r.example"] > 40, "in all requests together"
    assert told == ["r.example has not responded for 10s; still waiting"]
    with waits.wait_for("r.example", lambda: sent[0]):
        for _ in range(12):
            clock.now += 1
            sent[0] += MIB
            waits.report()
    assert told[-1] == "r.example responds again", "no buffer takes so much"
    assert "r.example" not in waits.silent


def test_a_host_that_was_not_silent_does_not_respond_again() -> None:
    clock, told = Clock(), list[str]()
    waits = StallNotices(told.append, clock)
    with waits.wait_for("r.example"):
        for _ in range(9):
            clock.now += 1
            waits.report()
            with waits.wait_for("r.example"):
                waits.report()
            waits.record_response("r.example")
    assert told == []


def test_what_moves_is_not_silent() -> None:
    clock, told, sent = Clock(), list[str](), [0]
    waits = StallNotices(told.append, clock)
    with waits.wait_for("r.example", lambda: sent[0]):
        for _ in range(20):
            clock.now += 4
            sent[0] += 1
            assert waits.report() == 0
    assert told == []


def test_a_source_that_gives_nothing() -> None:
    clock, told = Clock(), list[str]()
    watch = SourceStallCheck("app:1", Control(), told.append, clock)
    clock.now += 30  # while it gave something nobody asked
    for _ in range(11):
        clock.now += 1
        watch()
    assert told == ["the source of app:1 has delivered no data for 10s; still waiting"]
    while clock.now < 1930:
        clock.now += 1
        watch()
    clock.now += 1
    with pytest.raises(SourceStalled):
        watch()


def test_a_source_that_stands_still_gives_its_turn_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stall_notices, "_STUCK_AFTER", 0.3)
    turn, first, second, got = SourceTurn(), Control(), Control(), threading.Event()

    def take() -> None:
        with turn.take(second):
            got.set()

    with turn.take(first):
        thread = threading.Thread(target=take)
        thread.start()
        before = time.monotonic()
        for _ in range(5):
            moved = time.monotonic()
            first.record_source_movement()
            if got.wait(0.1):  # unless this thread stood still itself, on a busy machine
                assert time.monotonic() - before > 0.3
                break
            before = moved
        assert got.wait(PATIENCE), "nothing comes any more"
    thread.join()


def test_places_of_those_who_wait_are_lent() -> None:
    pool, go = BlobPool(2), threading.Event()
    waiting = [pool.submit(number, (number,), lambda: str(go.wait(PATIENCE))) for number in range(2)]
    other = pool.submit("other", (9,), lambda: "sent")
    assert not other.done()
    pool.lend_threads(1)
    assert other.result(PATIENCE) == "sent"
    pool.lend_threads(0)
    go.set()
    assert [future.result(PATIENCE) for future in waiting] == ["True", "True"]
    assert pool.submit("last", (1,), lambda: "sent").result(PATIENCE) == "sent"
    pool.close()


def test_a_registry_that_never_answers_keeps_no_other_job_waiting(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one thread and one job at a time, and the silent one first."""
    monkeypatch.setattr(stall_notices, "_STUCK_AFTER", 0.3)
    monkeypatch.setattr(stall_notices, "NOTICE_AFTER", 0.5)
    monkeypatch.setattr(registry_troubles, "NOTICE_AFTER", 0.5)
    monkeypatch.setattr(job_loop, "_STALLED_AFTER", 0.3)
    with FakeRegistry() as deaf:
        stall = Stall(after_bytes=0)
        deaf.faults.add(Fault(On.HEAD_BLOB, stall, times=None))
        silent = home.enqueue(archive, f"{deaf.address}/app:1")
        other = home.enqueue(archive, f"{registry.address}/app:1")
        worker = Background(home, parallel=1)
        registry.wait_for(lambda r: bool(r.manifests))
        home.progress.wait_for_note(f"{deaf.address} has not responded")
        assert home.state(silent.id) == JobState.RUNNING
        deadline = time.monotonic() + 20
        while home.job(silent.id).error is None and time.monotonic() < deadline:
            time.sleep(0.05)
        (row,) = read_overviews(home.store, home.settings.workers, [home.job(silent.id)])
        assert note(row, home.store.now()) == f"{deaf.address} does not respond"
        assert home.store.events.of(silent.id)[-1].message == f"{deaf.address} does not respond"
        deaf.faults.clear()
        stall.release()
        assert worker.join().exit_code == 0
        notes = [text for text, *_ in home.progress.of("note")]
        assert notes.count(f"{deaf.address} responds again") == 1
        pushed(registry, "app", "1", image)
        pushed(deaf, "app", "1", image)
    assert home.state(other.id) == JobState.SUCCEEDED
    home.assert_clean()


def test_a_docker_save_that_never_writes_keeps_no_other_job_waiting(
    home: Home,
    registry: FakeRegistry,
    image: Image,
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A real process at the other end of the pipe; the other job has the same layers in a file."""
    monkeypatch.setattr(stall_notices, "_STUCK_AFTER", 0.3)
    monkeypatch.setattr(stall_notices, "NOTICE_AFTER", 0.5)
    monkeypatch.setattr(job_loop, "_STALLED_AFTER", 0.3)
    monkeypatch.setattr(claims, "_STALE_AFTER", 0.3)
    docker, go = FakeEngine(tmp_path / "bin"), tmp_path / "go"
    monkeypatch.setenv("PATH", str(docker.folder))
    docker.has(image, archive)
    docker.on("save", f"until test -e {go}; do /bin/sleep 0.1; done; /bin/cat {archive}")
    silent = home.enqueue("slow:1", f"{registry.address}/slow:1")
    home.enqueue(archive, f"{registry.address}/app:1")
    worker = Background(home, parallel=1)
    registry.wait_for(lambda r: "app" in r.manifests)
    home.progress.wait_for_note("the source of slow:1 has delivered no data")
    assert home.state(silent.id) == JobState.RUNNING
    go.touch()
    assert worker.join().exit_code == 0
    pushed(registry, "slow", "1", image)
    home.assert_clean()


def test_a_slow_credential_helper_holds_up_its_own_registry_alone(
    tmp_path: Path, registry: FakeRegistry, image: Image, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "NOTICE_AFTER", 0.5)
    monkeypatch.setattr(job_loop, "_STALLED_AFTER", 0.3)
    go, config = tmp_path / "go", tmp_path / "config.json"
    helper = helper_on_path(tmp_path / "bin", monkeypatch)
    helper.behave(
        f"until test -e {go}; do sleep 0.1; done; echo credentials not found in native keychain; exit 1"
    )
    with FakeRegistry() as other:
        config.write_text(json.dumps({"credHelpers": {other.address: "test"}}))
        with Home(tmp_path / "home", docker_config=config) as home:
            held = home.enqueue(archive, f"{other.address}/app:1")
            home.enqueue(archive, f"{registry.address}/app:1")
            worker = Background(home, parallel=1)
            registry.wait_for(lambda r: bool(r.manifests))
            home.progress.wait_for_note("docker-credential-test has not responded")
            assert home.state(held.id) == JobState.RUNNING
            go.touch()
            assert worker.join().exit_code == 0
            pushed(other, "app", "1", image)
            home.assert_clean()


@pytest.fixture
def nameless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name but those of this machine has an address; a minute is soon over."""
    look_up = socket.getaddrinfo

    def fail(host: Any, *args: Any, **kwargs: Any) -> Any:
        if str(host).endswith("no-such.example"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", fail)


def test_a_name_that_nobody_knows_fails_the_push_that_waits_for_it(
    nameless: None, home: Home, archive: Path
) -> None:
    job = home.enqueue(archive, "reg.no-such.example/app:1")
    result = home.run([job.id])
    error = home.job(job.id).error
    assert error is not None
    assert (home.state(job.id), error.code) == (JobState.FAILED, RegistryNameUnknown.code)
    assert result.exit_code == 3
    assert "reg.no-such.example" in error.message
    home.progress.wait_for_note(
        "the host reg.no-such.example cannot be found: retrying, at least every 0 s, "
        "for up to 0s, since nothing was ever pushed there from here"
    )


def test_a_name_that_was_known_is_waited_for(nameless: None, home: Home, archive: Path) -> None:
    where = ("reg.no-such.example", "app", "sha256:" + "a" * 64)
    upload = home.store.uploads.acquire(*where, owner="earlier", lease=60)
    assert upload is not None
    home.store.uploads.record_present(upload)
    job = home.enqueue(archive, "reg.no-such.example/app:1")
    assert home.run([job.id], give_up_after=1.0).exit_code == 5
    error = home.job(job.id).error
    assert error is not None
    assert (home.state(job.id), error.code) == (JobState.WAITING, RegistryUnreachable.code)
    home.progress.wait_for_note(
        "no connection to reg.no-such.example: retrying, at least every 0 s, for up to 1s"
    )


def test_a_queue_waits_for_any_name(nameless: None, home: Home, archive: Path) -> None:
    job = home.enqueue(archive, "reg.no-such.example/app:1")
    assert home.run(give_up_after=1.0).exit_code == 5
    assert home.state(job.id) == JobState.WAITING
