"""Two jobs for one tag, through the worker and a registry."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pusher.errors import ExitCode
from pusher.store.records import JobState
from tests.support.fakeregistry import FakeRegistry, Fault, On, Stall
from tests.support.home import CHUNK, Background, Home, blob_bytes, cut_off, pushed
from tests.support.images import Image, make_image, write_archive
from tests.support.waiting import PATIENCE


@pytest.fixture
def newer() -> Image:
    return make_image(300, compressible=0.0)


@pytest.fixture
def newer_archive(tmp_path: Path, newer: Image) -> Path:
    return write_archive(tmp_path / "newer.tar", newer)


def test_the_tag_ends_at_the_newer_image(
    home: Home, registry: FakeRegistry, archive: Path, newer: Image, newer_archive: Path
) -> None:
    to = f"{registry.address}/app:1"
    old, new = home.enqueue(archive, to), home.enqueue(newer_archive, to)
    result = home.run()
    assert (result.exit_code, [job.id for job in result.succeeded]) == (ExitCode.DONE, [new.id])
    assert home.state(old.id) == JobState.SUPERSEDED
    pushed(registry, "app", "1", newer)
    assert len(registry.requests(On.PUT_MANIFEST)) == 1


@pytest.mark.parametrize("parallel", [1, 2])
def test_kept_jobs_set_the_tag_in_their_order(
    home: Home,
    registry: FakeRegistry,
    image: Image,
    archive: Path,
    newer: Image,
    newer_archive: Path,
    parallel: int,
) -> None:
    """Also where the newer one goes first and is smaller."""
    to = f"{registry.address}/app:1"
    old = home.enqueue(archive, to)
    new = home.enqueue(newer_archive, to, keeps_older=True, priority=5)
    result = home.run(parallel=parallel)
    assert (result.exit_code, [job.id for job in result.succeeded]) == (ExitCode.DONE, [old.id, new.id])
    pushed(registry, "app", "1", newer)
    assert "manifest" not in [what for what, *_ in home.progress.of("waiting")], (
        "the job waits, not its thread"
    )
    digests = [home.job(job.id).digest for job in (old, new)]
    puts = registry.requests(On.PUT_MANIFEST)
    assert [record.reply_headers["Docker-Content-Digest"] for record in puts] == digests


def test_a_running_job_is_told_and_its_sessions_are_kept(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """The same image again: what the first one sent is not sent again."""
    stall = Stall(after_bytes=CHUNK // 2)
    registry.faults.add(Fault(On.CHUNK, stall, nth=2))
    to = f"{registry.address}/app:1"
    old = home.enqueue(archive, to)
    worker = Background(home, parallel=1)
    registry.wait_for_fault(On.CHUNK)
    new = home.enqueue(archive, to)
    stall.release()
    result = worker.join()
    assert (result.exit_code, [job.id for job in result.superseded]) == (ExitCode.DONE, [old.id])
    assert [job.id for job in result.succeeded] == [new.id]
    ended = [call for call in home.progress.of("job_ended") if call[0] == old.id]
    assert ended == [(old.id, "superseded", f"job {new.id} pushes to {to} now; what was sent is kept for it")]
    pushed(registry, "app", "1", image)
    assert registry.requests(On.CANCEL) == []
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + CHUNK
    assert home.kinds(old.id) == ["queued", "running", "superseded"]
    home.assert_clean()


def test_a_push_that_was_cut_off_is_not_finished_after_a_newer_one(
    home: Home, registry: FakeRegistry, archive: Path, newer: Image, newer_archive: Path
) -> None:
    to = f"{registry.address}/app:1"
    old = home.enqueue(archive, to)
    cut_off(home, registry, 2)
    home.push(newer_archive, to)
    assert home.run().exit_code == ExitCode.DONE
    assert home.state(old.id) == JobState.SUPERSEDED
    pushed(registry, "app", "1", newer)
    assert registry.sessions == {}, "the newer image has none of its blobs"


def test_who_enqueues_while_the_manifest_is_on_its_way_comes_after_it(
    home: Home, registry: FakeRegistry, archive: Path, newer: Image, newer_archive: Path
) -> None:
    stall = Stall(after_bytes=10)
    registry.faults.add(Fault(On.PUT_MANIFEST, stall))
    to = f"{registry.address}/app:1"
    old = home.enqueue(archive, to)
    first = Background(home, only=[old.id])
    registry.wait_for_fault(On.PUT_MANIFEST)
    new = home.enqueue(newer_archive, to)
    second = Background(home, only=[new.id])
    waiting = threading.Event()
    home.progress.hooks["waiting"] = lambda what, *_: waiting.set() if what == f"job {new.id}" else None
    assert waiting.wait(PATIENCE)
    stall.release()
    assert first.join().exit_code == second.join().exit_code == ExitCode.DONE
    assert [home.state(job.id) for job in (old, new)] == [JobState.SUCCEEDED] * 2
    pushed(registry, "app", "1", newer)


def test_behind_a_paused_job_the_run_ends_and_says_what_to_do(
    home: Home, registry: FakeRegistry, archive: Path, newer: Image, newer_archive: Path
) -> None:
    to = f"{registry.address}/app:1"
    old, new = home.enqueue(archive, to), home.enqueue(newer_archive, to, keeps_older=True)
    home.store.jobs.pause(old.id)
    result = home.run()
    assert (result.exit_code, [job.id for job in result.unfinished]) == (
        ExitCode.UNFINISHED,
        [old.id, new.id],
    )
    error = home.job(new.id).error
    assert error is not None
    assert f"job {old.id}" in error.message
    assert f"pusher resume {old.id}, or pusher cancel {old.id}" in error.hint
    for _ in range(2):  # and so does every later one, at once
        again = home.run(give_up_after=1000)
        assert (again.exit_code, len(again.unfinished)) == (ExitCode.UNFINISHED, 2)
    home.store.jobs.cancel(old.id)
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", newer)
