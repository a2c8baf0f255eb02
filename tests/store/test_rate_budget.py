"""One rate for all workers: simulated to the hundredth of a second, without a database."""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pusher.store.rate_budget import RateBudget, RateUsage, divide
from pusher.store.share_leases import KEPT, LEASE, TimeBetween

RATE = 1_000_000.0
STEP = 0.02
INF = math.inf

Desire = Callable[[float], float]
"""The bytes a second that a worker could send at a time."""


@dataclass
class Worker:
    """Renews its share every second, and uses what it has of it."""

    name: str
    desire: Desire
    starts: float = 0.0
    dies: float = INF
    share: float = 0.0
    sent: float = 0.0
    total: float = 0.0
    lacks: bool = True
    wanted: float | None = None
    renewed: float | None = None
    next: float = 0.0

    def renew(self, budget: RateBudget, now: float, *, jump: float = 0.0) -> None:
        seconds = None if self.renewed is None else now - self.renewed
        if self.lacks:
            self.wanted = self.wanted if self.wanted is not None and self.share < self.wanted else None
        else:
            self.wanted = self.sent / (seconds or 1.0) * 1.2
        since = None if seconds is None else TimeBetween(seconds)
        usage = RateUsage(self.wanted, self.sent, since, is_new=now < self.starts + LEASE)
        leased = budget.renew(self.name, RATE, usage, now + jump)
        self.share = leased.share
        self.renewed, self.sent, self.lacks = now, 0.0, False
        self.next = now + (0.25 if leased.share < 0.9 * leased.fair else 1.0)

    def send(self, now: float) -> float:
        desire = self.desire(now)
        count = min(desire, self.share) * STEP
        self.lacks = self.lacks or desire > self.share
        self.sent += count
        self.total += count
        return count


def simulate(workers: list[Worker], seconds: float = 40.0, jump_at: float = INF) -> list[float]:
    """Return what was sent in each 10 s, as a part of what the rate allows."""
    budget, sent = RateBudget(), [0.0]
    for each in workers:
        each.next = each.starts
    for number in range(int(seconds / STEP)):
        now = number * STEP
        budget = RateBudget.from_json(json.loads(json.dumps(budget.to_json())))
        alive = [each for each in workers if each.starts <= now < each.dies]
        for each in alive:
            if now >= each.next:
                each.renew(budget, now, jump=0.0 if now < jump_at else 86400.0)
        sent.append(sent[-1] + sum(each.send(now) for each in alive))
    width = int(10 / STEP)
    return [(sent[at + width] - sent[at]) / (10 * RATE) for at in range(0, len(sent) - width, 5)]


def hungry(count: int, pause: float | None = None) -> list[Worker]:
    draw = random.Random(count)
    starts = [number * pause if pause is not None else draw.random() for number in range(count)]
    return [Worker(str(number), lambda _: INF, begin) for number, begin in enumerate(starts)]


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_the_sum_is_the_rate_whatever_the_number_of_workers(count: int) -> None:
    workers = hungry(count)
    windows = simulate(workers)
    assert max(windows) < 1.03
    assert min(windows[20:]) > 0.97
    shares = [each.total for each in workers]
    assert min(shares) > 0.9 * statistics.median(shares), "each gets the same"


def test_workers_that_start_one_after_the_other() -> None:
    windows = simulate(hungry(20, pause=1.5))
    assert min(windows[20:]) > 0.97
    assert max(windows) < 1.03


def test_what_one_cannot_use_goes_to_the_others() -> None:
    slow = [Worker(f"slow{number}", lambda _: 30_000.0, number / 20) for number in range(19)]
    fast = Worker("fast", lambda _: INF)
    windows = simulate([*slow, fast])
    assert max(windows) < 1.05
    assert min(windows[20:]) > 0.95
    assert fast.total / 40 > 0.35 * RATE
    assert min(each.total for each in slow) / 40 > 0.95 * 30_000 * 0.95


def test_no_burst_follows_a_time_without_uploads() -> None:
    windows = simulate([Worker(str(n), lambda now: INF if now > 15 else 0.0, n / 5) for n in range(5)])
    assert max(windows) < 1.05
    assert windows[-1] > 0.97


def test_breaks_between_chunks_are_made_up_for() -> None:
    def breaks(after: float) -> Desire:
        return lambda now: 0.0 if (now + after) % 1.0 < 0.2 else INF

    windows = simulate([Worker(str(n), breaks(n / 3), n / 7) for n in range(6)])
    assert max(windows) < 1.05
    assert min(windows[20:]) > 0.95, "each of six workers sends nothing in a fifth of the time"


def test_the_share_of_a_dead_worker_is_free_after_its_lease() -> None:
    survivors, dying = hungry(2), Worker("dying", lambda _: INF, 0.5, dies=20.0)
    windows = simulate([*survivors, dying])
    assert max(windows) < 1.03
    assert min(windows[20:]) > 1 - (LEASE + 1) / 10 / 3
    assert windows[-1] > 0.97


def test_a_store_whose_clock_is_set_forward_by_a_day() -> None:
    windows = simulate(hungry(5), jump_at=20.0)
    assert max(windows) < 1.05
    assert min(windows[20:]) > 0.95


def test_after_an_outage_the_first_one_leaves_the_others_their_shares() -> None:
    budget, shares = RateBudget(), {"a": 0.0, "b": 0.0}
    for second in range(10):
        for name, share in shares.items():
            usage = RateUsage(None, share, TimeBetween(1.0))
            shares[name] = budget.renew(name, RATE, usage, second).share
    back = 9 + KEPT - 10
    first = budget.renew("a", RATE, RateUsage(None, 0.0, TimeBetween(KEPT - 10), is_new=True), back)
    assert first.share == pytest.approx(RATE / 2, rel=0.1)
    assert first.fair == pytest.approx(RATE, rel=0.1)
    later = budget.renew("a", RATE, RateUsage(None, first.share * LEASE, TimeBetween(LEASE)), back + LEASE)
    assert later.share > 0.95 * RATE, "the other one is dead"


def test_shares_are_max_min_fair() -> None:
    assert divide(90, {"a": None, "b": None, "c": None}) == {"a": 30, "b": 30, "c": 30}
    assert divide(90, {"a": 10, "b": None, "c": None}) == {"a": 10, "b": 40, "c": 40}
    assert divide(90, {"a": 10, "b": 35, "c": 80}) == {"a": 10, "b": 35, "c": 45}
    assert divide(90, {"a": 10, "b": 20}) == {"a": 40, "b": 50}, "the rest is divided equally"
    assert divide(0, {"a": None}) == {"a": 0}
