"""A process whose threads write without a pause leaves room for the writers of other processes."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from pusher.config.load import sqlite_url
from pusher.store import migrate
from pusher.store.engine import Database
from pusher.store.url import parse_url
from pusher.store.write_turn import GAP, LONGEST_RUN, WriteTurn


class World:
    """A clock that moves when something sleeps or works."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def write(self, turn: WriteTurn, times: int, *, takes: float, then: float = 0.0) -> None:
        for _ in range(times):
            with turn:
                self.now += takes
            self.now += then


def test_a_run_without_gaps_is_interrupted_by_one() -> None:
    world = World()
    turn = WriteTurn(clock=lambda: world.now, sleep=world.sleep)
    world.write(turn, 60, takes=LONGEST_RUN / 5)
    assert 9 <= len(world.pauses) <= 12
    assert set(world.pauses) == {GAP}


def test_gaps_of_their_own_are_enough() -> None:
    world = World()
    turn = WriteTurn(clock=lambda: world.now, sleep=world.sleep)
    world.write(turn, 100, takes=LONGEST_RUN / 10, then=LONGEST_RUN / 20)
    world.write(turn, 1, takes=LONGEST_RUN * 3)
    assert world.pauses == []


def test_an_interrupted_wait_releases_the_turn() -> None:
    world = World()

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    turn = WriteTurn(clock=lambda: world.now, sleep=interrupted)
    world.write(turn, 1, takes=LONGEST_RUN)
    with pytest.raises(KeyboardInterrupt), turn:
        pass
    world.now += GAP
    with turn:
        pass


def test_another_process_can_write_between_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    url = sqlite_url(tmp_path / "jobs.db")
    migrate.upgrade(url)
    ours, theirs = Database(parse_url(url)), Database(parse_url(url))
    began, done = threading.Event(), threading.Event()

    def write_on() -> None:
        while not done.is_set():
            with ours.write():
                began.set()
                time.sleep(0.1)  # a slow disk

    threads = [threading.Thread(target=write_on) for _ in range(3)]
    with ExitStack() as stack:
        for database in (ours, theirs):
            stack.callback(database.close)
        for thread in threads:
            stack.callback(thread.join)
            thread.start()
        stack.callback(done.set)
        assert began.wait(30)
        for _ in range(2):
            with theirs.write():  # StoreBusy if it gets no turn
                pass
