"""A run for the whole queue tells of all that is not done, whoever has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pusher.errors import ExitCode
from pusher.store.records import JobState, StoredError
from tests.support.fakeregistry import FakeRegistry
from tests.support.home import Background, Home, pushed
from tests.support.images import Image

ERROR = StoredError("registry-refused", "the registry said no", "ask it why")


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("state", [JobState.PAUSED, JobState.RUNNING, JobState.WAITING])
def test_what_nobody_can_go_on_with_here_is_unfinished(
    home: Home, registry: FakeRegistry, archive: Path, state: JobState, beside: bool
) -> None:
    """Also beside a job that is pushed; but what another worker is at is not this one's fault."""
    left = home.enqueue(archive, f"{registry.address}/app:1")
    if state == JobState.PAUSED:
        home.store.jobs.pause(left.id)
    else:
        claimed = home.store.jobs.claim("elsewhere/1-a", lease=600)
        assert claimed is not None
        if state == JobState.WAITING:
            later = home.store.now().replace(microsecond=0)
            home.store.jobs.release(claimed, state=state, next_try_at=later, error=ERROR, attempt=True)
            registry.stop()
    done = []
    if beside and state != JobState.WAITING:
        done = [home.enqueue(archive, f"{registry.address}/app:2").id]
    result = home.run(give_up_after=0.1)
    expected = ExitCode.DONE if state == JobState.RUNNING else ExitCode.UNFINISHED
    assert (result.exit_code, [job.id for job in result.unfinished]) == (expected, [left.id])
    assert [job.id for job in result.succeeded] == done


def test_run_waits_for_other_workers_where_it_is_told_to(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """The other one gives up; the job is taken and done."""
    job = home.enqueue(archive, f"{registry.address}/app:1")
    other = home.store.jobs.claim("elsewhere/1-a", lease=600)
    assert other is not None
    looked = home.store.jobs.list
    worker = Background(home, wait=True)
    for _ in range(3):
        looked()
    assert worker.result is None
    home.store.jobs.release(other, state=JobState.QUEUED, attempt=False)
    result = worker.join()
    assert (result.exit_code, [done.id for done in result.succeeded]) == (ExitCode.DONE, [job.id])
    pushed(registry, "app", "1", image)


def test_jobs_that_failed_before_are_told_until_a_newer_one_takes_their_place(
    home: Home, registry: FakeRegistry, archive: Path
) -> None:
    failed = home.enqueue(archive, f"{registry.address}/app:1")
    claimed = home.store.jobs.claim("w", lease=600)
    assert claimed is not None
    home.store.jobs.fail(claimed, ERROR)
    result = home.run()
    assert (result.exit_code, [job.id for job in result.failed_before]) == (ExitCode.DONE, [failed.id])
    home.push(archive, f"{registry.address}/app:1")
    assert home.run().failed_before == []
