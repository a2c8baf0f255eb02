"""Whose clock counts: the server's where there is one, whatever becomes of this machine's."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pusher.store import engine
from pusher.store.store import Store
from tests.support.databases import PostgresServer, new_job


def test_a_host_whose_clock_is_set_steals_no_job(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.create("head")
    with Store.open(url) as store:
        before = store.now()
        store.jobs.add(new_job())
        job = store.jobs.claim("living", lease=30)
        assert job is not None
        true = engine.utc_now
        for hours in (1, -48):
            monkeypatch.setattr(engine, "utc_now", lambda hours=hours: true() + timedelta(hours=hours))
            with Store.open(url) as other:
                assert other.jobs.claim("other", lease=30, expired_owners=["living"]) is None
                assert [each.have_ended for each in other.jobs.leases()] == [False]
            store.jobs.renew("living", 30)
            store.jobs.check_lease(job)
            assert before < store.now() < before + timedelta(minutes=5)
    postgres.drop(url)
