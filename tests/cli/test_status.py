"""What ``pusher status`` and ``pusher log`` print."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock

from pusher.cli.table import fitting_table, job_details, jobs_table
from pusher.store.records import BlobState, JobState, NewBlob, NewJob, StoredError
from pusher.store.store import Store
from pusher.worker.liveness import is_owner_dead
from pusher.worker.overview import JobOverview, note, read_overviews
from tests.cli.conftest import Clock, Pusher, add_job, claim
from tests.progress.helpers import digest

DIGEST = digest("d")
OFFLINE = StoredError("registry-unreachable", "registry.example.com cannot be reached", "check the network")


@pytest.fixture
def jobs(store: Store, clock: Clock) -> Store:
    """One job in each state."""
    succeeded, waiting, failed, paused, running, _queued = (
        add_job(store, name) for name in ("done:1", "wait:1", "fail:1", "hold:1", "work:1", "next:1")
    )
    job = claim(store, succeeded)
    for blob in "abc":
        store.blobs.set_done(job, digest(blob), BlobState.UPLOADED)
    store.blobs.add_sent(job.id, digest("a"), 400 * 1024**2)
    store.jobs.succeed(job, DIGEST)
    job = claim(store, waiting)
    store.blobs.set_done(job, digest("a"), BlobState.EXISTS)
    due = clock.now + timedelta(seconds=42)
    store.jobs.release(job, state=JobState.WAITING, next_try_at=due, error=OFFLINE, attempt=True)
    refused = StoredError("registry-refused", "the registry refuses the manifest", "look at it")
    store.jobs.fail(claim(store, failed), refused)
    store.jobs.pause(paused.id)
    claim(store, running)
    return store


def _table(store: Store, width: int, *, has_worker: bool = True) -> list[str]:
    from rich.console import Console

    rows = [
        JobOverview(job, store.jobs.totals([job.id])[job.id], has_worker=has_worker)
        for job in store.jobs.list()
    ]
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(jobs_table(rows, now=store.now(), width=width))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_table_in_120_columns(jobs: Store) -> None:
    assert _table(jobs, 120) == [
        "ID  IMAGE                           STATE      PROGRESS  DONE/TOTAL           NOTE",
        " 1  done:1                          succeeded      100%  1.0 / 1.0 GiB        sha256:dddddddddddd",
        "    -> registry.example.com/done:1",
        (" 2  wait:1                          waiting         29%  300.0 MiB / 1.0 GiB  "
        "registry.example.com cannot be reached"),
        "    -> registry.example.com/wait:1                                            next try in 42s",
        (" 3  fail:1                          failed           0%  0 B / 1.0 GiB        "
        "the registry refuses the manifest"),
        f"{'    -> registry.example.com/fail:1':78}try again with: pusher retry 3",
        (" 4  hold:1                          paused           0%  0 B / 1.0 GiB        "
        "continue with: pusher resume 4"),
        "    -> registry.example.com/hold:1",
        " 5  work:1                          running          0%  0 B / 1.0 GiB",
        "    -> registry.example.com/work:1",
        " 6  next:1                          queued           0%  0 B / 1.0 GiB",
        "    -> registry.example.com/next:1",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [60, 80])
def test_the_table_in_a_narrow_terminal(jobs: Store, width: int) -> None:
    assert _table(jobs, width) == [
        "ID  STATE      PROGRESS  DONE/TOTAL",
        " 1  succeeded      100%  1.0 / 1.0 GiB",
        "    done:1",
        "    -> registry.example.com/done:1",
        "    sha256:dddddddddddd",
        " 2  waiting         29%  300.0 MiB / 1.0 GiB",
        "    wait:1",
        "    -> registry.example.com/wait:1",
        "    registry.example.com cannot be reached",
        "    next try in 42s",
        " 3  failed           0%  0 B / 1.0 GiB",
        "    fail:1",
        "    -> registry.example.com/fail:1",
        "    the registry refuses the manifest",
        "    try again with: pusher retry 3",
        " 4  paused           0%  0 B / 1.0 GiB",
        "    hold:1",
        "    -> registry.example.com/hold:1",
        "    continue with: pusher resume 4",
        " 5  running          0%  0 B / 1.0 GiB",
        "    work:1",
        "    -> registry.example.com/work:1",
        " 6  queued           0%  0 B / 1.0 GiB",
        "    next:1",
        "    -> registry.example.com/next:1",
    ]


@pytest.mark.parametrize("width", [30, 40, 60, 80, 110, 120, 200])
def test_every_width_keeps_every_fact(jobs: Store, width: int) -> None:
    lines = _table(jobs, width)
    assert max(map(len, lines)) <= width
    if width < 110:
        text = "".join("".join(lines).split())
        for fact in (
            "done:1",
            "registry.example.com/fail:1",
            "theregistryrefusesthemanifest",
            "nexttryin42s",
        ):
            assert fact in text


def test_a_pipe_gets_one_line_a_job(pusher: Pusher, jobs: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    lines = pusher("status").out.splitlines()
    assert len(lines) == 1 + 6
    assert lines[2].split()[:5] == ["2", "wait:1", "->", "registry.example.com/wait:1", "waiting"]


def test_a_partly_sent_job_says_where_it_goes_on(store: Store) -> None:
    job = claim(store, add_job(store))
    store.blobs.set_done(job, digest("a"), BlobState.UPLOADED)
    store.jobs.release(job, state=JobState.QUEUED, attempt=False)
    assert "continues at 300.0 MiB with: pusher run" in "\n".join(_table(store, 80, has_worker=False))
    assert "continues at 300.0 MiB when a worker is free" in "\n".join(_table(store, 80))


def test_sizes_that_are_not_known_yet(store: Store) -> None:
    from pusher.store.records import NewBlob, NewJob

    layers = (NewBlob(digest("1")), NewBlob(digest("2")))
    new = NewJob("app", {}, digest("c"), "r.example", "app", "1", layers, config_size=1024)
    job = store.jobs.add(new)
    assert _table(store, 80)[1].split() == ["1", "queued"], "the size of a config says nothing"
    claimed = claim(store, job)
    store.blobs.set_blob(claimed, digest("1"), digest=digest("a"), size=1024**3, media_type="x")
    assert "0 B / 1.0 GiB+" in _table(store, 80)[1]


def test_json_is_exactly_this(pusher: Pusher, jobs: Store) -> None:
    listed = json.loads(pusher("status", "--json").out)["jobs"]
    assert [job["id"] for job in listed] == [1, 2, 3, 4, 5, 6]
    assert listed[1] == {
        "id": 2,
        "image": "wait:1",
        "destination": "registry.example.com/wait:1",
        "profile": None,
        "state": "waiting",
        "priority": 0,
        "labels": {},
        "after": None,
        "not_before": None,
        "window": None,
        "window_opens_at": None,
        "held": None,
        "machine": None,
        "machine_id": None,
        "machine_seen_at": None,
        "attempts": 1,
        "digest": None,
        "bytes_total": 1000 * 1024**2 + 1024,
        "bytes_done": 300 * 1024**2,
        "bytes_sent": 0,
        "bytes_wasted": 0,
        "bytes_per_second": None,
        "seconds_left": None,
        "created_at": "2025-01-31T12:00:00.000Z",
        "started_at": "2025-01-31T12:00:00.000Z",
        "superseded_by": None,
        "finished_at": None,
        "next_try_at": "2025-01-31T12:00:42.000Z",
        "waiting_since": "2025-01-31T12:00:00.000Z",
        "error": {
            "code": "registry-unreachable",
            "message": "registry.example.com cannot be reached",
            "hint": "check the network",
            "exit_code": 5,
            "retry": "offline",
        },
        "layers": [
            {
                "diff_id": digest("1"),
                "digest": digest("a"),
                "size": 300 * 1024**2,
                "offset": 300 * 1024**2,
                "state": "exists",
            },
            {
                "diff_id": digest("2"),
                "digest": digest("b"),
                "size": 700 * 1024**2,
                "offset": 0,
                "state": "ready",
            },
        ],
    }
    assert listed[0]["digest"] == DIGEST
    assert listed[0]["bytes_sent"] == 400 * 1024**2
    assert listed[0]["finished_at"] == "2025-01-31T12:00:00.000Z"


def test_json_of_one_job(pusher: Pusher, jobs: Store) -> None:
    result = pusher("status", "3", "--json")
    assert [job["id"] for job in json.loads(result.out)["jobs"]] == [3]
    assert result.err == ""


def test_without_a_job_store(pusher: Pusher) -> None:
    assert json.loads(pusher("status", "--json").out) == {"jobs": []}
    result = pusher("status")
    assert (result.code, result.out, result.err) == (0, "", "There are no jobs.\n")


def test_only_the_last_finished_jobs_are_shown(pusher: Pusher, store: Store) -> None:
    first = add_job(store, "first:1")
    for number in range(8):
        store.jobs.succeed(claim(store, add_job(store, f"done{number}:1")), DIGEST)
    result = pusher("status")
    assert "first:1" in result.out
    assert "done2:1" not in result.out
    assert "done3:1" in result.out
    assert result.err == "3 finished jobs are not shown; pusher status --all shows all.\n"
    everything = pusher("status", "--all")
    assert "done0:1" in everything.out
    assert everything.err == ""
    assert len(json.loads(pusher("status", "--json").out)["jobs"]) == 6
    assert len(json.loads(pusher("status", "--json", "--all").out)["jobs"]) == 9
    assert first.id == 1


def test_a_job_that_was_superseded_before_it_started_has_no_share(pusher: Pusher, store: Store) -> None:
    layers = (NewBlob(digest("1")),)
    job = NewJob("app:1", {"kind": "docker"}, digest("c"), "r.example", "app", "1", layers, config_size=248)
    _, newer = store.jobs.add(job), store.jobs.add(job)
    details = pusher("status", "1").out
    line = pusher("status", "--all").out.splitlines()[1]
    assert line.split()[-6:] == ["superseded", *f"by the newer job {newer.id}".split()], line
    assert "done " not in details
    assert [line for line in details.splitlines() if line != line.rstrip()] == []


def test_one_job_in_detail(jobs: Store) -> None:
    from rich.console import Console

    console = Console(width=100, highlight=False)
    with console.capture() as capture:
        row = JobOverview(jobs.jobs.get(2), jobs.jobs.totals([2])[2])
        console.print(job_details(row, jobs.blobs.of_job(2), now=jobs.now()))
    assert [line.rstrip() for line in capture.get().splitlines()] == [
        "job          2",
        "image        wait:1",
        "destination  registry.example.com/wait:1",
        "state        waiting: registry.example.com cannot be reached; next try in 42s",
        "next try     2025-01-31 12:00:42 UTC",
        "done         29%, 300.0 MiB / 1.0 GiB",
        "sent         0 B",
        "attempts     1",
        "hint         check the network",
        "created      2025-01-31 12:00:00 UTC",
        "started      2025-01-31 12:00:00 UTC",
        "",
        " LAYER  DIFF ID       BLOB          STATE   DONE/TOTAL",
        "config  cccccccccccc  cccccccccccc  ready   0 B / 1.0 KiB",
        "     1  111111111111  aaaaaaaaaaaa  exists  300.0 / 300.0 MiB",
        "     2  222222222222  bbbbbbbbbbbb  ready   0 B / 700.0 MiB",
    ]


def test_the_profile_in_use(pusher: Pusher, store: Store) -> None:
    job = add_job(store)
    upload = store.uploads.acquire(job.registry, job.repository, digest("a"), owner="w", lease=30)
    assert upload is not None
    store.uploads.record_session(
        upload, location="http://r/1", chunk_size=1, min_chunk=None, max_chunk=None, profile="quay"
    )
    assert "profile      quay" in pusher("status", str(job.id)).out
    assert json.loads(pusher("status", "--json").out)["jobs"][0]["profile"] == "quay"


def test_the_detail_is_what_the_command_prints(pusher: Pusher, jobs: Store) -> None:
    assert "digest       " + DIGEST in pusher("status", "1").out


def test_watch_prints_each_change_until_ctrl_c(store: Store) -> None:
    job = add_job(store)
    process = subprocess.Popen(
        [sys.executable, "-m", "pusher", "status", "--watch", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    store.jobs.pause(job.id)
    second = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert [first["jobs"][0]["state"], second["jobs"][0]["state"]] == ["queued", "paused"]
    assert (process.returncode, out, err.strip()) == (130, "", "")


@pytest.mark.parametrize("options", [(), ("--json",), ("1",)])
def test_watch_ends_once_nobody_reads_it(store: Store, options: tuple[str, ...]) -> None:
    """As with ``| head -3``, and without a change that would be written."""
    add_job(store)
    with subprocess.Popen(
        [sys.executable, "-m", "pusher", "status", "--watch", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline()
            process.stdout.close()
            assert (process.wait(60), process.stderr.read()) == (1, "")
        finally:
            process.kill()


def test_the_log_of_a_job(pusher: Pusher, store: Store, clock: Clock) -> None:
    job = add_job(store)
    clock.advance(5)
    store.jobs.pause(job.id)
    store.events.add(job.id, "session-lost", "the registry lost the upload session")
    assert pusher("log", "1").out.splitlines() == [
        "2025-01-31 12:00:00 UTC  queued        push app:1.2 to registry.example.com/app:1.2",
        "2025-01-31 12:00:05 UTC  paused        paused by the user",
        "2025-01-31 12:00:05 UTC  session-lost  the registry lost the upload session",
    ]
    events = json.loads(pusher("log", "1", "--json").out)["events"]
    assert events[1] == {"at": "2025-01-31T12:00:05.000Z", "kind": "paused", "message": "paused by the user"}


def test_a_running_job_whose_worker_was_killed_is_told_from_a_living_one(jobs: Store) -> None:
    (job,) = jobs.jobs.list(states=[JobState.RUNNING])
    running = JobOverview(job, jobs.jobs.totals([job.id])[job.id])
    now = jobs.now()
    assert note(running, now) == ""
    assert note(replace(running, orphaned=True), now).startswith("interrupted; continues at ")


def test_a_job_never_goes_on_where_its_registry_starts_again(jobs: Store) -> None:
    (job,) = jobs.jobs.list(states=[JobState.RUNNING])
    totals = replace(
        jobs.jobs.totals([job.id])[job.id], bytes_done=600 * 1024**2, bytes_at_risk=400 * 1024**2
    )
    text = note(JobOverview(job, totals.unattended(), orphaned=True, has_worker=False), jobs.now())
    assert text == (
        "interrupted; continues at 200.0 MiB with: pusher run; "
        "400.0 MiB may have to be sent again: not every registry keeps an upload cut off inside a chunk"
    )


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.PAUSED, JobState.QUEUED])
def test_what_will_be_sent_again_is_said_in_every_state(jobs: Store, state: JobState) -> None:
    job = replace(jobs.jobs.get(2), state=state)
    totals = replace(jobs.jobs.totals([2])[2], bytes_done=300 * 1024**2, bytes_at_risk=300 * 1024**2)
    text = note(JobOverview(job, totals.unattended()), jobs.now())
    assert "300.0 MiB may have to be sent again: not every registry keeps an upload" in text


def test_a_free_lock_means_that_the_worker_is_dead(tmp_path: Path) -> None:
    host = socket.gethostname()
    lock = FileLock(tmp_path / "1-a.lock")
    with lock:
        assert not is_owner_dead(tmp_path, f"{host}/1-a")
    assert (tmp_path / "1-a.lock").exists()
    assert is_owner_dead(tmp_path, f"{host}/1-a")
    assert not is_owner_dead(tmp_path, f"{host}/2-b"), "nothing is known of it"
    assert not is_owner_dead(tmp_path, "elsewhere/1-a")


def test_all_jobs_are_printed_a_page_at_a_time(
    pusher: Pusher, jobs: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the pages are, the same is printed; reading stops at each."""
    with jobs._database.write() as connection:  # its worker lives: the notes are short
        until = datetime(2099, 1, 1, tzinfo=UTC)
        connection.execute("UPDATE jobs SET lease_expires_at = :until WHERE state = 'running'", until=until)
    options: tuple[tuple[str, ...], ...] = ((), ("--json",))
    whole = {flag: pusher("status", "--all", *flag) for flag in options}
    assert [job["id"] for job in json.loads(whole["--json",].out)["jobs"]] == [1, 2, 3, 4, 5, 6]
    for size in (1, 2, 3, 6):
        monkeypatch.setattr("pusher.cli.status._PAGE", size)
        assert pusher("status", "--all", "--json").out == whole["--json",].out
        table = pusher("status", "--all").out
        assert table.split() == whole[()].out.split(), "the header once"
    assert whole["--json",].out == json.dumps(json.loads(whole["--json",].out), indent=2) + "\n"


def test_a_queue_without_jobs_is_json_too(pusher: Pusher, store: Store) -> None:
    assert json.loads(pusher("status", "--all", "--json").out) == {"jobs": []}


def test_nothing_of_a_jobs_figures_wraps_at_40_columns(jobs: Store) -> None:
    from rich.console import Console

    (job,) = jobs.jobs.list(states=[JobState.RUNNING])
    totals = replace(jobs.jobs.totals([job.id])[job.id], bytes_total=990 * 1024**2, bytes_done=989 * 1024**2)
    console = Console(width=40, highlight=False)
    with console.capture() as capture:
        console.print(jobs_table([JobOverview(job, totals)], now=jobs.now(), width=40))
        console.print(
            job_details(JobOverview(job, totals), jobs.blobs.of_job(job.id), now=jobs.now(), width=40)
        )
    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert lines[0] == "ID  STATE         %  DONE/TOTAL"
    assert lines[1] == f"{job.id:>2}  running     99%  989.0 / 990.0 MiB"
    assert any(line.split() == ["LAYER", "BLOB", "STATE", "DONE"] for line in lines)


def test_a_row_of_a_long_table_costs_little(jobs: Store) -> None:
    """By the number of calls and not by the clock: a table of rich itself makes two thousand for each row."""
    from rich.console import Console

    (job,) = jobs.jobs.list(states=[JobState.RUNNING])
    rows = [JobOverview(job, jobs.jobs.totals([job.id])[job.id])] * 500
    calls = 0

    def count(_frame: object, kind: str, _argument: object) -> None:
        nonlocal calls
        calls += kind in ("call", "c_call")

    console = Console(width=200, highlight=False)
    with console.capture() as capture:
        sys.setprofile(count)
        try:
            console.print(jobs_table(rows, now=jobs.now(), width=200))
        finally:
            sys.setprofile(None)
    assert len(capture.get().splitlines()) == 501
    assert calls < 500 * 500


def test_a_job_that_lacked_a_login_is_tried_again_after_one(store: Store) -> None:
    hint = "pusher login registry.example.com stores new ones"
    refused = StoredError("credentials-rejected", "the registry rejects the credential", hint)
    job = replace(add_job(store), state=JobState.FAILED, error=refused)
    text = note(JobOverview(job, store.jobs.totals([job.id])[job.id]), store.now())
    assert text.splitlines()[-1] == "try again with: pusher login registry.example.com && pusher retry 1"


def test_a_table_that_does_not_fit_shows_where_something_happens(store: Store) -> None:
    jobs = [add_job(store, f"app-{number}:1") for number in range(1, 41)]
    claim(store, jobs[29])
    store.jobs.pause(jobs[9].id)
    rows = read_overviews(store, Path("/nowhere"), store.jobs.list())

    def lines(height: int, rows: list[JobOverview] = rows) -> list[str]:
        table = fitting_table(rows, now=store.now(), width=200, height=height)
        return ["".join(text for text, _ in line) for line in table.lines]

    assert lines(200) == lines(81), "by number where all fit"
    assert lines(81)[1].split()[0] == "1"
    shown = lines(8)
    assert len(shown) == 8
    assert [line.split()[0] for line in shown] == ["ID", "30", "10", "1", "2", "3", "4", "and"]
    assert shown[-1] == "and 34 more jobs: 34 queued"
    assert lines(2)[-1] == "and 39 more jobs: 1 paused, 38 queued"
    assert lines(2, rows[:2])[-1] == "and 1 more job: 1 queued"
