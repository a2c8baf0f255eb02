"""Jobs found by state, name and number, in the order of the page."""

from __future__ import annotations

import pytest

from pusher.store.job_filter import JobFilter
from pusher.store.records import JobState
from pusher.store.store import Store
from tests.support.databases import new_job


@pytest.fixture
def filled(store: Store) -> Store:
    for image, repository, tag in (
        ("nginx:1", "team/web", "1"),
        ("API:2", "team/api", "2"),
        ("100%:3", "other/odd_name", None),
        ("app:4", "team/app", "4"),
    ):
        store.jobs.add(new_job(image=image, repository=repository, tag=tag))
    store.jobs.cancel(4)
    store.jobs.pause(1)
    return store


def found(store: Store, wanted: JobFilter, offset: int = 0, limit: int = 10) -> list[int]:
    return [job.id for job in store.jobs.find(wanted, offset, limit)]


def test_unfinished_jobs_come_first_as_they_are_pushed_and_finished_ones_the_newest_first(
    filled: Store,
) -> None:
    assert found(filled, JobFilter()) == [1, 2, 3, 4]
    filled.jobs.add(new_job(priority=1))
    filled.jobs.cancel(2)
    assert found(filled, JobFilter()) == [5, 1, 3, 4, 2]


def test_pages_are_parts_of_one_order(filled: Store) -> None:
    assert [found(filled, JobFilter(), offset, 2) for offset in (0, 1, 2, 3, 4, 9)] == [
        [1, 2], [2, 3], [3, 4], [4], [], []
    ]  # fmt: skip


def test_text_is_part_of_the_image_or_the_destination_or_the_number(filled: Store) -> None:
    for text, ids in {
        "api": [2],
        "Team/": [1, 2, 4],
        "com/team/web:1": [1],
        "%": [3],
        "odd_n": [3],
        "oddxn": [],
        "team\\": [],
        "4": [4],
        "#2": [2],
        "#": [],
        "9" * 30: [],
        "²": [],
    }.items():
        assert found(filled, JobFilter(text=text)) == ids, text


def test_states_and_text_together(filled: Store) -> None:
    queued = JobFilter([JobState.QUEUED], "team")
    assert found(filled, queued) == [2]
    assert found(filled, JobFilter([JobState.CANCELLED, JobState.PAUSED])) == [1, 4]
    assert filled.jobs.counts("team") == {JobState.QUEUED: 1, JobState.PAUSED: 1, JobState.CANCELLED: 1}


def test_the_newest_events_of_a_job(filled: Store) -> None:
    filled.events.add(2, "note", "first")
    filled.events.add(2, "note", "second")
    assert [event.message for event in filled.events.of(2, limit=2)] == ["first", "second"]
    assert [event.message for event in filled.events.of(2)][1:] == ["first", "second"]
