"""When an expired lease may be taken over: a clock that is set makes living workers look dead."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from pusher.store.leases import OwnerLeases
from pusher.store.store import Store
from pusher.worker.expired_leases import ExpiredLeases
from pusher.worker.liveness import WorkerIdentity
from tests.support.databases import new_job
from tests.support.home import Home

_GRACE = 4.0
_T = datetime(2026, 3, 1, tzinfo=UTC)


class _Looks:
    """A worker that looks at one lease again and again, at times by its own clock."""

    def __init__(self) -> None:
        self.leases = ExpiredLeases(_GRACE)

    def look(self, at: float, *, until: int | None, ended: bool = True, took: float = 0.0) -> set[str]:
        """``until``: when the lease of "w" expires; None if it has none. ``took``: seconds of the query."""
        found = [] if until is None else [OwnerLeases("w", _T + timedelta(seconds=until), ended)]
        self.leases.update(found, at, at + took)
        assert self.leases.late_owners() == ({"w"} if until is not None and ended else set())
        return self.leases.owners()


@pytest.fixture
def looks() -> _Looks:
    return _Looks()


def test_a_lease_that_is_seen_expired_for_long_enough_is_free(looks: _Looks) -> None:
    assert looks.look(100.0, until=30, ended=False) == set()
    for second in range(4):
        assert looks.look(101.0 + second, until=30) == set()
    assert looks.look(105.0, until=30) == {"w"}


def test_a_lease_that_was_renewed_and_looks_expired_again_is_not(looks: _Looks) -> None:
    """A clock that is set three times in four seconds; the worker renews its leases each time."""
    for second in range(20):
        assert looks.look(100.0 + second, until=30 + 86400 * (second // 2)) == set()


def test_a_lease_that_is_current_once_is_not(looks: _Looks) -> None:
    for second in range(4):
        looks.look(100.0 + second, until=30)
    looks.look(103.5, until=30, ended=False)
    assert looks.look(104.5, until=30) == set()
    assert looks.look(108.0, until=30) == set()
    assert looks.look(108.5, until=30) == {"w"}


def test_time_in_which_nobody_looked_does_not_count(looks: _Looks) -> None:
    """The machine slept, and the owner of the lease with it."""
    looks.look(100.0, until=30)
    assert looks.look(5000.0, until=30) == set()
    assert looks.look(5003.9, until=30) == set()
    assert looks.look(5004.0, until=30) == {"w"}


def test_time_in_which_the_store_did_not_answer_does_not_count(looks: _Looks) -> None:
    """Nobody could renew a lease meanwhile."""
    looks.look(100.0, until=30)
    assert looks.look(100.5, until=30, took=60.0) == set()
    assert looks.look(161.0, until=30) == set()
    assert looks.look(164.9, until=30) == set()
    assert looks.look(165.0, until=30) == {"w"}


def test_an_owner_without_leases_is_forgotten(looks: _Looks) -> None:
    for second in range(6):
        looks.look(100.0 + second, until=30)
    assert looks.look(106.0, until=None) == set()
    assert looks.look(107.0, until=60) == set()


def test_a_worker_never_takes_over_its_own_leases(home: Home) -> None:
    home.store.jobs.add(new_job())
    with WorkerIdentity(home.settings.workers, 30) as identity:
        assert home.store.jobs.claim(identity.owner, lease=0) is not None
        assert identity.find_late_owners(home.store) == set()
        assert home.store.jobs.add(new_job())
        assert home.store.jobs.claim("elsewhere/1", lease=0) is not None
        assert identity.find_late_owners(home.store) == {"elsewhere/1"}
        assert identity.find_expired_owners(home.store) == set()


def test_leases_are_renewed_at_once_when_the_store_s_clock_is_set(home: Home) -> None:
    """As after a failover to another server; the clock of the machine of the worker stays true."""
    days, beaten = 0, threading.Event()

    def now() -> datetime:
        return datetime.now(UTC) + timedelta(days=days)

    home.store.jobs.add(new_job())
    with (
        Store.open(home.settings.database_url, clock=now) as store,
        WorkerIdentity(home.settings.workers, 3600) as identity,
    ):
        job = store.jobs.claim(identity.owner, lease=3600)
        assert job is not None
        with identity.heartbeat(store, beaten.set):
            for wrong in (5, -5):
                beaten.clear()
                assert beaten.wait(60), "the clock is known by now"
                before = store.jobs.get(job.id).lease_expires_at
                days = wrong
                deadline = time.monotonic() + 60
                while store.jobs.get(job.id).lease_expires_at == before:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                assert [each.have_ended for each in store.jobs.leases()] == [False]
        store.jobs.check_lease(job)
