"""A home stays within its limits, whatever commands it sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from pusher.errors import ExitCode
from pusher.store import events
from tests.support.fakeregistry import FakeRegistry
from tests.support.home import Home
from tests.support.images import make_image, write_archive


def test_pushes_alone_keep_the_limits(home: Home, registry: FakeRegistry, tmp_path: Path) -> None:
    """Of four different images, each pushed once, the last job is left, and no more blobs than allowed."""
    sizes = []
    for number in range(4):
        archive = write_archive(tmp_path / f"{number}.tar", make_image(40_000 + number, compressible=0.0))
        job = home.enqueue(archive, f"{registry.address}/app:{number}")
        result = home.run([job.id], keep_jobs=0.0, spool_limit=50_000)
        assert [done.id for done in result.succeeded] == [job.id], "its own job is not deleted"
        assert [left.id for left in home.store.jobs.list()] == [job.id]
        sizes.append(sum(size for _, size, _ in home.spool.all_files()))
    assert max(sizes) <= 50_000
    assert min(sizes) > 40_000


def test_jobs_that_are_not_old_and_not_finished_stay(
    home: Home, registry: FakeRegistry, archive: Path
) -> None:
    done = home.push(archive, f"{registry.address}/app:1")
    paused = home.enqueue(archive, f"{registry.address}/app:2")
    home.store.jobs.pause(paused.id)
    home.run()
    assert [job.id for job in home.store.jobs.list()] == [done.id, paused.id]
    home.run(keep_jobs=0.0)
    assert [job.id for job in home.store.jobs.list()] == [paused.id]


def test_of_many_events_the_last_are_kept(
    home: Home, registry: FakeRegistry, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_EVENTS", 5)
    job = home.enqueue(archive, f"{registry.address}/app:1")
    other = home.enqueue(archive, f"{registry.address}/app:2")
    for number in range(20):
        for each in (job, other):
            home.store.events.add(each.id, "note", str(number))
    home.store.jobs.pause(other.id)
    assert home.run().exit_code == ExitCode.UNFINISHED
    assert len(home.events(job.id)) == 5
    assert home.kinds(job.id)[-1] == "succeeded"
    assert len(home.events(other.id)) == 22, "the run did not work on it"
