"""What a worker does every second in the background."""

from __future__ import annotations

import threading

import pytest

from pusher.errors import StoreError
from pusher.worker.periodic import calling_every
from tests.support.waiting import PATIENCE


@pytest.mark.parametrize("error", [StoreError("the job store is away"), ValueError("a bug")])
def test_a_step_that_fails_is_called_again(error: Exception) -> None:
    """A heartbeat that ended with its first error would let the leases of running jobs expire."""
    calls: list[int] = []
    again = threading.Event()

    def step() -> None:
        calls.append(len(calls))
        if len(calls) == 1:
            raise error
        again.set()

    with calling_every(0.01, step, name="step"):
        assert again.wait(PATIENCE)


def test_it_ends_with_its_context() -> None:
    called = threading.Event()
    with calling_every(0.01, called.set, name="step"):
        assert called.wait(PATIENCE)
    assert all(thread.name != "step" for thread in threading.enumerate())
