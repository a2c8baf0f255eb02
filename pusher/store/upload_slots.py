"""Divide the uploads to one registry among workers: each leases slots by the second.

``SlotBudget`` is what the job store keeps for a registry. Times are seconds by the store's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any, Final, Self

from pusher.dataclass import dataclass
from pusher.store.share_leases import KEPT, LEASE, TimeBetween, clock_jump

_TURN: Final = 60.0
"""Seconds for which a worker may keep its only slot while others have none."""


@dataclass
class SlotShare:
    """The slots of one worker, until the lease ends."""

    count: int
    """Leased, or still in use after there are fewer."""
    wanted: int
    since: float
    """When it got its first slot, or when it began to wait for one."""
    until: float


@dataclass(frozen=True)
class SlotUsage:
    """What a worker reports when it renews its slots."""

    wanted: int
    busy: int
    """Slots in use."""
    since: TimeBetween | None = None
    """Time since it last renewed them; None: it has none yet."""
    is_new: bool = False
    """It has just started, or could not reach the store: others may still use the slots they had."""


@dataclass
class SlotBudget:
    """The slots of all workers at one registry."""

    shares: dict[str, SlotShare] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return what ``to_json`` returned; an empty object is a new budget."""
        return cls({owner: SlotShare(*share) for owner, share in value.get("shares", {}).items()})

    def to_json(self) -> dict[str, Any]:
        """Return it for the job store."""
        return {
            "shares": {
                owner: [each.count, each.wanted, each.since, each.until]
                for owner, each in self.shares.items()
            }
        }

    def renew(self, owner: str, most: int, usage: SlotUsage, now: float) -> int:
        """Lease the owner's part of ``most`` slots for ``LEASE`` seconds; return how many it may use.

        Slots that it uses beyond that count until it reports that they are free.
        """
        before = self.shares.get(owner)
        if before is not None and (jump := clock_jump(before.until, usage.since, now)):
            for each in self.shares.values():
                each.since, each.until = each.since + jump, each.until + jump
        kept = KEPT if usage.is_new else 0.0
        self.shares = {name: each for name, each in self.shares.items() if now < each.until + KEPT}
        others = {name: each for name, each in self.shares.items() if name != owner}
        used = sum(each.count for each in others.values() if now < each.until + kept)
        had, since = (before.count, before.since) if before is not None else (0, now)
        mine = SlotShare(had, usage.wanted, since, now + LEASE)
        alive = {name: each for name, each in others.items() if now < each.until}
        queue = sorted({**alive, owner: mine}.items(), key=lambda item: _rank(item[1], now))
        fair = divide_slots(most, [(name, each.wanted) for name, each in queue])
        granted = max(0, min(fair[owner], most - used))
        mine.count = max(granted, usage.busy)
        if bool(mine.count) != bool(had):
            mine.since = now
        self.shares = others if not usage.wanted and not mine.count else {**others, owner: mine}
        return granted


def _rank(share: SlotShare, now: float) -> tuple[int, float]:
    """Return the place in the queue: who has just got a slot keeps it, then who waits, the longest first,
    then who has had one for long."""
    if not share.count:
        return 1, share.since
    return (0, share.since) if now - share.since < _TURN else (2, -share.since)


def divide_slots(most: int, wanted: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Divide slots in turn, one each, in the order of ``wanted``, until there are none or all have enough."""
    wants = list(wanted)
    shares = dict.fromkeys((owner for owner, _ in wants), 0)
    while most > 0 and any(shares[owner] < want for owner, want in wants):
        for owner, want in wants:
            if most > 0 and shares[owner] < want:
                shares[owner] += 1
                most -= 1
    return shares
