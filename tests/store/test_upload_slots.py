"""The uploads to a registry, divided among workers: simulated second by second."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from pusher.store.share_leases import KEPT, LEASE, TimeBetween
from pusher.store.upload_slots import SlotBudget, SlotUsage, divide_slots


@dataclass
class Worker:
    """Uses what it has at once, and gives up within a second what it has no more."""

    name: str
    wanted: int
    starts: float = 0.0
    dies: float = 1e9
    granted: int = 0
    busy: int = 0
    renewed: float | None = None
    served: int = 0
    hungry_since: float | None = None
    longest: float = 0.0

    def renew(self, budget: SlotBudget, most: int, now: float, jump: float = 0.0) -> None:
        seconds = None if self.renewed is None else now - self.renewed
        since = None if seconds is None else TimeBetween(seconds)
        usage = SlotUsage(self.wanted, self.busy, since, is_new=now < self.starts + LEASE)
        self.granted, self.renewed = budget.renew(self.name, most, usage, now + jump), now

    def send(self, now: float) -> None:
        self.busy = min(self.wanted, self.granted)
        self.served += self.busy
        if self.busy or not self.wanted:
            self.hungry_since = None
        elif self.hungry_since is None:
            self.hungry_since = now
        self.longest = max(self.longest, 0.0 if self.hungry_since is None else now - self.hungry_since)


def simulate(workers: list[Worker], most: int, seconds: int, jump_at: float = 1e9) -> list[int]:
    """Return how many uploads there were at a time, after each renewal of a worker."""
    budget, sums = SlotBudget(), []
    for second in range(seconds):
        for number, each in enumerate(workers):
            now = second + number / len(workers)
            if not each.starts <= now < each.dies:
                continue
            each.renew(budget, most, now, 0.0 if now < jump_at else -86400.0)
            budget = SlotBudget.from_json(json.loads(json.dumps(budget.to_json())))
            alive = [one for one in workers if now < one.dies]
            sums.append(sum(max(one.busy, min(one.granted, one.wanted)) for one in alive))
            each.send(now)
    return sums


@pytest.mark.parametrize(("count", "most"), [(1, 4), (3, 4), (5, 8), (20, 8), (3, 1)])
def test_there_are_never_more_and_in_the_end_as_many(count: int, most: int) -> None:
    sums = simulate([Worker(str(number), 4) for number in range(count)], most, 60)
    assert max(sums) == min(most, 4 * count)
    assert min(sums[10 * count :]) >= min(most, 4 * count) - 1


def test_workers_that_want_the_same_get_the_same() -> None:
    workers = [Worker("first", 8), Worker("second", 8, starts=5.0), Worker("little", 1, starts=7.0)]
    sums = simulate(workers, 7, 30)
    assert max(sums) == 7
    assert sorted(each.busy for each in workers) == [1, 3, 3]


def test_nobody_starves_where_there_are_fewer_slots_than_workers() -> None:
    workers = [Worker(str(number), 4) for number in range(6)]
    assert max(simulate(workers, 2, 1200)) == 2
    assert max(each.longest for each in workers) < 60 * 3 + 10
    assert min(each.served for each in workers) > 0.7 * max(each.served for each in workers)


def test_slots_of_the_dead_and_of_those_that_are_done_are_free() -> None:
    dead, alive = Worker("dead", 4, dies=10.0), Worker("alive", 4)
    simulate([dead, alive], 4, 10 + int(LEASE) + 3)
    assert alive.busy == 4
    done = SlotBudget()
    assert done.renew("a", 4, SlotUsage(4, 0), 0.0) == 4
    assert done.renew("a", 4, SlotUsage(0, 0, TimeBetween(1.0)), 1.0) == 0
    assert done.to_json() == {"shares": {}}


def test_a_slot_in_use_counts_until_it_is_free() -> None:
    budget = SlotBudget()
    assert budget.renew("a", 2, SlotUsage(2, 0), 0.0) == 2
    assert budget.renew("b", 2, SlotUsage(2, 0), 0.5) == 0
    assert budget.renew("a", 2, SlotUsage(2, 2, TimeBetween(1.0)), 1.0) == 1
    assert budget.renew("b", 2, SlotUsage(2, 0, TimeBetween(1.0)), 1.5) == 0, "a sends its chunk to the end"
    assert budget.renew("a", 2, SlotUsage(2, 1, TimeBetween(1.0)), 2.0) == 1
    assert budget.renew("b", 2, SlotUsage(2, 0, TimeBetween(1.0)), 2.5) == 1


def test_a_store_whose_clock_is_set_back_by_a_day() -> None:
    workers = [Worker(str(number), 4) for number in range(3)]
    sums = simulate(workers, 6, 40, jump_at=20.0)
    assert max(sums) == 6
    assert min(sums[15:]) >= 5


def test_after_an_outage_the_first_one_leaves_the_others_their_slots() -> None:
    budget = SlotBudget()
    for second in range(5):
        budget.renew("a", 2, SlotUsage(1, 1, TimeBetween(1.0)), second)
        budget.renew("b", 2, SlotUsage(1, 1, TimeBetween(1.0)), second)
    back = 4 + KEPT - 10
    assert budget.renew("a", 2, SlotUsage(2, 1, TimeBetween(KEPT - 10), is_new=True), back) == 1
    assert budget.renew("a", 2, SlotUsage(2, 1, TimeBetween(LEASE)), back + LEASE) == 2


def test_slots_are_divided_in_turn() -> None:
    assert divide_slots(5, [("a", 9), ("b", 9), ("c", 1)]) == {"a": 2, "b": 2, "c": 1}
    assert divide_slots(2, [("a", 9), ("b", 9), ("c", 1)]) == {"a": 1, "b": 1, "c": 0}
    assert divide_slots(9, [("a", 1), ("b", 2)]) == {"a": 1, "b": 2}
    assert divide_slots(0, [("a", 1)]) == {"a": 0}
