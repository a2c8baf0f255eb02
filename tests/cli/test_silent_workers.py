"""What is said of a worker that hangs: it holds its lock, but does not renew its leases."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pusher.cli import wait
from pusher.cli.settings import read_settings
from pusher.cli.workers import _rows
from pusher.store.records import BlobState, JobRecord, Machine
from pusher.store.store import Store
from pusher.system import is_frozen
from pusher.worker.job_json import describe_jobs
from pusher.worker.job_machines import list_machines
from pusher.worker.machine import this_machine
from pusher.worker.overview import note, read_overviews
from pusher.worker.result import summarize
from tests.cli.conftest import Clock, Pusher, add_job
from tests.progress.helpers import digest
from tests.support.waiting import wait_until

WORKER = "elsewhere/1-0-a"


@pytest.fixture
def job(store: Store) -> JobRecord:
    """A job that is sent at 2 MiB/s under a lease of 30 s."""
    store.workers.register(WORKER, Machine("m", "elsewhere", "/h"), pid=1, version="1", lease=30)
    job = store.jobs.claim(WORKER, lease=30, only=[add_job(store).id])
    assert job is not None
    for layer in ("1", "2"):
        store.blobs.set_blob(job, digest(layer), digest=digest(layer), size=1024**3, media_type="m")
    store.blobs.set_done(job, digest("1"), BlobState.EXISTS)
    store.jobs.record_speeds(WORKER, {job.id: (2 * 1024**2, 1024)})
    return job


def look(store: Store, job: JobRecord, folder: Path) -> tuple[str, object, object, object]:
    """Return the note of ``status``, and of its JSON the speed, the time left and what holds the job."""
    now = [store.jobs.get(job.id)]
    (overview,), (described,) = read_overviews(store, folder, now), describe_jobs(store, now, folder)
    figures = described["bytes_per_second"], described["seconds_left"]
    return note(overview, store.now()), *figures, described["held"]


def test_status_shows_no_speed_of_a_worker_that_hangs(
    store: Store, clock: Clock, job: JobRecord, tmp_path: Path
) -> None:
    clock.advance(14)
    text, speed, left, held = look(store, job, tmp_path)
    assert text.startswith("2.0 MiB/s, ")
    assert (speed, left is None, held) == (2 * 1024**2, False, None)
    clock.advance(2)
    silent = "no sign of life from its worker for 16s"
    assert look(store, job, tmp_path) == (silent, None, None, {"reason": silent, "hint": None})
    clock.advance(20)
    text, speed, left, _ = look(store, job, tmp_path)
    assert text.startswith("no sign of life from its worker for 36s\ncontinues at ")
    assert text.endswith(" with: pusher run")
    assert (speed, left) == (None, None)
    store.jobs.renew(WORKER, 30)
    store.workers.renew(WORKER, 30)
    assert look(store, job, tmp_path)[0].startswith("2.0 MiB/s, ")


def test_bytes_in_flight_of_a_worker_that_hangs_do_not_count(
    store: Store, clock: Clock, job: JobRecord, tmp_path: Path
) -> None:
    """They would contradict where the job continues."""
    in_flight = []
    for seconds in (14, 2):
        clock.advance(seconds)
        (overview,) = read_overviews(store, tmp_path, [store.jobs.get(job.id)])
        in_flight.append(overview.bytes_shown - overview.totals.bytes_done)
    assert in_flight == [1024, 0]


def test_workers_shows_no_speed_of_a_worker_that_hangs(
    store: Store, clock: Clock, job: JobRecord, tmp_path: Path
) -> None:
    for seconds, does in ((0, "1 app:1.2 (2.0 MiB/s)"), (16, "1 app:1.2"), (20, "gone; had 1 app:1.2")):
        clock.advance(seconds)
        (machine,) = list_machines(store, tmp_path)
        (row,) = _rows(machine, store.now(), with_home=False)
        assert row[-1] == does


def test_wait_reports_a_worker_that_hangs_once(
    store: Store,
    clock: Clock,
    job: JobRecord,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """After that it says who could push the job."""
    monkeypatch.setattr(wait, "_IDLE", -1.0)
    turns = iter((0, 16, 20))

    def pause(_seconds: float) -> None:
        if (seconds := next(turns, None)) is None:
            store.jobs.cancel(job.id)
        else:
            clock.advance(seconds)

    monkeypatch.setattr(wait, "wait_for_reader", pause)
    wait._wait(store, read_settings(), [job.id])
    assert capsys.readouterr().err.splitlines() == [
        "Job 1: running (app:1.2 -> registry.example.com/app:1.2)",
        "Job 1: no sign of life from its worker for 16s",
        "Job 1: cancelled (app:1.2 -> registry.example.com/app:1.2)",
    ]


@pytest.fixture
def said(store: Store, home: Path, pusher: Pusher, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """What a run prints that finds the jobs with another worker."""

    def run() -> str:
        result = summarize(store, (), None, (), workers=home / "workers")
        monkeypatch.setattr("pusher.worker.run.run", lambda *_args, **_options: result)
        return pusher("run", "--progress", "none").err.removesuffix("Jobs: 1 unfinished.\n")

    return run


def test_a_run_says_since_when_another_worker_is_silent(
    clock: Clock, job: JobRecord, said: Callable[[], str]
) -> None:
    clock.advance(14)
    assert said() == "Being pushed by another worker: job 1. To wait for it: pusher run --wait\n"
    clock.advance(6)
    assert said() == (
        "Job 1: its worker (pid 1 on elsewhere) was last heard of 20s ago.\n"
        "  to wait until they are free, in 10s: pusher run --wait\n"
    )
    clock.advance(10)
    assert said() == "Interrupted in another worker: job 1. Continue with: pusher run\n"


def test_a_run_says_that_another_worker_is_frozen(
    store: Store, clock: Clock, said: Callable[[], str]
) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            process.send_signal(signal.SIGSTOP)
            wait_until(lambda: is_frozen(process.pid))
            here = this_machine(read_settings())
            assert here is not None
            store.workers.register("here/1-0-a", here, pid=process.pid, version="1", lease=30)
            assert store.jobs.claim("here/1-0-a", lease=30, only=[add_job(store).id]) is not None
            clock.advance(2)
            continues = (
                f"  to let it continue: kill -CONT {process.pid}\n"
                f"  to end it and continue here: kill -KILL {process.pid} && pusher run\n"
                "  to wait until they are free, in {}s: pusher run --wait\n"
            )
            frozen = f"Job 1: its worker (pid {process.pid}) is frozen, as by SIGSTOP"
            assert said() == f"{frozen}.\n{continues.format(28)}"
            clock.advance(6)
            assert said() == f"{frozen}, and was last heard of 8s ago.\n{continues.format(22)}"
        finally:
            process.kill()
