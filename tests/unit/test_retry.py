"""Pauses: how long, how often, and who decides."""

from __future__ import annotations

import pytest

from pusher.errors import (
    ConnectionBroken,
    DiskFull,
    PermissionDenied,
    PusherError,
    RegistryBusy,
    RegistryFault,
    RegistryUnreachable,
    Stopped,
)
from pusher.retry import Attempts, Backoff, RetryPolicy, retrying


def longest() -> float:
    return 1.0


def shortest() -> float:
    return 0.0


def pauses(attempts: Attempts, error: PusherError) -> list[float]:
    """All pauses in a row until somebody else must be patient."""
    found: list[float] = []
    while (pause := attempts.pause_after(error)) is not None:
        found.append(pause)
        assert len(found) < 100
    return found


def test_pauses_double_up_to_the_cap() -> None:
    attempts = Attempts(Backoff(first=0.5, longest=15, tries=7), longest)
    assert pauses(attempts, ConnectionBroken("x")) == [0.5, 1, 2, 4, 8, 15, 15]


def test_jitter_is_full() -> None:
    assert pauses(Attempts(Backoff(), shortest), ConnectionBroken("x")) == [0.0] * 6
    assert pauses(Attempts(Backoff(first=1, tries=2), lambda: 0.25), RegistryFault("x")) == [0.25, 0.5]


def test_progress_starts_again() -> None:
    attempts = Attempts(Backoff(first=1, tries=3), longest)
    assert pauses(attempts, ConnectionBroken("x")) == [1, 2, 4]
    assert attempts.pause_after(ConnectionBroken("x")) is None
    attempts.reset()
    assert pauses(attempts, ConnectionBroken("x")) == [1, 2, 4]


def test_offline_is_soon_left_to_the_job() -> None:
    attempts = Attempts(Backoff(first=1, tries=6, offline_tries=2), longest)
    assert pauses(attempts, RegistryUnreachable("x")) == [1, 2]
    assert attempts.pause_after(ConnectionBroken("x")) == 4, "another error still has its tries"


@pytest.mark.parametrize("error", [PermissionDenied("x"), DiskFull("x")])
def test_what_a_pause_cannot_mend_is_not_tried_again(error: PusherError) -> None:
    assert Attempts(Backoff()).pause_after(error) is None


@pytest.mark.parametrize(
    ("asked", "expected"), [(0.0, 0.0), (7.0, 7.0), (15.0, 15.0), (15.1, None), (900.0, None)]
)
def test_retry_after_is_obeyed_exactly_or_left_to_the_job(asked: float, expected: float | None) -> None:
    assert (
        Attempts(Backoff(longest=15), shortest).pause_after(RegistryBusy("x", retry_after=asked)) == expected
    )


def test_retry_after_does_not_make_tries_endless() -> None:
    assert len(pauses(Attempts(Backoff(tries=4)), RegistryBusy("x", retry_after=0.0))) == 4


# --- a whole job ------------------------------------------------------------------------------------------


def seconds(error: PusherError, failures: int, draw: float = 1.0) -> float:
    return RetryPolicy().job_pause(error, failures, lambda: draw)


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
    assert seconds(DiskFull("x"), 0) == seconds(DiskFull("x"), 9) == 300


# --- the loop ---------------------------------------------------------------------------------------------


class Step:
    """Raises each of ``errors`` in turn, then returns "done"."""

    def __init__(self, *errors: PusherError) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_a_step_is_repeated_until_it_returns() -> None:
    first, second = ConnectionBroken("x"), RegistryBusy("y", retry_after=3.0)
    step, waits = Step(first, second), []
    attempts = Attempts(Backoff(first=1, longest=8), longest)
    assert retrying(step, attempts, lambda pause, error: waits.append((pause, error))) == "done"
    assert waits == [(1.0, first), (3.0, second)]


def test_the_last_error_is_raised_once_the_tries_are_used_up() -> None:
    step = Step(*(RegistryFault(str(number)) for number in range(9)))
    with pytest.raises(RegistryFault, match="2"):
        retrying(step, Attempts(Backoff(tries=2)), lambda pause, error: None)
    assert step.calls == 3


def test_an_error_that_no_pause_fixes_is_raised_at_once() -> None:
    step, waits = Step(PermissionDenied("x")), []
    with pytest.raises(PermissionDenied):
        retrying(step, Attempts(Backoff()), lambda pause, error: waits.append(pause))
    assert (step.calls, waits) == (1, [])


def test_what_the_wait_raises_stops_the_loop() -> None:
    def stop(pause: float, error: PusherError) -> None:
        raise Stopped

    step = Step(RegistryFault("x"))
    with pytest.raises(Stopped):
        retrying(step, Attempts(Backoff()), stop)
    assert step.calls == 1


def test_steps_without_limit_and_jitter_wait_as_long_as_the_longest_pause() -> None:
    attempts = Attempts(Backoff(first=0.5, longest=2, tries=None, jitter=False), shortest)
    found = [attempts.pause_after(RegistryFault("x")) for _ in range(2000)]
    assert found[:4] == [0.5, 1, 2, 2]
    assert set(found[4:]) == {2}
