"""Pauses: how long, how often, and who decides."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pusher.errors import (
    ConnectionBroken,
    DiskFull,
    PermissionDenied,
    PusherError,
    RegistryBusy,
    RegistryFault,
    RegistryUnreachable,
)
from pusher.worker.retry import Backoff, job_pause


def longest() -> float:
    return 1.0


def shortest() -> float:
    return 0.0


def pauses(backoff: Backoff, error: PusherError) -> list[float]:
    """All pauses in a row until somebody else must be patient."""
    found: list[float] = []
    while (pause := backoff.pause(error)) is not None:
        found.append(pause)
        assert len(found) < 100
    return found


def test_pauses_double_up_to_the_cap() -> None:
    backoff = Backoff(first=0.5, cap=15, tries=7, draw=longest)
    assert pauses(backoff, ConnectionBroken("x")) == [0.5, 1, 2, 4, 8, 15, 15]


def test_jitter_is_full() -> None:
    assert pauses(Backoff(draw=shortest), ConnectionBroken("x")) == [0.0] * 6
    assert pauses(Backoff(first=1, tries=2, draw=lambda: 0.25), RegistryFault("x")) == [0.25, 0.5]


def test_progress_starts_again() -> None:
    backoff = Backoff(first=1, tries=3, draw=longest)
    assert pauses(backoff, ConnectionBroken("x")) == [1, 2, 4]
    assert backoff.pause(ConnectionBroken("x")) is None
    backoff.reset()
    assert pauses(backoff, ConnectionBroken("x")) == [1, 2, 4]


def test_offline_is_soon_left_to_the_job() -> None:
    backoff = Backoff(first=1, tries=6, offline_tries=2, draw=longest)
    assert pauses(backoff, RegistryUnreachable("x")) == [1, 2]
    assert backoff.pause(ConnectionBroken("x")) == 4, "another error still has its tries"


@pytest.mark.parametrize("error", [PermissionDenied("x"), DiskFull("x")])
def test_what_a_pause_cannot_mend_is_not_tried_again(error: PusherError) -> None:
    assert Backoff().pause(error) is None


@pytest.mark.parametrize(
    ("asked", "expected"), [(0.0, 0.0), (7.0, 7.0), (15.0, 15.0), (15.1, None), (900.0, None)]
)
def test_retry_after_is_obeyed_exactly_or_left_to_the_job(asked: float, expected: float | None) -> None:
    assert Backoff(cap=15, draw=shortest).pause(RegistryBusy("x", retry_after=asked)) == expected


def test_retry_after_does_not_make_tries_endless() -> None:
    assert len(pauses(Backoff(tries=4), RegistryBusy("x", retry_after=0.0))) == 4


# --- a whole job ------------------------------------------------------------------------------------------


def seconds(error: PusherError, failures: int, draw: float = 1.0) -> float:
    return job_pause(error, failures, lambda: draw).total_seconds()


def test_a_job_waits_longer_each_time_up_to_two_minutes() -> None:
    assert [seconds(RegistryFault("x"), n) for n in range(8)] == [2, 4, 8, 16, 32, 64, 120, 120]
    assert seconds(RegistryFault("x"), 10_000) == 120


def test_the_network_is_looked_for_every_half_minute() -> None:
    assert [seconds(RegistryUnreachable("x"), n) for n in range(6)] == [2, 4, 8, 16, 30, 30]


def test_half_of_a_jobs_pause_is_fixed() -> None:
    assert seconds(RegistryFault("x"), 3, draw=0.0) == 8
    assert seconds(RegistryFault("x"), 3, draw=0.5) == 12


def test_a_job_obeys_retry_after_up_to_an_hour() -> None:
    assert seconds(RegistryBusy("x", retry_after=600), 0) == 600
    assert seconds(RegistryBusy("x", retry_after=1), 3) == 16, "a shorter one does not shorten the pause"
    assert seconds(RegistryBusy("x", retry_after=10**9), 0) == 3600


def test_what_the_user_must_mend_is_looked_at_now_and_then() -> None:
    assert job_pause(DiskFull("x"), 0) == job_pause(DiskFull("x"), 9) == timedelta(minutes=5)
