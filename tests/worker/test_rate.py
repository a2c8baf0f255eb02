"""The limit of all uploads together, on a clock that only moves when somebody sleeps."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest

from pusher.config import Timetable
from pusher.config.timetable import parse_timetable
from pusher.errors import LeaseLost
from pusher.registry.http.body import BLOCK
from pusher.worker.control import Control
from pusher.worker.rate import RateLimiter, RateUse
from tests.support.waiting import PATIENCE

START = datetime(2024, 1, 1, 7, 59, 50)  # noqa: DTZ001 - a local time, as the limiter reads it


class World:
    """A clock, the time of day that goes with it, and what was told."""

    def __init__(self, timetable: str) -> None:
        self.seconds = 0.0
        self.naps: list[float] = []
        self.notes: list[str] = []
        self.limiter = RateLimiter(
            parse_timetable(timetable, "--limit-rate"),
            self.notes.append,
            clock=lambda: self.seconds,
            now=lambda: START + timedelta(seconds=self.seconds),
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.seconds += seconds

    def send(self, seconds: float, *, pause: float = 0.0) -> list[tuple[float, int]]:
        """Send for so long without end, ``pause`` seconds between two blocks: when and how much."""
        end, blocks = self.seconds + seconds, []
        while self.seconds < end:
            size = self.limiter.take(BLOCK)
            if self.seconds < end:
                blocks.append((self.seconds, size))
            self.seconds += pause
        return blocks


def total(blocks: list[tuple[float, int]], since: float = 0.0, until: float = 1e9) -> int:
    return sum(size for at, size in blocks if since <= at < until)


RATES = ["1K", "50K", "500K", "2M", "20M", "200M"]


@pytest.mark.parametrize("rate", RATES)
def test_exact_within_a_percent_over_10_seconds(rate: str) -> None:
    limit = parse_timetable(rate, "").rest
    assert limit is not None
    assert total(World(rate).send(10)) == pytest.approx(10 * limit, rel=0.01)


@pytest.mark.parametrize("rate", RATES)
def test_no_burst_above_a_fraction_of_a_second(rate: str) -> None:
    limit = parse_timetable(rate, "").rest
    assert limit is not None
    world = World(rate)
    world.sleep(3600)  # an hour in which nothing was sent is no credit
    blocks = world.send(5)
    for moment in range(50):
        since = 3600 + moment / 10
        assert total(blocks, since, since + 0.1) <= 0.4 * limit + 64


def test_short_pauses_are_made_up_for() -> None:
    """The line is not lost while an answer is awaited."""
    assert total(World("2M").send(10, pause=0.02)) == pytest.approx(20 * 1024**2, rel=0.02)


def test_a_fast_line_is_not_slept_on_for_every_block() -> None:
    world = World("200M")
    blocks = world.send(1)
    assert len(world.naps) < len(blocks) / 4


def test_off_waits_for_nothing() -> None:
    world = World("off")
    assert [world.limiter.take(BLOCK) for _ in range(1000)] == [BLOCK] * 1000
    assert world.naps == []


def test_the_timetable_holds_within_a_second() -> None:
    world = World("08:00-08:01=1M,00:00-08:00=100K,off")
    blocks = world.send(70)
    assert world.notes[:2] == [
        "rate: at most 100.0 KiB/s for all uploads together, until 08:00",
        "rate: at most 1.0 MiB/s for all uploads together, until 08:01",
    ]
    assert total(blocks, 0, 10) == pytest.approx(10 * 100 * 1024, rel=0.01)
    assert total(blocks, 11, 69) == pytest.approx(58 * 1024**2, rel=0.01)


def test_what_is_told_of_the_times() -> None:
    for timetable, note in {
        "512K": "rate: at most 512.0 KiB/s for all uploads together",
        "off": "rate: no limit",
        "Mon=1M,off": "rate: at most 1.0 MiB/s for all uploads together, until 00:00 on Tuesday",
        "08:00-18:00=1M,off": "rate: no limit, until 08:00",
    }.items():
        world = World(timetable)
        world.limiter.take(1)
        world.limiter.take(1)
        assert world.notes == [note]


class Share:
    """A share of the queue's rate that the test changes."""

    def __init__(self) -> None:
        self.timetable: Timetable | None = parse_timetable("1M", "")
        self.bytes_per_second: float | None = None

    def share(self) -> float | None:
        return self.bytes_per_second

    fair_share = share


def test_a_share_that_changes_every_second_is_exact() -> None:
    share, seconds, naps = Share(), [0.0], [0.0]

    def sleep(pause: float) -> None:
        naps.append(pause)
        seconds[0] += pause

    limiter = RateLimiter(None, lambda _: None, queue=share, clock=lambda: seconds[0], sleep=sleep)
    sent = allowed = 0.0
    for number in range(20):
        share.bytes_per_second = (1 + number * 7 % 11) * 50_000.0
        limiter.refresh()
        allowed += share.bytes_per_second
        while seconds[0] < number + 1:
            sent += limiter.take(BLOCK)
    assert sent == pytest.approx(allowed, rel=0.03)
    assert limiter.use() == RateUse(int(sent), lacks=True, own=None)
    assert limiter.is_held_back()
    share.bytes_per_second = 0.0
    limiter.refresh()
    before = seconds[0]

    def give_up() -> None:
        if seconds[0] > before + 5:
            raise LeaseLost

    assert limiter.take(BLOCK) <= 64
    with pytest.raises(LeaseLost):
        limiter.take(BLOCK, give_up)
    share.bytes_per_second = None
    limiter.refresh()
    assert limiter.take(BLOCK) == BLOCK


def test_waiting_ends_when_the_job_is_not_ours_any_more() -> None:
    world, control = World("1K"), Control()
    world.limiter.take(BLOCK, control.check_lease)
    control.stop()
    world.limiter.take(BLOCK, control.check_lease)  # Ctrl-C: the chunk in flight ends
    control.lose_lease()
    naps = len(world.naps)
    with pytest.raises(LeaseLost):
        world.limiter.take(BLOCK, control.check_lease)
    assert len(world.naps) == naps


def test_threads_get_the_same() -> None:
    """Real threads and a real clock; the shares are compared, not the speed."""
    limiter = RateLimiter(parse_timetable("4M", ""), lambda _: None)
    done, end = [0] * 4, threading.Event()

    def send(number: int) -> None:
        while not end.is_set():
            done[number] += limiter.take(BLOCK)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    end.wait(1.5)
    end.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert min(done) > 0.3 * max(done)
