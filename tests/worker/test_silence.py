"""What never answers: a word in time, and nobody else kept from his work."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pusher.errors import SourceStalled
from pusher.store.records import JobState
from pusher.worker import run, silence
from pusher.worker.control import Control
from pusher.worker.pool import BlobPool
from pusher.worker.silence import Silence, SourceWatch, Turn
from tests.support.fakeregistry import FakeRegistry, Fault, On, Stall
from tests.support.home import Background, Home, pushed
from tests.support.images import Image


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_word_after_ten_seconds_and_ever_more_seldom() -> None:
    clock, told = Clock(), list[str]()
    waits = Silence(told.append, clock)
    with waits.waiting_for("r.example"), waits.waiting_for("r.example"):
        for second in range(1, 100):
            clock.now = 100.0 + second
            assert waits.look() == (2 if second >= 5 else 0)
            assert len(told) == (second >= 10) + (second >= 60)
    assert told[0] == "r.example has not answered for 10s; still waiting"
    assert waits.look() == 0
    with waits.waiting_for("r.example"):
        clock.now += 10
        waits.look()
    assert len(told) == 3, "a new silence is told anew"


def test_what_moves_is_not_silent() -> None:
    clock, told, sent = Clock(), list[str](), [0]
    waits = Silence(told.append, clock)
    with waits.waiting_for("r.example", lambda: sent[0]):
        for _ in range(20):
            clock.now += 4
            sent[0] += 1
            assert waits.look() == 0
    assert told == []


def test_a_source_that_gives_nothing() -> None:
    clock, told = Clock(), list[str]()
    watch = SourceWatch("app:1", Control(), told.append, clock)
    clock.now += 30  # while it gave something nobody asked
    for _ in range(11):
        clock.now += 1
        watch()
    assert told == ["the source of app:1 has given nothing for 10s; still waiting"]
    while clock.now < 1930:
        clock.now += 1
        watch()
    clock.now += 1
    with pytest.raises(SourceStalled):
        watch()


def test_a_source_that_stands_still_gives_its_turn_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "_STUCK_AFTER", 0.3)
    turn, first, second, got = Turn(), Control(), Control(), threading.Event()

    def take() -> None:
        with turn.taken(second):
            got.set()

    with turn.taken(first):
        thread = threading.Thread(target=take)
        thread.start()
        for _ in range(5):
            first.stir()
            assert not got.wait(0.1)
        assert got.wait(5), "nothing comes any more"
    thread.join()


def test_places_of_those_who_wait_are_lent() -> None:
    pool, go = BlobPool(2), threading.Event()
    waiting = [pool.submit(number, (number,), lambda: str(go.wait(10))) for number in range(2)]
    other = pool.submit("other", (9,), lambda: "sent")
    assert not other.done()
    pool.lend(1)
    assert other.result(10) == "sent"
    pool.lend(0)
    go.set()
    assert [future.result(10) for future in waiting] == ["True", "True"]
    assert pool.submit("last", (1,), lambda: "sent").result(10) == "sent"
    pool.close()


def test_a_registry_that_never_answers_keeps_no_other_job_waiting(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one thread and one job at a time, and the silent one first."""
    monkeypatch.setattr(silence, "_STUCK_AFTER", 0.3)
    monkeypatch.setattr(silence, "_WORD_AFTER", 0.5)
    monkeypatch.setattr(run, "_STILL", 0.3)
    with FakeRegistry() as deaf:
        stall = Stall(after_bytes=0)
        deaf.faults.add(Fault(On.HEAD_BLOB, stall, times=None))
        silent = home.enqueue(archive, f"{deaf.address}/app:1")
        other = home.enqueue(archive, f"{registry.address}/app:1")
        worker = Background(home, parallel=1)
        registry.wait_for(lambda r: bool(r.manifests), timeout=15)
        home.progress.wait_for_note(f"{deaf.address} has not answered")
        assert home.state(silent.id) == JobState.RUNNING
        deaf.faults.clear()
        stall.release()
        assert worker.join().exit_code == 0
        pushed(registry, "app", "1", image)
        pushed(deaf, "app", "1", image)
    assert home.state(other.id) == JobState.SUCCEEDED
    home.assert_clean()
