"""One limit for a fleet, in a simulated time: what all workers send in each 10 s, whatever they do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pusher.config import Timetable
from pusher.store.share_leases import KEPT
from tests.support.rate_fleet import SimulatedFleet, Upload

RATE = 1_000_000
CHUNK = 200_000
SETTLED = 3.0
"""Seconds until a share follows what its worker does, and a window may begin."""
FOREVER = 10**6


def chunks(count: int, pauses: Iterator[float]) -> Upload:
    return ((CHUNK, next(pauses)) for _ in range(count))


def uniform(fleet: SimulatedFleet, least: float, most: float) -> Iterator[float]:
    while True:
        yield fleet.random.uniform(least, most)


def check(fleet: SimulatedFleet, since: float, until: float, rate: int = RATE) -> None:
    """Check that every window within these times has the rate, within 5 %."""
    windows = fleet.windows(since, until)
    assert min(windows) > 0.95 * rate
    assert max(windows) < 1.05 * rate


@pytest.mark.parametrize("count", [1, 4, 20])
def test_pauses_between_chunks_late_threads_and_a_slow_store(count: int) -> None:
    fleet = SimulatedFleet(RATE, seed=count)
    draw = fleet.random
    fleet.lateness = lambda: draw.expovariate(50) * (10 if draw.random() < 0.02 else 1)
    fleet.store_delay = lambda: draw.expovariate(10) + (draw.uniform(1, 2.5) if draw.random() < 0.03 else 0)
    for _ in range(count):
        fleet.add_worker(
            chunks(FOREVER, uniform(fleet, 0.02, 0.1 if count == 1 else 0.3)), starts=draw.random()
        )
    fleet.run(30)
    check(fleet, SETTLED, 30)


def test_uploads_that_begin_in_an_idle_fleet() -> None:
    """There is neither a burst nor a time in which the shares of idle workers are lost."""
    fleet = SimulatedFleet(RATE)
    for number in range(20):
        pauses = iter([12 + number / 5, *[0.05] * 200])
        fleet.add_worker(chunks(FOREVER, pauses), starts=number / 20)
    fleet.run(30)
    check(fleet, 12 + SETTLED / 2, 30)
    assert max(fleet.windows(0, 30)) < 1.05 * RATE


def test_uploads_that_end_while_others_go_on() -> None:
    fleet = SimulatedFleet(RATE, seed=3)
    for number in range(12):
        count = FOREVER if number < 2 else 4 + number // 2
        fleet.add_worker(chunks(count, uniform(fleet, 0.02, 0.2)), starts=fleet.random.random())
    fleet.run(40)
    check(fleet, SETTLED, 40)


def test_jobs_with_nothing_to_do_between_them() -> None:
    def jobs() -> Upload:
        while True:
            yield CHUNK, fleet.random.uniform(0, 2)
            yield from chunks(fleet.random.randint(0, 3), uniform(fleet, 0.02, 0.1))

    fleet = SimulatedFleet(RATE, seed=4)
    for number in range(20):
        fleet.add_worker(jobs(), starts=number / 20)
    fleet.run(30)
    check(fleet, SETTLED, 30)


def test_a_job_store_that_was_away_for_a_minute() -> None:
    fleet = SimulatedFleet(RATE, seed=5)
    for number in range(8):
        fleet.add_worker(chunks(FOREVER, uniform(fleet, 0.02, 0.2)), starts=number / 8)

    def set_away(is_away: bool) -> None:
        fleet.store_is_away = is_away

    fleet.at(14, lambda: set_away(True))
    fleet.at(14 + KEPT, lambda: set_away(False))
    fleet.run(30 + KEPT)
    check(fleet, SETTLED, 12 + KEPT)
    check(fleet, 14 + KEPT + SETTLED, 30 + KEPT)
    assert max(fleet.windows(0, 30 + KEPT)) < 1.05 * RATE


def test_a_limit_that_is_changed_meanwhile() -> None:
    def limit(rate: int) -> None:
        fleet.limit = Timetable(rate)

    fleet = SimulatedFleet(RATE, seed=6)
    for number in range(10):
        fleet.add_worker(chunks(FOREVER, uniform(fleet, 0.02, 0.2)), starts=number / 10)
    fleet.at(14, lambda: limit(RATE // 4))
    fleet.at(28, lambda: limit(2 * RATE))
    fleet.run(42)
    check(fleet, SETTLED, 14)
    check(fleet, 15, 28, RATE // 4)
    check(fleet, 29, 42, 2 * RATE)


def test_a_clock_of_the_store_that_is_set() -> None:
    fleet = SimulatedFleet(RATE, seed=7)
    fleet.store_delay = lambda: fleet.random.expovariate(10)
    for number in range(10):
        fleet.add_worker(chunks(FOREVER, uniform(fleet, 0.02, 0.2)), starts=number / 10)

    def set_clock(by: float) -> None:
        fleet.store_clock += by

    fleet.at(10, lambda: set_clock(86400.0))
    fleet.at(20, lambda: set_clock(-2 * 86400.0))
    fleet.run(35)
    check(fleet, SETTLED, 35)


def test_one_workers_own_limit_and_several_uploads() -> None:
    fleet = SimulatedFleet(None, seed=8)
    uploads = [chunks(FOREVER, uniform(fleet, 0.02, 0.1)) for _ in range(4)]
    fleet.add_worker(*uploads, own=RATE)
    fleet.lateness = lambda: fleet.random.expovariate(50)
    fleet.run(25)
    check(fleet, 0, 25)
