"""The speed over a window, in series as links and uploads make them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from pusher.progress.estimate import Estimator

_BLOCK = 128 * 1024
Rate = Callable[[float], float]


def _blocks(rate: Rate, until: float, noise: float = 0.2) -> Iterator[tuple[float, int]]:
    """Yield when each block has been sent, and its size."""
    source, now = random.Random(1), 0.0
    while now < until:
        if not rate(now):
            now += 0.1
            continue
        now += _BLOCK / rate(now) / max(0.5, source.gauss(1, noise))
        yield now, _BLOCK


def _bursts(seconds: float, pause: float, rate: float, until: float) -> Iterator[tuple[float, int]]:
    """Yield the same of chunks that are sent at once, and then waited for."""
    begin = 0.0
    while begin < until:
        for block in range(1, round(seconds * rate / _BLOCK) + 1):
            yield begin + block * _BLOCK / rate, _BLOCK
        begin += seconds + pause


def _speeds(blocks: Iterator[tuple[float, int]], until: float) -> dict[float, float | None]:
    """Return the speed at each fifth of a second."""
    estimator, found, now = Estimator(now=0), {}, 0.0
    due = next(blocks)
    while now < until:
        now = round(now + 0.2, 1)
        while due[0] <= now:
            estimator.add(due[1], due[0])
            due = next(blocks, (until + 1, 0))
        found[now] = estimator.speed(now)
    return found


def _range(speeds: dict[float, float | None], begin: float, end: float = 1e9) -> tuple[float, float]:
    found = [speed for now, speed in speeds.items() if begin <= now <= end and speed is not None]
    return min(found), max(found)


def test_no_speed_before_anything_can_be_said() -> None:
    estimator = Estimator(now=0)
    estimator.add(1000, 0.1)
    assert estimator.speed(0.4) is None
    assert estimator.speed(0.5) == pytest.approx(2000)


def test_a_steady_link() -> None:
    estimator = Estimator(now=0, window=10)
    for tenth in range(1, 1001):
        estimator.add(100, tenth / 10)
    assert estimator.speed(100) == pytest.approx(1000, rel=0.05)


@pytest.mark.parametrize("rate", [20e3, 1e6, 40e6])
def test_the_speed_of_a_noisy_link_hardly_moves(rate: float) -> None:
    low, high = _range(_speeds(_blocks(lambda now: rate, 300), 300), 100)
    assert low > 0.75 * rate
    assert high < 1.25 * rate


@pytest.mark.parametrize(("seconds", "pause"), [(1, 9), (2, 3), (5, 5), (10, 1)])
def test_bursts_of_chunks_have_their_mean_speed(seconds: float, pause: float) -> None:
    """As where a registry takes its time for each chunk, or chunks wait for the compressor."""
    mean = 10e6 * seconds / (seconds + pause)
    low, high = _range(_speeds(_bursts(seconds, pause, 10e6, 300), 300), 60)
    assert low > 0.75 * mean
    assert high < 1.25 * mean


@pytest.mark.parametrize(
    ("before", "after", "within"),
    [(1e6, 5e6, 8), (0.5e6, 40e6, 8), (5e6, 8e6, 8), (5e6, 3e6, 8), (5e6, 1e6, 10), (5e6, 0.1e6, 20)],
)
def test_a_changed_link_is_followed_within_seconds(before: float, after: float, within: float) -> None:
    speeds = _speeds(_blocks(lambda now: before if now < 100 else after, 200), 200)
    low, high = _range(speeds, 100 + within)
    assert low > 0.7 * after
    assert high < 1.3 * after


def test_in_a_stall_the_speed_is_zero_and_afterwards_that_of_the_link() -> None:
    speeds = _speeds(_blocks(lambda now: 0 if 100 < now < 160 else 5e6, 200), 200)
    assert _range(speeds, 100, 104.5)[0] > 4e6, "a short pause is none"
    assert _range(speeds, 106, 160) == (0, 0)
    low, high = _range(speeds, 160.8)
    assert low > 4e6
    assert high < 6e6


def test_stalls_that_return_count() -> None:
    """Otherwise the time left would be that of a link without them."""
    low, high = _range(_speeds(_blocks(lambda now: 0 if now % 40 > 20 else 5e6, 400), 400), 60)
    assert low == 0
    assert high < 5.5e6
    mean = 2.5e6
    speeds = _speeds(_blocks(lambda now: 0 if now % 20 > 10 else 5e6, 400), 400)
    assert _range(speeds, 60)[0] > 0.6 * mean


def test_a_stalled_link_falls_to_zero() -> None:
    estimator = Estimator(now=0, window=10)
    estimator.add(1000, 1)
    assert estimator.speed(2) == pytest.approx(500)
    assert estimator.speed(5) == pytest.approx(200)
    assert estimator.speed(7) == 0


def test_a_link_that_became_very_slow_did_not_stall() -> None:
    estimator = Estimator(now=0)
    for second in range(1, 31):
        estimator.add(5_000_000, second)
    for block in range(1, 5):
        estimator.add(131_072, 30 + 26 * block)
    assert estimator.speed(134) == pytest.approx(131_072 / 26, rel=0.1)
    assert estimator.speed(150) == pytest.approx(131_072 / 26, rel=0.1), "the next block is not due yet"
    assert estimator.speed(195) == 0


def test_a_chunk_longer_than_the_window_still_gives_a_speed() -> None:
    estimator = Estimator(now=0, window=10)
    estimator.add(600, 60)
    estimator.add(600, 120)
    assert estimator.speed(120) == pytest.approx(10)


def test_memory_does_not_grow_with_the_calls() -> None:
    estimator = Estimator(now=0, window=10)
    for call in range(100_000):
        estimator.add(1, call / 1000)
    assert len(estimator._samples) <= 10 / 0.25 + 2
    assert estimator.speed(100) == pytest.approx(1000, rel=0.05)


def test_time_before_the_first_byte_and_in_pauses_does_not_count() -> None:
    """A push that resumes first looks what is there; after minutes of waiting it is not slow."""
    estimator = Estimator(now=0)
    estimator.resume(20)
    estimator.add(1000, 20.5)
    assert estimator.speed(21) == pytest.approx(1000)
    estimator.resume(22)
    assert estimator.speed(22) == pytest.approx(500), "a short pause counts"
    estimator.resume(300)
    assert estimator.speed(300) is None
    estimator.add(2000, 301)
    assert estimator.speed(301) == pytest.approx(2000)
