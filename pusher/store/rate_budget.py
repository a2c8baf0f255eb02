"""Divide one rate among workers: each leases a share of it by the second.

``RateBudget`` is what the job store keeps; a worker reads and changes it in one transaction. Times are
seconds by the store's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final, Self

from pusher.dataclass import dataclass
from pusher.store.share_leases import KEPT, LEASE, TimeBetween, clock_jump

_CARRIED: Final = 0.36
"""Seconds of the rate that are carried over at most, of what workers did not use, or used too much: with
the credit of their limiters they must stay below 5 % of 10 s."""
_CARRIED_IDLE: Final = 0.1
"""The same while no worker lacks anything: no burst follows an hour in which nothing was sent."""
_SETTLED: Final = 1.0
"""Seconds within which what is carried over is spent."""
_SPARE: Final = 0.05
"""Seconds of the rate that are carried over, from which on workers that lack something ask for it soon."""


@dataclass
class RateShare:
    """What a worker may send, in bytes per second, until the lease ends."""

    share: float
    wanted: float | None
    """Bytes a second that it can use; None: as many as it gets."""
    until: float


@dataclass(frozen=True)
class LeasedRate:
    """What a worker gets, in bytes per second."""

    share: float
    fair: float
    """Its fair share, if other workers still have more than theirs: ``share`` is less then."""
    attainable: float
    """Its fair share if it used as much as it got."""
    is_more_left: bool = False
    """Others did not use their shares, and this worker can use more: it should soon renew its own."""


@dataclass(frozen=True)
class RateUsage:
    """What a worker reports when it renews its share."""

    wanted: float | None
    """As in RateShare."""
    sent: float = 0.0
    """Bytes sent since it last renewed it."""
    since: TimeBetween | None = None
    """Time since then; None: it has none yet."""
    is_new: bool = False
    """It has just started, or could not reach the store: others may have been cut off as well, and still use
    the shares they had."""


@dataclass
class RateBudget:
    """The shares of all workers, and what is carried over."""

    carried: float = 0.0
    """Bytes that may be sent beyond the rate, or were if it is negative."""
    counted_at: float | None = None
    shares: dict[str, RateShare] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return what ``to_json`` returned; an empty object is a new budget."""
        shares = {owner: RateShare(*share) for owner, share in value.get("shares", {}).items()}
        return cls(value.get("carried", 0.0), value.get("counted_at"), shares)

    def to_json(self) -> dict[str, Any]:
        """Return it for the job store."""
        shares = {owner: [each.share, each.wanted, each.until] for owner, each in self.shares.items()}
        return {"carried": self.carried, "counted_at": self.counted_at, "shares": shares}

    def renew(self, owner: str, rate: float, usage: RateUsage, now: float) -> LeasedRate:
        """Lease the owner's share of ``rate`` for ``LEASE`` seconds.

        It is less than the fair one while other workers still have more than theirs: the sum of all leases
        never exceeds the rate and what is carried over.
        """
        self._follow_clock(owner, usage, now)
        self._carry_over(owner, rate, usage, now)
        kept = KEPT if usage.is_new else 0.0
        self.shares = {name: each for name, each in self.shares.items() if now < each.until + KEPT}
        others = {name: each for name, each in self.shares.items() if name != owner}
        alive = {name: each.wanted for name, each in others.items() if now < each.until}
        available = max(0.0, rate + self.carried / _SETTLED)
        fair = divide(available, {**alive, owner: usage.wanted})[owner]
        leased = sum(each.share for each in others.values() if now < each.until + kept)
        share = max(0.0, min(fair, available - leased))
        self.shares[owner] = RateShare(share, usage.wanted, now + LEASE)
        is_more_left = usage.wanted is None and self.carried > _SPARE * rate
        attainable = fair if usage.wanted is None else divide(available, {**alive, owner: None})[owner]
        return LeasedRate(share, fair, attainable, is_more_left)

    def release(self, owner: str) -> None:
        """Give the owner's share to the others."""
        self.shares.pop(owner, None)

    def _follow_clock(self, owner: str, usage: RateUsage, now: float) -> None:
        """Shift all times if the store's clock was set since the owner last renewed its share."""
        before = self.shares.get(owner)
        if before is not None and (jump := clock_jump(before.until, usage.since, now)):
            for each in self.shares.values():
                each.until += jump
            self.counted_at = None

    def _carry_over(self, owner: str, rate: float, usage: RateUsage, now: float) -> None:
        """Count what nobody leased since the last count, and what the owner leased and did not use.

        Nothing is carried over from a time in which nobody counted.
        """
        began = self.counted_at
        if began is None or not 0 <= now - began <= LEASE:
            self.carried, began = 0.0, now
        leased = sum(each.share * max(0.0, min(now, each.until) - began) for each in self.shares.values())
        carried = self.carried + rate * (now - began) - leased
        if owner in self.shares and usage.since is not None and usage.since.seconds <= LEASE:
            carried += self.shares[owner].share * usage.since.seconds - usage.sent
        is_lacking = any(each.wanted is None for each in self.shares.values())
        most = (_CARRIED if is_lacking else _CARRIED_IDLE) * rate
        self.carried, self.counted_at = max(-_CARRIED * rate, min(carried, most)), now


def divide(total: float, wanted: Mapping[str, float | None]) -> dict[str, float]:
    """Divide ``total`` so that nobody gets more than it wants while another one lacks something (max-min
    fairness); what nobody wants is divided equally."""
    shares: dict[str, float] = {}
    left = total
    waiting = sorted(wanted.items(), key=lambda item: (item[1] is None, item[1] or 0.0))
    for position, (owner, want) in enumerate(waiting):
        equal = left / (len(waiting) - position)
        shares[owner] = equal if want is None else min(want, equal)
        left -= shares[owner]
    return {owner: share + left / len(shares) for owner, share in shares.items()}
