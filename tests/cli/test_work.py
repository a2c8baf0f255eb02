"""``pusher enqueue``, ``run`` and ``push`` over a worker whose outcome the test chooses."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from pusher.config import Settings
from pusher.errors import ExitCode, ImageNotFound
from pusher.progress.base import Progress
from pusher.reference import Reference
from pusher.sources.base import EVERYTHING
from pusher.store.records import BlobState, JobRecord, JobState, Machine, Queueing, StoredError
from pusher.store.store import Store
from pusher.worker.result import RunResult, summarize
from tests.cli.conftest import Pusher, add_job, claim
from tests.progress.helpers import digest

DIGEST = digest("d")
AS_IT_IS = {
    "registries": None,
    "choice": EVERYTHING,
    "split_layers": None,
    "compression": None,
    "compression_level": None,
}
REFERENCE = f"registry.example.com/app@{DIGEST}"


@dataclass
class Prepared:
    """Stands for an image that was found; records its jobs."""

    image: str
    destinations: list[Reference]
    places: list[str]
    call: dict[str, Any]

    def record(self, store: Store, queueing: Queueing) -> list[JobRecord]:
        self.call["queueing"] = queueing
        return [add_job(store, place) for place in self.places]


@dataclass
class Worker:
    """Stands for ``pusher.worker``: records how it was called, ends the jobs as ``end`` says."""

    store: Store
    end: Callable[[JobRecord, Progress], object]
    calls: list[dict[str, Any]] = field(default_factory=list)
    exit_code: ExitCode = ExitCode.DONE

    def prepare(self, store: Store, image: str, **options: Any) -> Prepared:
        assert isinstance(options.pop("settings"), Settings)
        note, _ = options.pop("note"), options.pop("command")
        self.calls.append({"image": image, **options})
        if image == "reduced":
            note("only linux/arm64 is pushed")
        if image == "missing":
            raise ImageNotFound("Docker has no image 'missing'", hint="did you mean missing:1?")
        places = [*options["to"]] or [image]
        return Prepared(image, list(map(Reference.parse, places)), places, self.calls[-1])

    def run(self, store: Store, settings: Settings, progress: Progress, **options: Any) -> RunResult:
        self.calls.append({"settings": settings, **options})
        result = RunResult(self.exit_code)
        for job in store.jobs.list(states=[JobState.QUEUED]):
            progress.job_started(job.id, job.image, job.destination)
            self.end(job, progress)
            after = store.jobs.get(job.id)
            lists = {
                JobState.SUCCEEDED: result.succeeded,
                JobState.FAILED: result.failed,
                JobState.CANCELLED: result.cancelled,
            }
            lists.get(after.state, result.unfinished).append(after)
        result.beyond_retry = store.jobs.beyond_retry([job.id for job in result.failed])
        return result


@pytest.fixture
def worker(store: Store, monkeypatch: pytest.MonkeyPatch) -> Worker:
    def succeed(job: JobRecord, progress: Progress) -> None:
        store.jobs.succeed(claim(store, job), DIGEST)
        progress.job_ended(job.id, "succeeded", REFERENCE)

    worker = Worker(store, succeed)
    monkeypatch.setattr("pusher.worker.enqueue.prepare", worker.prepare)
    monkeypatch.setattr("pusher.worker.run.run", worker.run)
    return worker


def test_a_second_ctrl_c_prints_how_to_continue(pusher: Pusher, worker: Worker, store: Store) -> None:
    """The worker calls ``leave`` before it ends the process."""
    add_job(store)
    worker.end = lambda job, progress: worker.calls[-1]["leave"]()
    result = pusher("run", "--progress", "lines")
    assert "Stopped at once; what was acknowledged is kept. Continue with: pusher run\n" in result.err


# --- enqueue ----------------------------------------------------------------------------------------------


def test_enqueue_prints_the_id(pusher: Pusher, worker: Worker) -> None:
    result = pusher("enqueue", "app:1.2")
    assert (result.code, result.out) == (0, "1\n")
    assert (
        result.err == "Job 1: app:1.2 -> registry.example.com/app:1.2, 2 layers. Start it with: pusher run\n"
    )
    options = {"to": (), "tags": (), "default_registry": None, "queueing": Queueing()}
    assert worker.calls == [{"image": "app:1.2", **options, **AS_IT_IS}]


def test_enqueue_passes_everything_on(
    pusher: Pusher, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSHER_REGISTRY", "r.example/team")
    pusher("enqueue", "app:1.2", "--to", "r.example/b:1", "--priority", "-5", "--no-supersede")
    options = {"to": ("r.example/b:1",), "tags": (), "default_registry": "r.example/team"}
    queueing = Queueing(priority=-5, keeps_older=True)
    assert worker.calls == [{"image": "app:1.2", **options, "queueing": queueing, **AS_IT_IS}]


@pytest.mark.parametrize("command", ["enqueue", "push"])
def test_what_is_left_out_of_an_image_is_said_first(pusher: Pusher, worker: Worker, command: str) -> None:
    assert pusher(command, "reduced").err.startswith("note: only linux/arm64 is pushed\nJob 1: reduced -> ")


def test_enqueue_json(pusher: Pusher, worker: Worker) -> None:
    assert json.loads(pusher("enqueue", "app:1.2", "--json").out) == {
        "id": 1,
        "image": "app:1.2",
        "destination": "registry.example.com/app:1.2",
        "state": "queued",
        "supersedes": [],
    }


@pytest.mark.parametrize("command", ["enqueue", "push"])
def test_an_image_that_is_not_there(pusher: Pusher, worker: Worker, command: str) -> None:
    result = pusher(command, "missing")
    assert result.code == 7
    assert result.err == "error: Docker has no image 'missing'\n  hint: did you mean missing:1?\n"


@pytest.mark.parametrize("priority", ["high", "1.5", "99999999999999999999"])
def test_nonsense_priorities(pusher: Pusher, worker: Worker, priority: str) -> None:
    result = pusher("enqueue", "app:1.2", "--priority", priority)
    assert result.code == 2
    assert result.err.startswith("error: invalid value for '--priority': ")
    assert worker.calls == []


# --- push -------------------------------------------------------------------------------------------------


def test_push_prints_the_digest_reference(pusher: Pusher, worker: Worker) -> None:
    result = pusher("push", "app:1.2", "--chunk-size", "50MB", "--parallel", "2")
    assert (result.code, result.out) == (0, f"{REFERENCE}\n")
    assert result.err == "Job 1: app:1.2 -> registry.example.com/app:1.2\n"
    call = worker.calls[1]
    assert (call["only"], call["forever"]) == ([1], False)
    assert (call["settings"].chunk_size, call["settings"].parallel) == (50_000_000, 2)


def test_push_json_progress(pusher: Pusher, worker: Worker) -> None:
    result = pusher("push", "app:1.2", "--progress", "json")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert [line["type"] for line in lines] == ["job-started", "job-ended", "result"]
    assert lines[-1] == {
        "type": "result",
        "exit_code": 0,
        "bytes_wasted": 0,
        "jobs": [{"id": 1, "state": "succeeded", "reference": REFERENCE, "error": None}],
    }
    assert result.err == ""


def test_push_without_progress(pusher: Pusher, worker: Worker) -> None:
    result = pusher("push", "app:1.2", "--progress", "none")
    assert (result.out, result.err) == (f"{REFERENCE}\n", "")


def test_a_push_that_fails(pusher: Pusher, worker: Worker) -> None:
    error = StoredError("credentials-rejected", "r.example rejects the password", "docker login r.example")

    def fail(job: JobRecord, progress: Progress) -> None:
        worker.store.jobs.fail(claim(worker.store, job), error)
        progress.job_ended(job.id, "failed", error.message)

    worker.end, worker.exit_code = fail, ExitCode.AUTH
    result = pusher("push", "app:1.2")
    assert (result.code, result.out) == (4, "")
    assert result.err == (
        "Job 1: app:1.2 -> registry.example.com/app:1.2\n"
        "error: r.example rejects the password\n"
        "  hint: docker login r.example\n"
        "        then: pusher retry 1 && pusher run\n"
    )


def test_a_push_that_gives_up(pusher: Pusher, worker: Worker) -> None:
    store = worker.store
    error = StoredError("registry-unreachable", "r.example cannot be reached", "check the network")

    def wait(job: JobRecord, progress: Progress) -> None:
        store.jobs.release(
            claim(store, job), state=JobState.WAITING, next_try_at=store.now(), error=error, attempt=False
        )

    worker.end, worker.exit_code = wait, ExitCode.UNFINISHED
    result = pusher("push", "app:1.2", "--progress", "none")
    assert result.code == 5
    assert result.err == (
        "error: job 1, app:1.2, is waiting: r.example cannot be reached\n"
        "  hint: check the network\n"
        "        continue with: pusher run\n"
    )


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.FAILED])
def test_an_error_of_several_jobs_is_printed_once(pusher: Pusher, worker: Worker, state: JobState) -> None:
    store = worker.store
    error = StoredError("registry-unreachable", "r.example cannot be reached", "check the network")

    def end(job: JobRecord, progress: Progress) -> None:
        if state is JobState.FAILED:
            store.jobs.fail(claim(store, job), error)
        else:
            store.jobs.release(
                claim(store, job), state=state, next_try_at=store.now(), error=error, attempt=False
            )

    worker.end, worker.exit_code = end, ExitCode.UNFINISHED
    result = pusher("push", "app:1.2", "--to", "a:1", "--to", "b:1", "--progress", "none")
    said = {
        JobState.WAITING: (
            "error: jobs 1, 2 are waiting: r.example cannot be reached\n"
            "  hint: check the network\n"
            "        continue with: pusher run\n"
        ),
        JobState.FAILED: (
            "error: jobs 1, 2: r.example cannot be reached\n"
            "  hint: check the network\n"
            "        then: pusher retry 1 2 && pusher run\n"
        ),
    }
    assert said[state] in result.err


def test_a_push_that_is_stopped(pusher: Pusher, worker: Worker) -> None:
    worker.end, worker.exit_code = (lambda job, progress: None), ExitCode.INTERRUPTED
    result = pusher("push", "app:1.2", "--progress", "none")
    assert result.code == 130
    assert result.err == "Stopped, and nothing is lost (job 1). Continue with: pusher run\n"


def test_a_push_that_someone_pauses(pusher: Pusher, worker: Worker) -> None:
    worker.end = lambda job, progress: worker.store.jobs.pause(job.id)
    worker.exit_code = ExitCode.UNFINISHED
    result = pusher("push", "app:1.2", "--progress", "none")
    assert (
        result.err
        == "error: job 1, app:1.2, is paused\n  hint: continue with: pusher resume 1 && pusher run\n"
    )


def test_a_push_that_someone_cancels_is_not_done(pusher: Pusher, worker: Worker) -> None:
    worker.end = lambda job, progress: worker.store.jobs.cancel(job.id)
    result = pusher("push", "app:1.2", "--progress", "none")
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith("error: job 1, app:1.2, was cancelled\n")


# --- several destinations ---------------------------------------------------------------------------------


def test_enqueue_for_several_places(pusher: Pusher, worker: Worker) -> None:
    result = pusher("enqueue", "app:1.2", "--to", "a:1", "--to", "b:1")
    assert (result.code, result.out) == (0, "1\n2\n")
    assert result.err.splitlines()[-1] == "Start them with: pusher run"
    told = json.loads(pusher("enqueue", "app:1.2", "--to", "a:1", "--to", "b:1", "--json").out)
    assert [(job["id"], job["state"]) for job in told["jobs"]] == [(3, "queued"), (4, "queued")]


def test_push_to_several_places_prints_each_reference(pusher: Pusher, worker: Worker) -> None:
    result = pusher("push", "app:1.2", "--to", "a:1", "--to", "b:1", "--progress", "none")
    assert (result.code, result.err) == (0, "Jobs: 2 pushed.\n")
    assert result.out.splitlines() == [f"registry.example.com/{name}@{DIGEST}" for name in "ab"]
    assert worker.calls[-1]["only"] == [1, 2]


def test_push_to_several_places_of_which_one_is_cancelled(pusher: Pusher, worker: Worker) -> None:
    succeed = worker.end

    def end(job: JobRecord, progress: Progress) -> None:
        if job.image == "b:1":
            worker.store.jobs.cancel(job.id)
        else:
            succeed(job, progress)

    worker.end = end
    result = pusher("push", "app:1.2", "--to", "a:1", "--to", "b:1", "--progress", "none")
    assert (result.code, result.out) == (3, f"registry.example.com/a@{DIGEST}\n")


def test_doctor_takes_one_place(pusher: Pusher) -> None:
    result = pusher("doctor", "app:1.2", "--to", "a.example/b:1", "--to", "c.example/d:1")
    assert (result.code, "one destination" in result.err) == (2, True)


# --- run --------------------------------------------------------------------------------------------------


def test_run_with_nothing_to_do(pusher: Pusher, worker: Worker) -> None:
    result = pusher("run")
    assert (result.code, result.out, result.err) == (0, "", "Nothing to push: no jobs are queued.\n")
    assert worker.calls[0]["only"] is None


def test_run_that_is_stopped_does_not_say_that_there_was_nothing(pusher: Pusher, worker: Worker) -> None:
    worker.exit_code = ExitCode.INTERRUPTED
    result = pusher("run", "--forever")
    assert (result.code, result.out, result.err) == (130, "", "")


def test_run_says_what_others_have_and_what_failed_before(
    pusher: Pusher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed, running, paused = (add_job(store, name) for name in ("bad:1", "busy:1", "held:1"))
    store.jobs.fail(claim(store, failed), StoredError("registry-refused", "no", "ask"))
    claim(store, running)
    store.jobs.pause(paused.id)
    left = [store.jobs.get(job.id) for job in (running, paused)]
    result = RunResult(ExitCode.UNFINISHED, unfinished=left, failed_before=[store.jobs.get(failed.id)])
    monkeypatch.setattr("pusher.worker.run.run", lambda *_args, **_options: result)
    told = pusher("run", "--progress", "none")
    assert (told.code, told.out) == (5, "")
    assert told.err == (
        "error: job 3, held:1, is paused\n"
        "  hint: continue with: pusher resume 3 && pusher run\n"
        "Being pushed by another worker: job 2. To wait for it: pusher run --wait\n"
        "Jobs: 2 unfinished.\n"
        "Failed earlier: job 1. Try again: pusher retry 1 && pusher run\n"
    )
    listed = json.loads(pusher("run", "--progress", "json").out.splitlines()[-1])
    assert (listed["exit_code"], [job["id"] for job in listed["jobs"]]) == (5, [2, 3])


def test_run_that_leaves_jobs_to_another_worker_reports_no_error(
    pusher: Pusher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [add_job(store, name) for name in ("busy:1", "busy:2")]
    for job in jobs:
        claim(store, job)
    result = RunResult(ExitCode.DONE, unfinished=[store.jobs.get(job.id) for job in jobs])
    monkeypatch.setattr("pusher.worker.run.run", lambda *_args, **_options: result)
    told = pusher("run", "--progress", "none")
    assert told.code == 0
    assert told.err == (
        "Being pushed by another worker: jobs 1, 2. To wait for them: pusher run --wait\n"
        "Jobs: 2 unfinished.\n"
    )


def test_run_tells_of_a_few_jobs_however_many_there_are(
    pusher: Pusher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = [store.jobs.pause(add_job(store).id) for _ in range(12)]
    jobs = [replace(job, error=StoredError("x", f"error {job.id}", "wait")) for job in paused]
    result = RunResult(ExitCode.UNFINISHED, unfinished=jobs, failed_before=jobs)
    monkeypatch.setattr("pusher.worker.run.run", lambda *_args, **_options: result)
    lines = pusher("run", "--progress", "none").err.splitlines()
    ids = ", ".join(map(str, range(1, 11)))
    assert len(lines) == 2 * 10 + 3
    assert lines[20:] == [
        "... and 2 more jobs: pusher status",
        "Jobs: 12 unfinished.",
        f"Failed earlier: jobs {ids} and 2 more. Try again: pusher retry --all && pusher run",
    ]


def test_run_says_how_each_job_ended(pusher: Pusher, worker: Worker) -> None:
    store = worker.store
    for name in ("good:1", "bad:1", "later:1"):
        add_job(store, name)

    def end(job: JobRecord, progress: Progress) -> None:
        if job.image == "later:1":
            return
        claimed = claim(store, job)
        if job.image == "good:1":
            store.blobs.set_done(claimed, digest("a"), BlobState.UPLOADED)
            store.jobs.succeed(claimed, DIGEST)
        else:
            store.jobs.fail(claimed, StoredError("repository-unknown", "no such repository", "create it"))

    worker.end, worker.exit_code = end, ExitCode.REFUSED
    result = pusher("run", "--progress", "none")
    assert (result.code, result.out) == (6, f"registry.example.com/good@{DIGEST}\n")
    assert result.err == (
        "error: job 2, bad:1: no such repository\n"
        "  hint: create it\n"
        "        then: pusher retry 2 && pusher run\n"
        "Stopped, and nothing is lost (job 3). Continue with: pusher run\n"
        "Jobs: 1 pushed, 1 failed, 1 unfinished.\n"
    )


@pytest.mark.parametrize("hint", ["free some memory, then: pusher run", "free some memory", ""])
def test_what_continues_a_waiting_job_is_said_once(pusher: Pusher, worker: Worker, hint: str) -> None:
    store = worker.store
    add_job(store, "app:1")

    def end(job: JobRecord, progress: Progress) -> None:
        error = StoredError("machine-exhausted", "this machine has no memory left", hint)
        store.jobs.release(
            claim(store, job), state=JobState.WAITING, next_try_at=store.now(), error=error, attempt=True
        )

    worker.end, worker.exit_code = end, ExitCode.UNFINISHED
    result = pusher("run", "--progress", "none")
    assert result.err.startswith("error: job 1, app:1, is waiting: this machine has no memory left\n")
    assert result.err.count("pusher run\n") == 1
    assert result.err.count("free some memory") == bool(hint)


def test_no_retry_is_offered_where_it_cannot_help(
    pusher: Pusher, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layer stays too large; the tag is a newer job's."""
    store = worker.store
    large, old, newer, other = (add_job(store, name) for name in ("large:1", "app:1", "app:1", "other:1"))
    errors = {
        large.id: StoredError("layer-too-large", "a layer is over 5 GiB", "split the layer"),
        old.id: StoredError("registry-refused", "the registry says no", "mend it"),
        other.id: StoredError("registry-refused", "the registry says no", "mend it"),
    }

    def end(job: JobRecord, progress: Progress) -> None:
        if job.id == newer.id:
            store.jobs.succeed(claim(store, job), DIGEST)
        else:
            store.jobs.fail(claim(store, job), errors[job.id])

    worker.end, worker.exit_code = end, ExitCode.REFUSED
    assert pusher("run", "--progress", "none").err == (
        "error: job 1, large:1: a layer is over 5 GiB\n"
        "  hint: split the layer\n"
        "error: job 2, app:1: the registry says no\n"
        "  hint: mend it\n"
        "error: job 4, other:1: the registry says no\n"
        "  hint: mend it\n"
        "        then: pusher retry 4 && pusher run\n"
        "Jobs: 1 pushed, 3 failed.\n"
    )
    shown = pusher("status").out
    assert [number for number in range(1, 5) if f"pusher retry {number}" in shown] == [4]
    for jobs, advice in (
        ([large, other], "jobs 1, 4. Try again: pusher retry 4 && pusher run"),
        ([large], "job 1. See: pusher status"),
    ):
        before = [store.jobs.get(job.id) for job in jobs]
        result = RunResult(failed_before=before, beyond_retry=store.jobs.beyond_retry([1, 4]))
        monkeypatch.setattr("pusher.worker.run.run", lambda *_args, result=result, **_options: result)
        assert pusher("run", "--progress", "none").err.endswith(f"Failed earlier: {advice}\n")


def test_run_compresses_as_it_is_told(pusher: Pusher, worker: Worker) -> None:
    pusher("run", "--compression", "zstd", "--compression-level", "19")
    settings = worker.calls[0]["settings"]
    assert (settings.compression, settings.compression_level) == ("zstd", 19)


def test_run_forever(pusher: Pusher, worker: Worker) -> None:
    pusher("run", "--forever", "--plain-http")
    assert worker.calls[0]["forever"] is True
    assert worker.calls[0]["settings"].plain_http is True


def test_a_run_whose_rest_others_push_has_done_its_part(store: Store) -> None:
    """Also if they took it over from this one. A run for that job alone has not, nor one that leaves a paused
    job."""
    job = claim(store, add_job(store, "busy:1"))
    assert summarize(store, (), None, ()).exit_code == ExitCode.DONE
    assert summarize(store, (), [job.id], ()).exit_code == ExitCode.UNFINISHED
    assert summarize(store, [job.id], None, ()).exit_code == ExitCode.DONE
    store.jobs.pause(add_job(store, "held:1").id)
    assert summarize(store, (), None, ()).exit_code == ExitCode.UNFINISHED


def test_a_run_says_that_jobs_of_a_dead_worker_are_interrupted(
    pusher: Pusher, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of one that was killed while this run was being stopped."""
    owner = f"{socket.gethostname()}/1-0-dead"
    (tmp_path / "1-0-dead.lock").touch()
    killed, busy = add_job(store, "killed:1"), add_job(store, "busy:1")
    assert store.jobs.claim(owner, lease=60, only=[killed.id]) is not None
    claim(store, busy)
    result = summarize(store, (), None, (), workers=tmp_path)
    assert (set(result.interrupted), result.exit_code) == ({killed.id}, ExitCode.UNFINISHED)
    monkeypatch.setattr("pusher.worker.run.run", lambda *_args, **_options: result)
    told = pusher("run", "--progress", "none")
    assert told.err == (
        "Being pushed by another worker: job 2. To wait for it: pusher run --wait\n"
        "Interrupted in another worker: job 1. Continue with: pusher run\n"
        "Jobs: 2 unfinished.\n"
    )
    with FileLock(tmp_path / "1-0-dead.lock"):
        assert summarize(store, (), None, (), workers=tmp_path).interrupted == frozenset()


def test_a_run_counts_as_pushed_what_it_pushed(
    pusher: Pusher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a stop past its lease, others have pushed some of its jobs, or another machine has one."""
    ours, taken, far = (add_job(store, f"{name}:1") for name in ("ours", "taken", "far"))
    for job in (ours, taken):
        store.jobs.succeed(claim(store, job), DIGEST)
    here = Machine("here", "a", "/a")
    store.jobs.move(far.id, Machine("there", "b", "/b"), {"kind": "docker"})
    for pushed, told in (
        ([ours.id], "Jobs: 1 pushed, 1 pushed by another worker"),
        ([], "Jobs: 2 pushed by another worker"),
    ):
        result = summarize(store, [1, 2, 3], None, (), here, pushed=pushed)
        assert [job.id for job in result.succeeded] == [ours.id, taken.id]
        monkeypatch.setattr("pusher.worker.run.run", lambda *_args, _result=result, **_options: _result)
        assert f"{told}, 1 taken over by another worker.\n" in pusher("run", "--progress", "none").err
    assert summarize(store, [1, 2], None, ()).pushed_elsewhere == frozenset()
