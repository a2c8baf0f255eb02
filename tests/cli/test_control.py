"""``pusher pause``, ``resume``, ``retry``, ``cancel`` and ``db``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pusher.errors import DiskFull, ExitCode
from pusher.store.jobs import Jobs
from pusher.store.records import JobState, StoredError
from pusher.store.store import Store
from tests.cli.conftest import Clock, Pusher, add_job, claim

ERROR = StoredError("registry-refused", "refused", "")


def _state(store: Store, job_id: int) -> JobState:
    return store.jobs.get(job_id).state


def test_pause_and_resume(pusher: Pusher, store: Store) -> None:
    add_job(store)
    result = pusher("pause", "1")
    assert (result.code, result.out, result.err) == (0, "", "Job 1 is paused.\n")
    assert _state(store, 1) is JobState.PAUSED
    assert pusher("resume", "1").err == "Job 1 is queued. Start it with: pusher run\n"
    assert _state(store, 1) is JobState.QUEUED


def test_a_job_that_has_ended_is_not_moved(pusher: Pusher, store: Store) -> None:
    store.jobs.cancel(add_job(store).id)
    add_job(store)
    result = pusher("move", "1", "2", "--here")
    assert result.code == 2
    assert result.err.startswith("error: job 1 has ended (cancelled) and cannot be moved\n")
    assert result.err.endswith("Job 2 can be pushed by any machine already.\n")


def test_a_job_named_twice_is_told_once(pusher: Pusher, store: Store) -> None:
    add_job(store)
    assert pusher("pause", "1", "1").err == "Job 1 is paused.\n"


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_a_store_that_fails_is_reported_once(
    verb: str, pusher: Pusher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        add_job(store)
    decide = Jobs._decide

    def fail(jobs: Jobs, job_id: int, *given: Any) -> Any:
        if job_id > 1:
            raise DiskFull("no space left on the disk of the job store")
        return decide(jobs, job_id, *given)

    monkeypatch.setattr(Jobs, "_decide", fail)
    result = pusher(verb, "1", "2", "3")
    assert result.code == ExitCode.UNFINISHED
    assert result.err.startswith(
        "Done before this failed: 1 of 3 jobs.\nerror: no space left on the disk of the job store\n"
    )
    assert result.err.count("error: ") == 1


def test_one_job_that_refuses_does_not_keep_the_others(pusher: Pusher, store: Store) -> None:
    add_job(store)
    store.jobs.fail(claim(store, add_job(store)), ERROR)
    result = pusher("pause", "9", "2", "1")
    assert result.code == 2
    assert result.err == (
        "error: there is no job 9\n"
        "  hint: pusher status --all lists the jobs\n"
        "error: job 2 has failed and cannot be paused\n"
        "  hint: nothing pushes it any more; to try it again: pusher retry 2\n"
        "Job 1 is paused.\n"
    )


@pytest.mark.parametrize(
    ("verb", "changed"),
    [("pause", {1: "paused", 5: "paused"}), ("resume", {2: "queued"}), ("retry", {3: "queued"})],
)
def test_all_means_those_it_applies_to(
    pusher: Pusher, store: Store, verb: str, changed: dict[int, str]
) -> None:
    for _ in range(5):
        add_job(store)
    store.jobs.pause(2)
    store.jobs.fail(claim(store, store.jobs.get(3)), ERROR)
    store.jobs.cancel(4)
    result = pusher(verb, "--all")
    assert result.code == 0
    then = " Start it with: pusher run" if "queued" in changed.values() else ""
    assert result.err == "".join(f"Job {number} is {state}.{then}\n" for number, state in changed.items())
    assert _state(store, 4) is JobState.CANCELLED


def test_all_leaves_what_a_newer_job_replaced_and_says_so(pusher: Pusher, store: Store) -> None:
    for _ in range(3):
        store.jobs.fail(claim(store, add_job(store)), ERROR)
    store.jobs.succeed(claim(store, add_job(store)), f"sha256:{'d' * 64}")
    store.jobs.fail(claim(store, add_job(store, "other:1")), ERROR)
    result = pusher("retry", "--all")
    assert result.code == 0
    assert _state(store, 5) is JobState.QUEUED
    assert "Job 5 is queued. Start it with: pusher run\n" in result.err
    for number in (1, 2, 3):
        assert f"Skipped: job {number} would move " in result.err
        assert _state(store, number) is JobState.FAILED
    named = pusher("retry", "1")
    assert (named.code, named.err.partition(" would move ")[0]) == (2, "error: job 1")


def test_all_of_none(pusher: Pusher) -> None:
    result = pusher("retry", "--all")
    assert (result.code, result.err) == (0, "There are no jobs to retry.\n")


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel", "retry"])
@pytest.mark.parametrize(
    ("arguments", "what"), [([], "no job given"), (["1", "--all"], "jobs and --all cannot be used together")]
)
def test_jobs_or_all(pusher: Pusher, store: Store, verb: str, arguments: list[str], what: str) -> None:
    add_job(store)
    result = pusher(verb, *arguments)
    hint = f"pusher {verb} JOB..., or pusher {verb} --all; pusher status lists the jobs"
    assert (result.code, result.err) == (2, f"error: {what}\n  hint: {hint}\n")


def test_cancel(pusher: Pusher, store: Store) -> None:
    add_job(store)
    add_job(store)
    assert pusher("cancel", "1").err == "Job 1 is cancelled.\n"
    assert pusher("cancel", "--all").err == "Job 2 is cancelled.\n"
    assert pusher("retry", "1").err == "Job 1 is queued. Start it with: pusher run\n"


def test_cancel_an_unknown_job_changes_nothing(pusher: Pusher, store: Store) -> None:
    add_job(store)
    result = pusher("cancel", "1", "9")
    assert (result.code, result.err) == (
        2,
        "error: there is no job 9\n  hint: pusher status --all lists the jobs\n",
    )
    assert _state(store, 1) is JobState.QUEUED


def test_a_job_that_has_ended_does_not_keep_others_from_being_cancelled(pusher: Pusher, store: Store) -> None:
    store.jobs.fail(claim(store, add_job(store)), ERROR)
    add_job(store)
    result = pusher("cancel", "1", "2")
    assert result.code == 2
    assert result.err.startswith("error: job 1 has failed and cannot be cancelled\n")
    assert result.err.endswith("Job 2 is cancelled.\n")


def test_prune(pusher: Pusher, store: Store) -> None:
    add_job(store)
    store.jobs.cancel(add_job(store).id)
    dry = pusher("prune", "--dry-run")
    assert (dry.code, dry.out, dry.err) == (0, "", "Would remove 1 finished job and 0 blobs, 0 B.\n")
    result = pusher("prune")
    assert (result.code, result.out, result.err.splitlines()) == (
        0,
        "",
        [
            "Removing jobs that finished more than 7d ago, and blobs that no job needs.",
            "Removed 1 finished job and 0 blobs, 0 B.",
        ],
    )
    assert [job.id for job in store.jobs.list()] == [1]


def test_prune_keeps_a_week_unless_it_is_told_otherwise(pusher: Pusher, store: Store, clock: Clock) -> None:
    clock.now = datetime.now(UTC)
    store.jobs.cancel(add_job(store).id)
    for options in ((), ("--dry-run", "--older-than", "1h")):
        result = pusher("prune", *options)
        assert "emove 0" in result.err or "Removed 0" in result.err
        assert "1 finished job of the last " in result.err
    assert "Would remove 1 finished job" in pusher("prune", "--older-than", "0", "--dry-run").err
    assert [job.id for job in store.jobs.list()] == [1]
    assert "Removed 1 finished job" in pusher("prune", "--older-than", "0").err
    assert store.jobs.list() == []


@pytest.mark.parametrize("age", ["7", "soon", "-1d", "1y", ""])
def test_an_age_that_is_none(pusher: Pusher, store: Store, age: str) -> None:
    result = pusher("prune", "--older-than", age)
    assert (result.code, result.err.splitlines()[1]) == (2, "  hint: write it like 7d, 12h, 2w, or 0")


def test_db(pusher: Pusher) -> None:
    missing = pusher("db", "check")
    assert missing.code == 0
    assert missing.err.startswith("There is no job store yet; ")
    assert pusher("db", "upgrade").err.startswith("Upgraded the job store: schema none -> ")
    assert pusher("db", "upgrade").err.startswith("The job store is up to date (schema ")
    assert pusher("db", "check").err.startswith("The job store is undamaged and up to date (schema ")


def test_db_check_finds_damage(pusher: Pusher, store: Store) -> None:
    import sqlite3
    from contextlib import closing

    add_job(store)
    path = store._database.label
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("DELETE FROM jobs")
    result = pusher("db", "check")
    assert result.code == 8
    lines = result.err.splitlines()
    assert lines[0].startswith("error: the job store is damaged: ")
    assert lines[-2].startswith("error: the job store has ")
    assert lines[-1].startswith("  hint: move it away")


def test_a_database_url_that_is_none(pusher: Pusher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHER_DATABASE_URL", "mysql://user:hunter2@host/db")
    result = pusher("status")
    assert result.code == 2
    assert "hunter2" not in result.err
    assert result.err.startswith("error: PUSHER_DATABASE_URL ")
