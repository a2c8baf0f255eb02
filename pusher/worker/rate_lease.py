"""Lease this worker's share of the rate of all workers, and use it no longer than is agreed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pusher.config import Timetable
from pusher.config.timetable import MIN_RATE
from pusher.dataclass import dataclass
from pusher.errors import PusherError
from pusher.store.budgets import Budgets, BudgetState
from pusher.store.queue_settings import QueueSetting
from pusher.store.rate_budget import LeasedRate, RateBudget, RateUsage
from pusher.system import elapsed
from pusher.worker.rate import RateUse
from pusher.worker.share_lease import Renewal, ShareLease

RATE: Final = "rate"
"""Name of the budget."""
_SPARE: Final = 1.2
"""How many times the bytes that were sent a worker leases that does not lack anything."""
_FAIR: Final = 0.9
"""Part of its fair share with which a worker waits for the next regular renewal."""


@dataclass(frozen=True)
class _Renewed:
    """What the store recorded."""

    leased: LeasedRate
    usage: RateUsage
    lacked: bool


class RateLease:
    """The share of one worker. ``clock`` returns seconds that pass during sleep as well."""

    def __init__(self, clock: Callable[[], float] = elapsed) -> None:
        self._lease = ShareLease(clock)
        self.timetable: Timetable | None = None
        """The rate of all workers."""
        self._share: float | None = None
        self._renewed: _Renewed | None = None
        self._unreported = 0

    def share(self) -> float | None:
        """Return the bytes a second that may be sent at present; None without a limit.

        Without a current lease it is 0; while the job store is away, the last share for ``KEPT`` seconds,
        then next to nothing, so that the chunks that are being sent stay alive.
        """
        if self._share is None or self._lease.is_current:
            return self._share
        return min(self._share, MIN_RATE) if self._lease.is_away else 0.0

    def fair_share(self) -> float | None:
        """Return the share that the worker has as soon as it needs it, and others have only theirs; None
        without a limit."""
        if self._share is None or self._renewed is None:
            return self._share
        return max(self._share, self._renewed.leased.attainable)

    @property
    def is_unfair(self) -> bool:
        """Whether the share is less than the fair one, as others still use it."""
        leased = None if self._renewed is None or self._lease.is_away else self._renewed.leased
        return leased is not None and leased.share < _FAIR * leased.fair

    @property
    def is_more_left(self) -> bool:
        """Whether others did not use their shares, and this worker can use more."""
        return self._renewed is not None and not self._lease.is_away and self._renewed.leased.is_more_left

    def is_outdated(self, *, lacks: bool) -> bool:
        """Return whether the share was leased when the opposite was true of the worker."""
        return self._renewed is not None and self._renewed.lacked != lacks

    def renew(
        self,
        budgets: Budgets,
        owner: str,
        use: Callable[[], RateUse],
        take_up: Callable[[Mapping[str, QueueSetting]], None] = lambda settings: None,  # noqa: ARG005
    ) -> None:
        """Renew the share of the rate that ``timetable`` has at the store's time, in this machine's zone.

        ``use`` returns that since it was last called; ``take_up`` gets the queue's settings and may change
        ``timetable``. Both are called in the transaction, however long it waited for other workers'. Raises
        StoreError; the last share is used meanwhile.
        """

        def change(state: BudgetState) -> tuple[Mapping[str, Any], _Renewed | None]:
            take_up(state.settings)
            budget, timetable = RateBudget.from_json(state.content), self.timetable
            at = datetime.fromtimestamp(state.at, UTC).astimezone()
            rate = None if timetable is None else timetable.rate_at(at)
            used = use()
            usage = self._usage(renewal, used)
            renewed = None
            if rate is None:
                budget.release(owner)
            else:
                renewed = _Renewed(budget.renew(owner, rate, usage, state.at), usage, used.lacks)
            return budget.to_json(), renewed

        try:
            with self._lease.renewing() as renewal:
                renewed = budgets.change(RATE, change)
        except PusherError:
            self._fall_back()
            raise
        self._renewed, self._unreported = renewed, 0
        self._share = None if renewed is None else renewed.leased.share

    def release(self, budgets: Budgets, owner: str) -> None:
        """Give the share to the other workers. Raises StoreError."""
        if self._share is None:
            return

        def change(state: BudgetState) -> tuple[Mapping[str, Any], None]:
            budget = RateBudget.from_json(state.content)
            budget.release(owner)
            return budget.to_json(), None

        budgets.change(RATE, change)
        self._share = self._renewed = None
        self._lease.end()

    def _usage(self, renewal: Renewal, use: RateUse) -> RateUsage:
        since = renewal.since()
        self._unreported += use.sent
        if not use.is_busy:
            wanted = 0.0
        elif since is None or not since.seconds:
            wanted = None
        elif not use.lacks:
            wanted = self._unreported / since.seconds * _SPARE
        else:  # less than it leased is no news
            before = None if self._renewed is None else self._renewed.usage.wanted
            squeezed = before is not None and self._share is not None and self._share < before
            wanted = before if squeezed else None
        if use.own is not None:
            wanted = use.own if wanted is None else min(wanted, use.own)
        return RateUsage(wanted, self._unreported, since, is_new=renewal.is_new)

    def _fall_back(self) -> None:
        """Obey a limit that was read and cannot be leased, as with a full disk."""
        rate = None if self.timetable is None else self.timetable.rate_at(datetime.now(UTC).astimezone())
        if rate is not None:
            self._share = rate if self._share is None else min(rate, self._share)
            self._lease.begin()
