"""A registry that limits requests is asked no faster than it lets us."""

from __future__ import annotations

from pathlib import Path

import pytest

from pusher.registry.http.answer import Answer
from pusher.registry.request_rate import RequestRate
from tests.registry.helpers import RULES, Push, pushing
from tests.support.fakeregistry import Action, Fault, On
from tests.support.fakeregistry.rules import Exchange, problem
from tests.support.fakeregistry.wire import Reply


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Limit(Action):
    """A bucket of one token that is filled ``rate`` times a second."""

    def __init__(self, clock: Clock, rate: float, status: int = 429) -> None:
        self._clock, self._every, self._status = clock, 1 / rate, status
        self._free_at = 0.0
        self.refused = 0

    def answer(self, exchange: Exchange) -> Reply | None:
        if self._clock() < self._free_at:
            self.refused += 1
            return problem(self._status, "TOOMANYREQUESTS", "slow down")
        self._free_at = self._clock() + self._every
        return None


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("rate", [1.0, 3.0, 10.0])
def test_a_limit_without_burst_is_passed(rate: float, status: int, tmp_path: Path) -> None:
    clock = Clock()
    limit = Limit(clock, rate, status)

    def paced(push: Push) -> None:
        push.client._rate = RequestRate(clock=clock, sleep=clock.sleep)

    with pushing(RULES["distribution-3"], tmp_path, chunk_size=1000) as push:
        push.registry.faults.add(Fault(On.ANY, limit, times=None))
        paced(push)
        assert push.run() == "uploaded"
        push.assert_there(faults=limit.refused)
        assert limit.refused < 12
        assert clock.now - 1000 < 3 * len(push.registry.requests()) / rate, (
            "and not much slower than it may be"
        )
        assert len(push.registry.requests(On.HEAD_BLOB)) <= limit.refused + 1


def answered(status: int, **headers: str) -> Answer:
    return Answer("GET", "https://r.example/v2/", status, headers)


def test_without_refusals_there_is_no_pause() -> None:
    clock = Clock()
    free = RequestRate(clock=clock, sleep=clock.sleep)
    for _ in range(50):
        free.record_answer(answered(200), free.wait_for_turn())
    assert clock.now == 1000


def test_an_outage_slows_down_once_and_is_forgotten() -> None:
    clock = Clock()
    slowed = RequestRate(clock=clock, sleep=clock.sleep)
    for status in [200, *[503] * 10, *[200] * 30]:
        slowed.record_answer(answered(status), slowed.wait_for_turn())
    at = clock.now
    slowed.wait_for_turn()
    slowed.wait_for_turn()
    assert clock.now == at


def test_retry_after_holds_everybody_for_a_moment() -> None:
    clock = Clock()
    held = RequestRate(clock=clock, sleep=clock.sleep)
    held.record_answer(
        Answer("GET", "https://r.example/v2/", 429, {"Retry-After": "600"}), held.wait_for_turn()
    )
    held.wait_for_turn()
    assert clock.now == 1005
