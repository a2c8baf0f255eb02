"""Settings that running workers follow."""

from __future__ import annotations

from datetime import timedelta

from pusher.store.queue_settings import LIMIT_RATE, OFF, PARALLEL, QueueSetting
from pusher.store.store import Store
from tests.support.databases import FakeClock


def test_a_setting_is_changed_and_removed(store: Store) -> None:
    assert store.settings.all() == {}
    assert store.settings.set(LIMIT_RATE, "2M") == QueueSetting("2M")
    store.settings.set(LIMIT_RATE, "1M")
    store.settings.set(PARALLEL, "3")
    assert store.settings.all() == {LIMIT_RATE: QueueSetting("1M"), PARALLEL: QueueSetting("3")}
    assert store.settings.clear(LIMIT_RATE)
    assert not store.settings.clear(LIMIT_RATE)
    assert store.settings.all() == {PARALLEL: QueueSetting("3")}


def test_a_setting_for_a_time_ends_by_the_stores_clock(store: Store, clock: FakeClock) -> None:
    store.settings.set(PARALLEL, "3")
    store.settings.set(LIMIT_RATE, "2M", 60)
    assert store.settings.all()[LIMIT_RATE].until == clock.now + timedelta(seconds=60)
    clock.advance(59)
    assert LIMIT_RATE in store.settings.all()
    clock.advance(1)
    assert list(store.settings.all()) == [PARALLEL]
    store.settings.set(LIMIT_RATE, "3M")
    assert store.settings.all()[LIMIT_RATE] == QueueSetting("3M")


def test_a_setting_for_a_time_returns_to_the_one_before(store: Store, clock: FakeClock) -> None:
    store.settings.set(LIMIT_RATE, "5M")
    store.settings.set(LIMIT_RATE, "1M", 60)
    assert store.settings.set(LIMIT_RATE, OFF, 120).then == "5M"
    clock.advance(119)
    assert store.settings.all()[LIMIT_RATE].value == OFF
    clock.advance(1)
    assert store.settings.all() == {LIMIT_RATE: QueueSetting("5M")}
    assert store.settings.set(LIMIT_RATE, "1M", 60).then == "5M", "the one that has come back"
