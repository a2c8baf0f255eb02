"""What a user decides while a worker is at it: pause, resume, cancel, retry, prune."""

from __future__ import annotations

import io
import os
import threading
import time
from pathlib import Path

import pytest

from pusher.errors import ExitCode, JobStateConflict, JobUnknown, LeaseLost
from pusher.oci.digest import of_bytes
from pusher.store.records import JobRecord, JobState
from pusher.store.store import Store
from pusher.worker import cleanup
from pusher.worker.liveness import WorkerIdentity
from tests.support.fakeregistry import Answer, FakeRegistry, Fault, On, Stall
from tests.support.home import CHUNK, Background, Home, blob_bytes, cut_off, pushed
from tests.support.images import Image, make_image, write_archive
from tests.support.waiting import PATIENCE, wait_until


def _started(home: Home, registry: FakeRegistry, archive: Path) -> tuple[int, Stall, Background]:
    """A job whose second chunk stands still half-way, worked on in the background."""
    stall = Stall(after_bytes=CHUNK // 2)
    registry.faults.add(Fault(On.CHUNK, stall, nth=2))
    job = home.enqueue(archive, f"{registry.address}/app:1")
    worker = Background(home, parallel=1)
    registry.wait_for_fault(On.CHUNK)
    return job.id, stall, worker


def _when_noticed(home: Home, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An event that is set once the worker has seen that a job is not its own any more."""
    check, noticed = home.store.jobs.check_lease, threading.Event()

    def look(job: JobRecord) -> None:
        try:
            check(job)
        except LeaseLost:
            threading.Timer(0.05, noticed.set).start()
            raise

    monkeypatch.setattr(home.store.jobs, "check_lease", look)
    return noticed


def test_pause_while_running_keeps_the_session(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, stall, worker = _started(home, registry, archive)
    noticed = _when_noticed(home, monkeypatch)
    home.store.jobs.pause(job_id)
    assert noticed.wait(PATIENCE)
    stall.release()
    result = worker.join()
    assert (result.exit_code, [job.id for job in result.unfinished]) == (ExitCode.UNFINISHED, [job_id])
    assert home.state(job_id) == JobState.PAUSED
    assert registry.requests(On.CANCEL, On.PUT_MANIFEST) == []
    assert home.run().exit_code == ExitCode.UNFINISHED, "there is nothing to do, and something is not done"
    assert home.state(job_id) == JobState.PAUSED

    home.store.jobs.resume(job_id)
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + CHUNK
    assert home.kinds(job_id) == ["queued", "running", "paused", "queued", "running", "succeeded"]
    home.assert_clean()


def test_cancel_while_running_deletes_the_session(
    home: Home, registry: FakeRegistry, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker holds the session; it deletes it when it notices."""
    job_id, stall, worker = _started(home, registry, archive)
    noticed = _when_noticed(home, monkeypatch)
    cleanup.cancel(home.store, home.settings, [job_id])
    assert noticed.wait(PATIENCE)
    stall.release()
    worker.join()
    assert home.state(job_id) == JobState.CANCELLED
    assert [record.status for record in registry.requests(On.CANCEL)] == [204]
    assert registry.sessions == {}
    assert registry.manifests == {}
    home.assert_clean()


def test_cancel_of_a_waiting_job_deletes_the_session_at_once(
    home: Home, registry: FakeRegistry, archive: Path
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1")
    cut_off(home, registry, 2)
    assert len(registry.sessions) > 0
    (cancelled,) = cleanup.cancel(home.store, home.settings, [job.id])
    assert cancelled.state == JobState.CANCELLED
    assert registry.sessions == {}
    assert all(record.status == 204 for record in registry.requests(On.CANCEL))


def test_cancel_while_the_registry_is_away_deletes_the_session_in_a_later_run(
    home: Home, registry: FakeRegistry, archive: Path
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1")
    cut_off(home, registry, 2)
    registry.stop()
    cleanup.cancel(home.store, home.settings, [job.id])
    registry.start()
    assert len(registry.sessions) > 0
    home.run()
    assert registry.sessions == {}


def test_a_session_that_another_job_needs_is_kept(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    one = home.enqueue(archive, f"{registry.address}/app:1")
    cut_off(home, registry, 2)
    two = home.enqueue(archive, f"{registry.address}/app:2")
    cleanup.cancel(home.store, home.settings, [one.id])
    assert registry.requests(On.CANCEL) == []
    assert home.run([two.id]).exit_code == ExitCode.DONE
    pushed(registry, "app", "2", image)
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + CHUNK


def test_a_failed_job_keeps_its_sessions_for_a_retry(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    denied = Answer(403, body=b'{"errors": [{"code": "DENIED"}]}')
    refuse = Fault(On.CHUNK, denied, nth=3, times=None)
    registry.faults.add(refuse)
    job = home.enqueue(archive, f"{registry.address}/app:1")
    assert home.run(parallel=1).exit_code == ExitCode.AUTH
    assert home.state(job.id) == JobState.FAILED
    registry.faults.clear()
    assert home.run().exit_code == ExitCode.DONE, "a failed job is not run by itself"
    assert registry.requests(On.CANCEL) == []
    assert len(registry.sessions) == 1

    home.store.jobs.retry(job.id)
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert sum(registry.chunks) < blob_bytes(registry, "app"), "no chunk that was taken is sent again"
    assert home.job(job.id).error is None


def test_retry_of_a_waiting_job_tries_at_once(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    registry.faults.add(Fault(On.OPEN, Answer(503, {"Retry-After": "3000"}), times=None))
    job = home.enqueue(archive, f"{registry.address}/app:1")
    home.run(give_up_after=0.01)
    registry.faults.clear()
    home.store.jobs.retry(job.id)
    started = time.monotonic()
    assert home.run().exit_code == ExitCode.DONE
    assert time.monotonic() - started < PATIENCE
    pushed(registry, "app", "1", image)


def test_a_cancelled_job_can_be_retried(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1")
    cut_off(home, registry, 2)
    cleanup.cancel(home.store, home.settings, [job.id])
    home.store.jobs.retry(job.id)
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)


def test_a_cancelled_job_alone_is_no_success(home: Home, registry: FakeRegistry, archive: Path) -> None:
    """Whoever waits for this one job must not take it for pushed."""
    job_id, stall, worker = _started(home, registry, archive)
    other = Background(home, only=[job_id])
    cleanup.cancel(home.store, home.settings, [job_id])
    stall.release()
    worker.join()
    result = other.join()
    assert (result.succeeded, result.failed, result.unfinished) == ([], [], [])


def test_unknown_and_finished_jobs(home: Home, registry: FakeRegistry, archive: Path) -> None:
    with pytest.raises(JobUnknown):
        cleanup.cancel(home.store, home.settings, [99])
    job = home.push(archive, f"{registry.address}/app:1")
    with pytest.raises(JobStateConflict):
        cleanup.cancel(home.store, home.settings, [job.id])


def test_a_job_enqueued_while_a_run_is_on_is_done_too(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    _, stall, worker = _started(home, registry, archive)
    late = home.enqueue(archive, f"{registry.address}/late:1")
    stall.release()
    assert late.id in [job.id for job in worker.join().succeeded]
    pushed(registry, "late", "1", image)


def test_a_run_for_one_job_leaves_the_others(home: Home, registry: FakeRegistry, archive: Path) -> None:
    first = home.enqueue(archive, f"{registry.address}/first:1", priority=9)
    second = home.enqueue(archive, f"{registry.address}/second:1")
    result = home.run([second.id])
    assert [job.id for job in result.succeeded] == [second.id]
    assert home.state(first.id) == JobState.QUEUED


def test_a_push_waits_for_the_worker_that_took_its_job(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """A ``run --forever`` may claim the job before the ``push`` that made it does."""
    job_id, stall, worker = _started(home, registry, archive)
    pushing = Background(home, only=[job_id])
    home.progress.wait_for("job_started")
    stall.release()
    worker.join()
    result = pushing.join()
    assert (result.exit_code, [job.id for job in result.succeeded]) == (ExitCode.DONE, [job_id])
    pushed(registry, "app", "1", image)


# --- prune ------------------------------------------------------------------------------------------------


def _aged(home: Home) -> None:
    for digest, _, _ in list(home.spool.blobs()):
        os.utime(home.spool.path(digest), (1, 1))


def test_prune_forgets_finished_jobs_and_unneeded_blobs(
    home: Home, registry: FakeRegistry, archive: Path, tmp_path: Path
) -> None:
    done = home.push(archive, f"{registry.address}/app:1")
    registry.stop()
    waits = home.enqueue(
        write_archive(tmp_path / "b.tar", make_image(20_000, seed=4, compressible=0.0)),
        f"{registry.address}/b:1",
    )
    home.run(give_up_after=0.05)
    needed = {layer.digest for layer in home.store.blobs.of_job(waits.id)}
    _aged(home)
    usage = home.spool.usage()
    result = cleanup.prune(home.store, home.settings)
    assert (result.jobs, result.blobs) == (1, 4)
    assert result.bytes == usage - home.spool.usage() > 0
    assert {digest for digest, _, _ in home.spool.blobs()} == needed
    with pytest.raises(JobUnknown):
        home.job(done.id)
    assert home.state(waits.id) == JobState.WAITING
    registry.start()
    assert home.run().exit_code == ExitCode.DONE


def test_prune_keeps_up_to_the_limit(home: Home, registry: FakeRegistry, archive: Path) -> None:
    home.push(archive, f"{registry.address}/app:1")
    usage = home.spool.usage()
    assert cleanup.prune(home.store, home.settings, usage).bytes == 0
    assert cleanup.prune(home.store, home.settings, usage - 1).bytes > 0


def test_while_a_job_runs_prune_keeps_what_was_just_written(
    home: Home, registry: FakeRegistry, archive: Path
) -> None:
    home.push(archive, f"{registry.address}/app:1")
    home.enqueue(archive, f"{registry.address}/other:1")
    assert home.store.jobs.claim("another worker", lease=30) is not None
    unrecorded = b"a layer whose job has not recorded yet that it needs it"
    digest = of_bytes(unrecorded)
    home.spool.write_blob(io.BytesIO(unrecorded), digest=digest, size=len(unrecorded), media_type="")
    assert cleanup.prune(home.store, home.settings, 0).bytes == 0
    assert home.spool.has(digest)
    _aged(home)
    assert cleanup.prune(home.store, home.settings, 0).bytes > 0


def test_while_a_job_runs_prune_removes_young_blobs_that_are_known_to_be_unneeded(
    home: Home, registry: FakeRegistry, archive: Path, tmp_path: Path
) -> None:
    home.push(archive, f"{registry.address}/app:1")
    home.enqueue(write_archive(tmp_path / "b.tar", make_image(500, seed=4)), f"{registry.address}/b:1")
    assert home.store.jobs.claim("another worker", lease=30) is not None
    assert home.spool.usage() > 0
    cleanup.prune(home.store, home.settings, 0)
    assert home.spool.usage() == 0


def test_a_run_keeps_the_spool_below_its_limit(
    home: Home, registry: FakeRegistry, archive: Path, tmp_path: Path
) -> None:
    home.push(archive, f"{registry.address}/app:1")
    _aged(home)
    small = write_archive(tmp_path / "small.tar", make_image(100, seed=3))
    home.enqueue(small, f"{registry.address}/small:1")
    home.run(spool_limit=10_000)
    assert home.spool.usage() < 10_000


def test_prune_while_a_run_goes_on(
    home: Home, registry: FakeRegistry, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that lasts may finish jobs that are forgotten before it ends."""
    job_id, stall, worker = _started(home, registry, archive)
    original, pruned = home.store.jobs.succeed, []

    def succeed_and_prune(job: JobRecord, digest: str) -> None:
        original(job, digest)
        pruned.append(cleanup.prune(home.store, home.settings).jobs)

    monkeypatch.setattr(home.store.jobs, "succeed", succeed_and_prune)
    stall.release()
    assert worker.join().exit_code == ExitCode.DONE
    assert pruned == [1]
    with pytest.raises(JobUnknown):
        home.job(job_id)


def test_a_lease_that_can_be_taken_over_just_after_a_claim_is_waited_for(
    home: Home, registry: FakeRegistry, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has expired, and has been seen so for long enough between the claim and the look at what is left."""
    job = home.enqueue(archive, f"{registry.address}/app:1")
    assert home.store.jobs.claim("elsewhere/1", lease=0.001) is not None
    wait_until(lambda: [each.have_ended for each in home.store.jobs.leases()] == [True])
    looks: list[str] = []

    def find(identity: WorkerIdentity, _store: Store) -> set[str]:
        looks.append(identity.owner)
        return set() if len(looks) == 1 else {"elsewhere/1"}

    monkeypatch.setattr(WorkerIdentity, "find_expired_owners", find)
    assert home.run().exit_code == ExitCode.DONE
    assert home.state(job.id) == JobState.SUCCEEDED
