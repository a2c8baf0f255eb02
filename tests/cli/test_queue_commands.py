"""Labels, order and start of jobs; ``wait``, ``priority``, ``log --follow``, filters of ``status``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pusher.cli.queueing import parse_time
from pusher.cli.wait import explain_idle
from pusher.errors import InvalidOption
from pusher.help.topics import read_schema
from pusher.store.records import JobRecord, JobState, Machine, StoredError
from pusher.store.store import Store
from pusher.worker.background import BackgroundLock
from pusher.worker.job_holds import JobHold, JobHolds
from pusher.worker.overview import JobOverview, note, read_overviews
from tests.cli.conftest import Clock, Pusher, add_job, claim
from tests.progress.helpers import digest
from tests.support.fakeregistry import FakeRegistry
from tests.support.finished_jobs import add_queued_jobs
from tests.support.images import make_image, write_archive

DIGEST = digest("d")
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def archive(tmp_path: Path) -> str:
    return str(write_archive(tmp_path / "app.tar", make_image(300, names=("team/app:1",))))


def states(pusher: Pusher, *filters: str) -> list[tuple[int, str]]:
    jobs = json.loads(pusher("status", "--all", "--json", *filters).out)["jobs"]
    return [(job["id"], job["state"]) for job in jobs]


def end(store: Store, job: JobRecord, state: JobState) -> None:
    claimed = claim(store, job)
    if state is JobState.SUCCEEDED:
        store.jobs.succeed(claimed, DIGEST)
    else:
        store.jobs.fail(claimed, StoredError("repository-unknown", "no such repository", "create it"))


# --- when a job starts -------------------------------------------------------------------------------------


def test_a_job_after_another_starts_once_that_one_succeeded(
    pusher: Pusher, registry: FakeRegistry, archive: str
) -> None:
    to = ("--plain-http", "--to", registry.address)
    pusher("enqueue", archive, *to, "--tag", "first", "--priority", "-5")
    pusher("enqueue", archive, *to, "--tag", "second", "--after", "1")
    assert "starts after job 1" in pusher("status").out
    result = pusher("run", "--plain-http", "--parallel", "1")
    assert result.code == 0
    assert states(pusher) == [(1, "succeeded"), (2, "succeeded")]
    order = [name for name in registry.manifests["team/app"] if ":" not in name]
    assert order == ["first", "second"]


def test_a_job_after_one_that_failed_stays_queued(pusher: Pusher, store: Store, archive: str) -> None:
    end(store, add_job(store, "first:1"), JobState.FAILED)
    pusher("enqueue", archive, "--to", "r.example", "--after", "1")
    result = pusher("run", "--progress", "none")
    assert result.code == 5
    assert "starts after job 1, which failed\n  hint: to try it again: pusher retry 1\n" in result.err


def test_status_says_when_a_job_starts(pusher: Pusher, archive: str) -> None:
    pusher("enqueue", archive, "--to", "r.example", "--not-before", "2099-01-01T06:00:00Z")
    assert "starts at 2099-01-01" in pusher("status").out
    result = pusher("run")
    assert result.code == 5
    assert "Job 1 starts at 2099-01-01" in result.err


def test_a_window_is_shown_and_not_waited_for_by_run(pusher: Pusher, archive: str) -> None:
    now = datetime.now().astimezone()
    hours = f"{now + timedelta(hours=2):%H:%M}-{now + timedelta(hours=4):%H:%M}"
    opens = f"{now + timedelta(hours=2):%Y-%m-%d %H:%M}:00"
    queued = pusher("enqueue", archive, "--to", "r.example", "--window", hours)
    assert f"It starts at {opens} UTC (window {hours}), with: pusher run --forever" in queued.err
    assert f"starts at {opens} UTC (window {hours})" in pusher("status").out
    (job,) = json.loads(pusher("status", "--json").out)["jobs"]
    assert (job["state"], job["window"]) == ("queued", hours)
    assert job["window_opens_at"].startswith(opens.replace(" ", "T"))
    result = pusher("run")
    assert result.code == 5
    assert f"Job 1 starts at {opens} UTC (window {hours}): pusher run --forever waits for that." in result.err
    pushed = pusher("push", archive, "--to", "r2.example", "--window", hours)
    assert (pushed.code, pushed.out) == (5, "")
    assert f"Job 2 starts at {opens} UTC (window {hours})" in pushed.err


def test_enqueue_says_what_starts_the_job(pusher: Pusher, store: Store, archive: str) -> None:
    to = ("--to", "r.example")
    add_job(store)
    assert "Start it with: pusher run\n" in pusher("enqueue", archive, *to).err
    assert "Start them with: pusher run\n" in pusher("enqueue", archive, *to, "--tag", "1", "--tag", "2").err
    at = ("--not-before", "2099-01-01T06:00:00Z")
    result = pusher("enqueue", archive, *to, *at)
    assert "It starts at 2099-01-01 06:00:00 UTC, with: pusher run --forever\n" in result.err
    result = pusher("enqueue", archive, *to, *at, "--after", "1", "--tag", "1", "--tag", "2")
    when = "start after job 1, at 2099-01-01 06:00:00 UTC at the earliest"
    assert f"They {when}, with: pusher run --forever\n" in result.err


def test_enqueue_names_the_worker_in_the_background(pusher: Pusher, home: Path, archive: str) -> None:
    lock = BackgroundLock(home)
    lock.acquire()
    result = pusher("enqueue", archive, "--to", "r.example")
    lock.release()
    assert f"The worker in the background (pid {os.getpid()}) pushes it.\n" in result.err


def test_after_a_job_that_there_is_not(pusher: Pusher, archive: str) -> None:
    result = pusher("enqueue", archive, "--to", "r.example", "--after", "7")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: there is no job 7\n")
    both = pusher("enqueue", archive, "--to", "r.example", "--after", "1", "--after", "2")
    assert (both.code, both.out) == (2, "")
    assert both.err.startswith("error: --after names 2 jobs: 1, 2\n")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("22:00", "2026-11-28 22:00+01:00"),
        ("9:30", "2026-11-29 09:30+01:00"),
        ("+90m", "2026-11-28 13:30+01:00"),
        ("+2d", "2026-11-30 12:00+01:00"),
        ("2026-12-24T18:00:00Z", "2026-12-24 19:00+01:00"),
        ("2026-12-24 18:00", "2026-12-24 18:00+01:00"),
    ],
)
def test_times(text: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        now = datetime(2026, 11, 28, 12, tzinfo=BERLIN)
        assert parse_time(text, now) == datetime.fromisoformat(meant)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["25:00", "tomorrow", "+2w", "", "99999-01-01"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        parse_time(text, datetime(2026, 11, 28, 12, tzinfo=BERLIN))
    assert "is not a time" in caught.value.message


# --- labels, filters, columns ------------------------------------------------------------------------------


def test_labels_and_filters(pusher: Pusher, archive: str) -> None:
    pusher("enqueue", archive, "--to", "r.example/a:1", "--label", "team=web", "--label", "night=1")
    pusher("enqueue", archive, "--to", "s.example/b:1", "--label", "team=api", "--priority", "9")
    pusher("enqueue", archive, "--to", "s.example/c:1", "--label", 'odd="team":"web"%_~')
    pusher("pause", "3")
    assert states(pusher, "--label", "team=web") == [(1, "queued")]
    assert states(pusher, "--label", "team=web", "--label", "night=2") == []
    assert states(pusher, "--label", 'odd="team":"web"%_~') == [(3, "paused")]
    assert states(pusher, "--registry", "S.example") == [(2, "queued"), (3, "paused")]
    assert states(pusher, "--state", "queued", "--state", "failed") == [(1, "queued"), (2, "queued")]
    assert states(pusher, "--sort", "priority") == [(2, "queued"), (1, "queued"), (3, "paused")]
    assert "s.example/b:1" in pusher("status", "--registry", "s.example").out
    result = pusher("status", "--format", "id,state,labels,error", "--state", "queued")
    assert result.out == "1\tqueued\tnight=1,team=web\t\n2\tqueued\tteam=api\t\n"
    job = json.loads(pusher("status", "1", "--json").out)["jobs"][0]
    assert job["labels"] == {"night": "1", "team": "web"}


def test_filters_that_no_job_matches(pusher: Pusher, archive: str) -> None:
    pusher("enqueue", archive, "--to", "r.example/a:1")
    result = pusher("status", "--state", "failed")
    assert (result.code, result.out, result.err) == (0, "", "No jobs match.\n")
    assert pusher("status", "--format", "id, state").out == "1\tqueued\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--format", "id,colour"), "--format: there is no column 'colour'"),
        (("--format", "id", "--json"), "--format and --json are two formats"),
        (("1", "--state", "failed"), "--state is for a list of jobs, and one JOB is given"),
        (("--watch", "--label", "a=b"), "--watch shows all jobs"),
        (("--label", "team"), "--label 'team' is not KEY=VALUE"),
        (("--label", "-=1"), "--label '-=1' is not KEY=VALUE"),
        (("--label", "a=b\n"), "--label 'a=b\\n' is not KEY=VALUE"),
    ],
)
def test_filters_that_are_refused(pusher: Pusher, arguments: tuple[str, ...], told: str) -> None:
    result = pusher("status", *arguments)
    assert result.code == 2
    assert result.err.startswith(f"error: {told}")


# --- priority ----------------------------------------------------------------------------------------------


def test_priority_changes_whose_turn_it_is(pusher: Pusher, store: Store) -> None:
    add_job(store, "a:1")
    second = add_job(store, "b:1")
    assert pusher("priority", str(second.id), "7").code == 0
    found = store.jobs.claim("w", lease=60)
    assert found is not None
    assert (found.id, found.priority) == (second.id, 7)
    assert "priority" in pusher("log", str(second.id)).out
    end(store, add_job(store, "c:1"), JobState.SUCCEEDED)
    result = pusher("priority", "3", "1")
    assert (result.code, result.err.splitlines()[0]) == (
        2,
        "error: job 3 has ended (succeeded), and its priority has no effect",
    )


def test_a_priority_below_zero_and_what_is_no_priority(pusher: Pusher, store: Store) -> None:
    add_job(store)
    assert pusher("priority", "1", "-15").err == "Job 1 has priority -15.\n"
    result = pusher("priority", "1", "high")
    assert (result.code, result.err.splitlines()[0]) == (
        2,
        "error: invalid value for 'N': 'high' is not a valid number from -1000 to 1000",
    )
    assert pusher("priority", "1", "--high").code == 2


# --- wait, watch, follow -----------------------------------------------------------------------------------


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "pusher", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_wait_ends_with_the_jobs_and_exits_as_they_did(store: Store) -> None:
    good, bad = add_job(store, "good:1"), add_job(store, "bad:1")
    with started("wait") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "Job 1: queued (good:1 -> registry.example.com/good:1)\n"
        end(store, good, JobState.SUCCEEDED)
        end(store, bad, JobState.FAILED)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (6, f"registry.example.com/good@{DIGEST}\n")
    assert "error: job 2, bad:1: no such repository" in err


def test_wait_for_a_job_that_is_named_twice(pusher: Pusher, store: Store) -> None:
    end(store, add_job(store, "good:1"), JobState.SUCCEEDED)
    result = pusher("wait", "1", "1", "--quiet")
    assert (result.code, result.out) == (0, f"registry.example.com/good@{DIGEST}\n")


def test_wait_for_one_job(pusher: Pusher, store: Store) -> None:
    job = add_job(store)
    end(store, job, JobState.SUCCEEDED)
    result = pusher("wait", "1", "--json")
    assert (result.code, json.loads(result.out)["state"]) == (0, "succeeded")
    assert pusher("wait").code == 0
    assert pusher("wait", "9").code == 2
    store.jobs.pause(add_job(store, "other:1").id)
    result = pusher("wait", "2")
    assert result.code == 5
    assert "continue with: pusher resume 2 && pusher run" in result.err


def test_wait_for_a_job_that_was_cancelled(pusher: Pusher, store: Store) -> None:
    end(store, add_job(store, "good:1"), JobState.SUCCEEDED)
    store.jobs.cancel(add_job(store, "other:1").id)
    result = pusher("wait", "1", "2", "--json")
    assert result.code == 3
    assert [json.loads(line)["state"] for line in result.out.splitlines()] == ["succeeded", "cancelled"]
    assert result.err.splitlines()[-1] == "Jobs: 1 pushed, 1 cancelled."
    alone = pusher("wait", "2", "--json")
    assert (alone.code, json.loads(alone.out)["id"]) == (3, 2)
    assert alone.err.splitlines()[-2:] == [
        "error: job 2, other:1, was cancelled",
        "  hint: to push it all the same: pusher retry 2 && pusher run",
    ]


@pytest.mark.parametrize(("command", "code"), [("wait", 3), ("log", 0)])
def test_a_job_that_is_removed_while_it_is_watched(
    pusher: Pusher, store: Store, monkeypatch: pytest.MonkeyPatch, command: str, code: int
) -> None:
    """As a run with a short keep_jobs does, or pusher prune."""
    job = add_job(store)

    def remove(_seconds: float) -> None:
        store.jobs.cancel(job.id)
        assert store.retention.prune(datetime(2100, 1, 1, tzinfo=UTC)).jobs == 1

    monkeypatch.setattr(f"pusher.cli.{command}.wait_for_reader", remove)
    follow = ("--follow",) if command == "log" else ()
    result = pusher(command, "1", *follow)
    assert result.code == code
    assert "Job 1 has ended, and was removed" in result.err.splitlines()[-1]


def test_wait_without_unfinished_jobs(pusher: Pusher, home: Path, tmp_path: Path) -> None:
    result = pusher("wait", "--digest-file", str(tmp_path / "digests"))
    assert (result.code, result.out, result.err) == (0, "", "No job is unfinished.\n")
    assert (tmp_path / "digests").read_text() == ""


def test_ctrl_c_ends_the_wait_and_changes_nothing(pusher: Pusher, store: Store) -> None:
    add_job(store)
    with started("wait", "1") as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert store.jobs.get(1).state is JobState.QUEUED


def test_watch_waits_for_a_job_and_ends_when_all_have_ended(store: Store) -> None:
    with started("status", "--watch", "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"jobs": []}
        job = add_job(store)
        assert json.loads(process.stdout.readline())["jobs"][0]["state"] == "queued"
        end(store, job, JobState.SUCCEEDED)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out.splitlines()[-1])["jobs"][0]["state"] == "succeeded"


def test_follow_prints_events_as_they_come(store: Store) -> None:
    job = add_job(store)
    with started("log", "1", "--follow") as process:
        assert process.stdout is not None
        assert "queued" in process.stdout.readline()
        store.events.add(job.id, "session-lost", "the registry lost the upload session")
        assert "the registry lost the upload session" in process.stdout.readline()
        end(store, job, JobState.SUCCEEDED)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "succeeded" in out.splitlines()[-1]


def test_wait_ends_once_nobody_reads_it(store: Store) -> None:
    add_job(store)
    with started("wait", "1", "--json") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == 1


def test_follow_ends_once_nobody_reads_it(store: Store) -> None:
    """As with ``| head -1``, and without an event that would be written."""
    add_job(store)
    with started("log", "1", "--follow") as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 1


def test_wait_says_what_the_jobs_wait_for(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    held = replace(add_job(store, "held:1"), not_before=datetime(2099, 1, 1, 6, tzinfo=UTC))
    at = "Job 1 starts at 2099-01-01 06:00:00 UTC.\n"
    overview = JobOverview(held, store.jobs.totals([1])[1], hold=JobHolds(store, [held]).of(held))
    explain_idle([overview])
    assert capsys.readouterr().err == at
    explain_idle([replace(overview, has_worker=False)])
    then = "No worker is there to push them then. Start one with: pusher run --forever\n"
    assert capsys.readouterr().err == at + then
    free = replace(overview, job=add_job(store, "free:1"), hold=None)
    explain_idle([overview, free])
    assert capsys.readouterr().err == at, "a worker pushes it"
    explain_idle([overview, replace(free, has_worker=False)])
    assert capsys.readouterr().err == f"{at}No worker pushes these jobs. Start one with: pusher run\n"


def test_many_jobs_one_after_the_other(store: Store) -> None:
    """As a nightly script makes them that keeps its images in order."""
    add_queued_jobs(store, 1, 600)
    with store._database.write() as connection:
        connection.execute("UPDATE jobs SET after_job = id - 1 WHERE id > 1")
    jobs = store.jobs.list()
    assert JobHolds(store, jobs).of(jobs[-1]) == JobHold("starts after job 599", ends_in_run=True)
    store.jobs.pause(1)
    hold = JobHolds(store, store.jobs.list()).of(jobs[-1])
    assert hold is not None
    assert hold.text == "starts after job 599, and job 1 before that is paused"
    assert hold.advice == "to continue it: pusher resume 1"


def test_a_job_after_one_that_has_ended(pusher: Pusher, store: Store, archive: str) -> None:
    """A job that has succeeded holds nothing back; one that did not succeed does so until the user acts."""
    done, bad = add_job(store, "done:1"), add_job(store, "bad:1")
    store.jobs.succeed(claim(store, done), DIGEST)
    after_done = pusher("enqueue", archive, "--to", "r.example/a", "--after", "1")
    assert "Start it with: pusher run\n" in after_done.err
    assert "It starts after job 2, with: pusher run\n" in _enqueue_after(pusher, archive, 2)
    store.jobs.fail(claim(store, bad), StoredError("registry-refused", "no", "ask"))
    text = _enqueue_after(pusher, archive, 2)
    assert "It starts after job 2, which failed; to try it again: pusher retry 2\n" in text
    last = _enqueue_after(pusher, archive, 5)
    assert "It starts after job 5, and job 2 before that failed; to try it again: pusher retry 2\n" in last
    table = " ".join(pusher("status").out.split())
    assert "starts after job 2, which failed to try it again: pusher retry 2" in table
    described = {job["id"]: job["held"] for job in json.loads(pusher("status", "--json").out)["jobs"]}
    held = {"reason": "starts after job 2, which failed", "hint": "to try it again: pusher retry 2"}
    assert (described[3], described[5]) == (None, held)


def _enqueue_after(pusher: Pusher, archive: str, job: int) -> str:
    return pusher("enqueue", archive, "--to", "r.example", "--no-supersede", "--after", str(job)).err


def test_run_and_wait_end_where_only_the_user_can_free_a_job(
    pusher: Pusher, store: Store, archive: str
) -> None:
    add_job(store, "bad:1")
    store.jobs.cancel(1)
    _enqueue_after(pusher, archive, 1)
    for command in ("run", "wait"):
        result = pusher(command)
        assert result.code == 5
        assert (
            "starts after job 1, which was cancelled\n  hint: to try it again: pusher retry 1" in result.err
        )
        assert "--forever" not in result.err


def test_detach_without_a_job_that_can_start_stays_in_the_foreground(
    home: Path, store: Store, archive: str
) -> None:
    """A worker in the background would end at once."""
    with started("enqueue", archive, "--to", "r.example", "--not-before", "2099-01-01T06:00:00Z") as process:
        assert process.wait(60) == 0
    with started("run", "--detach") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (5, "")
    assert "Job 1 starts at 2099-01-01 06:00:00 UTC: pusher run --forever waits for that.\n" in err
    assert "in the background" not in err


def test_the_next_try_is_named_only_where_a_worker_makes_it(
    pusher: Pusher, store: Store, home: Path, clock: Clock
) -> None:
    job = claim(store, add_job(store))
    error = StoredError("registry-unreachable", "it is away", "wait")
    in_a_minute = clock.now + timedelta(minutes=1)
    store.jobs.release(job, state=JobState.WAITING, next_try_at=in_a_minute, error=error, attempt=False)

    def said() -> str:
        (row,) = read_overviews(store, home / "workers", [store.jobs.get(1)])
        return note(row, store.now()).splitlines()[-1]

    assert said() == "next try with: pusher run"
    assert "next try " not in pusher("status", "1").out.replace("next try with: pusher run", "")
    store.workers.register("elsewhere/1", Machine("m", "host", "/home"), pid=1, version="1", lease=60)
    assert said() == "next try in 1m00s"
    clock.advance(90)
    assert said() == "next try with: pusher run", "that worker is gone"
    store.workers.renew("elsewhere/1", 60)
    assert said() == "next try when a worker is free", "never a time in the past"


def test_a_time_that_is_past_is_pointed_out(pusher: Pusher, archive: str) -> None:
    result = pusher("enqueue", archive, "--to", "r.example", "--not-before", "2020-01-01")
    assert "note: --not-before 2020-01-01 is past, so it holds nothing back\n" in result.err
    assert result.err.endswith("Start it with: pusher run\n")


def test_columns_of_one_job(pusher: Pusher, store: Store) -> None:
    add_job(store)
    add_job(store)
    assert pusher("status", "2", "--format", "id,state").out == "2\tqueued\n"
    empty = pusher("status", "--format", "")
    assert (empty.code, empty.out) == (2, "")
    assert empty.err.startswith("error: --format: there is no column ''\n")


def test_every_field_of_a_job_but_its_layers_is_a_column(pusher: Pusher, archive: str) -> None:
    pusher("enqueue", archive, "--to", "r.example/a:1")
    labels = ("--label", "code=1", "--label", "reason=2")  # as fields of an error and of what holds a job
    pusher("enqueue", archive, "--to", "r.example/a:2", "--after", "1", *labels)
    fields = json.loads(read_schema())["$defs"]["job"]["properties"]
    columns = [name for name in fields if name != "layers"]
    refused = pusher("status", "--format", "layers")
    assert refused.code == 2
    assert refused.err.endswith(f"\n  hint: the columns are {', '.join(columns)}\n")
    (line,) = pusher("status", "2", "--format", ",".join(columns)).out.splitlines()
    row = dict(zip(columns, line.split("\t"), strict=True))
    assert (row["id"], row["after"], row["superseded_by"]) == ("2", "1", "")
    assert (row["held"], row["labels"], row["error"]) == ("starts after job 1", "code=1,reason=2", "")


def test_all_has_a_short_name(pusher: Pusher, store: Store) -> None:
    for number in range(7):
        end(store, add_job(store, f"app:{number}"), JobState.SUCCEEDED)
    assert pusher("status", "-a").out == pusher("status", "--all").out
    assert "app:0" in pusher("status", "-a").out
    assert pusher("retry", "-a").err == "There are no jobs to retry.\n"


def test_notify_leads_to_hooks(pusher: Pusher) -> None:
    result = pusher("run", "--notify", "me")
    assert result.code == 2
    assert "[hooks] in pusher.toml" in result.err
    assert "pusher help hooks" in result.err


def test_what_cannot_be_stopped_has_a_hint_that_fits(pusher: Pusher, store: Store) -> None:
    end(store, add_job(store), JobState.SUCCEEDED)
    for verb in ("pause", "cancel"):
        hint = "pusher status 1 shows what was pushed; pusher does not delete it at the registry"
        assert pusher(verb, "1").err.endswith(f"\n  hint: {hint}\n")
    assert "to push it again: pusher enqueue IMAGE" in pusher("retry", "1").err
