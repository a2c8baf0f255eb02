"""The speed over a window."""

from __future__ import annotations

import pytest

from pusher.progress.estimate import Estimator


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


def test_a_link_that_slows_down_is_believed_after_a_window() -> None:
    estimator = Estimator(now=0, window=10)
    for second in range(1, 21):
        estimator.add(1000, second)
    for second in range(21, 41):
        estimator.add(10, second)
    assert estimator.speed(40) == pytest.approx(10, rel=0.1)


def test_a_stalled_link_falls_to_zero() -> None:
    estimator = Estimator(now=0, window=10)
    estimator.add(1000, 1)
    assert estimator.speed(2) == pytest.approx(500)
    assert estimator.speed(9) == pytest.approx(1000 / 9)
    assert estimator.speed(30) == 0


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
