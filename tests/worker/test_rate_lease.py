"""A worker's share of the rate of all: how long it is used, and workers in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pusher.config import Timetable
from pusher.config.timetable import MIN_RATE, parse_timetable
from pusher.errors import StoreError
from pusher.store.budgets import BudgetState, Change
from pusher.store.queue_settings import LIMIT_RATE
from pusher.store.share_leases import KEPT, LEASE
from pusher.store.store import Store
from pusher.worker.rate import RateUse
from pusher.worker.rate_lease import RateLease
from tests.support.databases import FakeClock, clock, empty_url, kind, postgres, store, url
from tests.support.fakeregistry import SERVERLESS, FakeRegistry
from tests.support.home import Home
from tests.support.images import make_image, write_archive
from tests.support.waiting import PATIENCE

__all__ = ["clock", "empty_url", "kind", "postgres", "store", "url"]

RATE = 1_000_000
TABLE = Timetable(RATE)
HUNGRY = RateUse(0, lacks=True, own=None)


class Away:
    """The budgets of a job store that cannot be reached."""

    def change(self, *_: object) -> None:
        raise StoreError("the job store is away")


class Unwritten:
    """The budgets of a job store whose disk is full."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def change(self, name: str, change: Change[Any]) -> Any:
        def fail(state: BudgetState) -> Any:
            change(state)
            raise StoreError("the disk is full")

        return self.store.budgets.change(name, fail)


class Workers:
    """Workers of one store; their clocks go as the store's does."""

    def __init__(self, store: Store, clock: FakeClock) -> None:
        self.store = store
        self.store_clock = clock
        self.seconds = 0.0
        self.leases: dict[str, RateLease] = {}

    def pass_time(self, seconds: float) -> None:
        self.seconds += seconds
        self.store_clock.advance(seconds)

    def renew(self, name: str, use: RateUse = HUNGRY, rate: Timetable | None = TABLE) -> float | None:
        lease = self.leases.setdefault(name, RateLease(lambda: self.seconds))
        lease.timetable = rate
        lease.renew(self.store.budgets, name, lambda: use)
        return lease.share()

    def budget(self) -> Any:
        return self.store.budgets.change("rate", lambda state: (state.content, state.content))


@pytest.fixture
def workers(store: Store, clock: FakeClock) -> Workers:
    return Workers(store, clock)


def test_workers_of_one_store_share_its_rate(workers: Workers) -> None:
    assert workers.renew("a") == RATE
    assert workers.renew("b") == 0, "the other one still uses it"
    assert workers.leases["b"].is_unfair
    workers.pass_time(1)
    assert workers.renew("a", RateUse(RATE, lacks=True, own=None)) == RATE / 2
    assert workers.renew("b") == pytest.approx(RATE / 2)
    workers.leases["a"].release(workers.store.budgets, "a")
    workers.pass_time(1)
    assert workers.renew("b", RateUse(RATE // 2, lacks=True, own=None)) == pytest.approx(RATE, rel=0.5)
    assert workers.renew("b", rate=None) is None


def test_a_workers_own_limit_leaves_more_to_the_others(workers: Workers) -> None:
    shares = {"a": 0.0, "b": 0.0}
    for _ in range(8):
        sent = min(100_000, int(shares["a"]))
        shares["a"] = workers.renew("a", RateUse(sent, lacks=True, own=100_000.0)) or 0.0
        workers.pass_time(0.5)
        shares["b"] = workers.renew("b", RateUse(int(shares["b"]), lacks=True, own=None)) or 0.0
        workers.pass_time(0.5)
    assert shares["a"] == pytest.approx(100_000)
    assert shares["b"] == pytest.approx(900_000, rel=0.05)


def test_an_idle_worker_knows_the_share_that_it_would_get(workers: Workers) -> None:
    """The level of the next layer's compression depends on it."""
    idle = RateUse(0, lacks=False, own=None, is_busy=False)
    for name, use in {"a": HUNGRY, "b": idle, "c": HUNGRY}.items():
        workers.renew(name, use)
    assert workers.leases["b"].share() == 0
    assert workers.leases["b"].fair_share() == pytest.approx(RATE / 2)


def test_the_hour_is_that_of_the_store(workers: Workers) -> None:
    now = workers.store_clock.now.astimezone()
    hour = f"{now:%H:%M}-{(now.hour + 1) % 24:02}:{now:%M}"
    table = parse_timetable(f"{hour}=50K,off", "")
    assert workers.renew("a", rate=table) == 50 * 1024
    workers.pass_time(3601)
    assert workers.renew("a", rate=table) is None


def test_a_frozen_worker_sends_nothing_before_it_has_a_lease_again(workers: Workers) -> None:
    workers.renew("a")
    lease = workers.leases["a"]
    workers.pass_time(LEASE - 0.1)
    assert lease.share() == RATE
    workers.pass_time(0.2)
    assert lease.share() == 0


def test_without_the_store_the_last_share_is_used_for_a_minute(workers: Workers) -> None:
    workers.renew("a")
    lease = workers.leases["a"]

    workers.pass_time(1)
    with pytest.raises(StoreError):
        lease.renew(Away(), "a", lambda: HUNGRY)  # type: ignore[arg-type]
    workers.pass_time(KEPT - 2)
    assert lease.share() == RATE
    workers.pass_time(2)
    assert lease.share() == MIN_RATE, "chunks that are being sent stay alive"
    lease.timetable = Timetable(100)
    with pytest.raises(StoreError):
        lease.renew(Away(), "a", lambda: HUNGRY)  # type: ignore[arg-type]
    assert lease.share() == 100, "a lower limit that was read is obeyed"
    assert workers.renew("a") == RATE


class Busy:
    """Budgets that other workers have locked for a while."""

    def __init__(self, workers: Workers, seconds: float) -> None:
        self.workers = workers
        self.seconds = seconds

    def change(self, name: str, change: Change[Any]) -> Any:
        self.workers.pass_time(self.seconds)
        return self.workers.store.budgets.change(name, change)


def test_a_renewal_that_waited_for_others_is_not_taken_for_a_clock_that_was_set(workers: Workers) -> None:
    """What is carried over would be lost, and the leases of all workers shifted."""
    used = RateUse(100_000, lacks=True, own=None)
    for name in "ab":
        workers.renew(name)
    workers.pass_time(1)
    workers.renew("a", used)
    before = workers.budget()
    workers.leases["b"].renew(Busy(workers, 1.5), "b", lambda: used)  # type: ignore[arg-type]
    assert workers.budget()["shares"]["a"] == before["shares"]["a"]
    assert workers.budget()["carried"] >= before["carried"] > 0
    workers.pass_time(1)
    workers.renew("b", used)
    assert workers.budget()["shares"]["a"] == before["shares"]["a"]


def test_what_was_sent_before_a_renewal_that_failed_is_counted(workers: Workers) -> None:
    sent = RateUse(RATE, lacks=True, own=None)
    for _ in range(5):
        workers.renew("a", sent)
        workers.pass_time(1)
    assert workers.budget()["carried"] == pytest.approx(0, abs=1)
    with pytest.raises(StoreError):
        workers.leases["a"].renew(Unwritten(workers.store), "a", lambda: sent)  # type: ignore[arg-type]
    workers.pass_time(1)
    workers.renew("a", sent)
    assert workers.budget()["carried"] == pytest.approx(0, abs=1)


# --- processes --------------------------------------------------------------------------------------------


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(SERVERLESS.scaled(min=20_000, max=100_000_000)) as running:
        yield running


def test_three_processes_send_no_more_than_one_may(
    home: Home, registry: FakeRegistry, tmp_path: Path
) -> None:
    """One of them is killed; the sum is measured at the registry."""
    for number in range(6):
        image = make_image(250_000, 250_000, compressible=0.0, seed=number)
        home.enqueue(write_archive(tmp_path / f"{number}.tar", image), f"{registry.address}/app{number}:1")
    home.store.settings.set(LIMIT_RATE, "1000KB")
    command = [sys.executable, "-m", "pusher", "run", "--parallel", "2", "--chunk-size", "50KB", "--wait"]
    environment = {**os.environ, "PUSHER_HOME": str(home.settings.home)}
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen(command, env=environment, **quiet) for _ in range(3)]  # type: ignore[call-overload]
    while not registry.body_bytes_received():
        assert any(process.poll() is None for process in processes)
        time.sleep(0.01)
    began, before = time.monotonic(), registry.body_bytes_received()
    time.sleep(0.5)
    processes[0].send_signal(signal.SIGKILL)
    for process in processes:
        process.wait(PATIENCE)
    seconds, sent = time.monotonic() - began, registry.body_bytes_received() - before
    assert sent <= 1_000_000 * (seconds + 1.0)
    assert {job.state for job in home.store.jobs.list()} == {"succeeded"}
    assert [process.returncode for process in processes[1:]] == [0, 0]
