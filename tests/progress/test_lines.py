"""Plain lines, word for word."""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pusher.progress.counters import Counters
from pusher.progress.lines import Lines, has_times
from tests.progress.helpers import MIB, Clock, digest

A, B, C = digest("a"), digest("b"), digest("c")


class Fixture:
    def __init__(self, *, single: bool = False, several: bool = False) -> None:
        self.clock = Clock()
        self.counters = Counters(self.clock, lambda: datetime(2025, 1, 31, 14, 32, 5).astimezone())
        self.stream = io.StringIO()
        self.lines = Lines(
            self.counters,
            self.stream,
            single=single,
            several=several,
            clock=self.clock,
            wall=lambda: datetime(2025, 1, 31, 14, 32, 5, tzinfo=UTC),
        )

    def written(self) -> list[str]:
        self.lines.render()
        text = self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        return text.splitlines()


@pytest.fixture
def f() -> Fixture:
    return Fixture()


def test_a_job_from_beginning_to_end(f: Fixture) -> None:
    f.counters.job_started(3, "app:1", "r.example/app:1")
    f.counters.blob_done(1, A, 2048, "exists")
    f.counters.preparing(3, C, 0, 10 * MIB)
    f.counters.prepared(3, C, B, 4 * MIB)
    f.counters.blob_started(3, B, 4 * MIB, 0)
    f.counters.blob_done(3, B, 4 * MIB, "uploaded")
    f.counters.job_ended(3, "succeeded", "r.example/app@sha256:abc")
    assert f.written() == [
        "Job 3: app:1 -> r.example/app:1",
        "aaaaaaaaaaaa: already exists, 2.0 KiB",
        "cccccccccccc: compressing 10.0 MiB",
        "cccccccccccc: compressed to 4.0 MiB, blob bbbbbbbbbbbb",
        "bbbbbbbbbbbb: sending 4.0 MiB",
        "bbbbbbbbbbbb: uploaded, 4.0 MiB",
        "Job 3 succeeded: r.example/app@sha256:abc",
    ]
    assert f.written() == []


def test_lines_of_several_jobs_name_theirs_and_have_a_time() -> None:
    f = Fixture(several=True)
    f.counters.job_started(3, "app:1", "r.example/app:1")
    f.counters.job_started(4, "web:1", "r.example/web:1")
    f.counters.preparing(3, C, 0, 10 * MIB)
    f.counters.blob_started(4, B, 4 * MIB, 0)
    f.counters.waiting("bbbbbbbbbbbb", 5, "no connection")
    f.counters.waiting("job 3", 5, "no space left on the disk")
    f.counters.note("something of all of them")
    f.counters.blob_done(4, B, 4 * MIB, "uploaded")
    f.counters.job_ended(4, "succeeded", "r.example/web@sha256:abc")
    time = "2025-01-31 14:32:05 UTC"
    assert f.written() == [
        f"{time}  Job 3: app:1 -> r.example/app:1",
        f"{time}  Job 4: web:1 -> r.example/web:1",
        f"{time}  Job 3: cccccccccccc: compressing 10.0 MiB",
        f"{time}  Job 4: bbbbbbbbbbbb: sending 4.0 MiB",
        f"{time}  bbbbbbbbbbbb: waiting 5s: no connection",
        f"{time}  job 3: waiting 5s: no space left on the disk",
        f"{time}  something of all of them",
        f"{time}  Job 4: bbbbbbbbbbbb: uploaded, 4.0 MiB",
        f"{time}  Job 4 succeeded: r.example/web@sha256:abc",
    ]


def test_what_waits_is_named_while_it_is_being_sent() -> None:
    f = Fixture(several=True)
    f.counters.blob_started(4, B, 4 * MIB, 0)
    f.counters.waiting("bbbbbbbbbbbb", 5, "no connection")
    assert f.written()[-1].endswith("  Job 4: bbbbbbbbbbbb: waiting 5s: no connection")


def test_what_waits_before_it_is_sent_is_named_with_its_job() -> None:
    f = Fixture(several=True)
    f.counters.waiting("bbbbbbbbbbbb", 5, "no connection", job=4)
    assert f.written()[-1].endswith("  Job 4: bbbbbbbbbbbb: waiting 5s: no connection")


def test_the_journal_has_times_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w") as stream:
        assert not has_times(stream)
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert has_times(stream)
    assert not has_times(io.StringIO())


@pytest.mark.parametrize(("doing", "done"), [("reading", "read"), ("fetching", "fetched")])
def test_a_blob_that_is_taken_as_it_is(f: Fixture, doing: str, done: str) -> None:
    f.counters.preparing(3, C, 0, 4 * MIB, doing)
    f.counters.prepared(3, C, B, 4 * MIB)
    assert f.written() == [
        f"cccccccccccc: {doing} 4.0 MiB",
        f"cccccccccccc: {done} 4.0 MiB, blob bbbbbbbbbbbb",
    ]


def test_interruptions(f: Fixture) -> None:
    f.counters.job_started(3, "r.example/app:1", "r.example/app:1")
    f.counters.blob_started(3, A, 4 * MIB, MIB)
    f.counters.waiting("aaaaaaaaaaaa", 42, "the connection was reset")
    f.counters.waiting("aaaaaaaaaaaa", 0.4, "the connection was reset")  # over before it is read
    f.counters.waiting("manifest", 130, "the network is away")
    f.counters.note("the registry lost a session")
    f.counters.preparing(3, C, 0, None)
    f.counters.blob_done(3, A, 4 * MIB, "mounted")
    f.counters.job_ended(3, "paused", "")
    assert f.written() == [
        "Job 3: r.example/app:1",
        "aaaaaaaaaaaa: resuming at 1.0 / 4.0 MiB",
        "aaaaaaaaaaaa: waiting 42s: the connection was reset",
        "manifest: waiting 2m10s (next try at 14:34:15 UTC): the network is away",
        "the registry lost a session",
        "cccccccccccc: compressing",
        "aaaaaaaaaaaa: mounted from another repository, 4.0 MiB",
        "Job 3 paused",
    ]


def test_a_reason_is_told_once_a_minute(f: Fixture) -> None:
    away = "r.example refuses the connection"
    for what in ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "job 3"):
        f.counters.waiting(what, 20, away)
    f.counters.waiting("bbbbbbbbbbbb", 5, "the connection was reset")
    assert f.written() == [
        f"aaaaaaaaaaaa: waiting 20s: {away}",
        "bbbbbbbbbbbb: waiting 5s: the connection was reset",
    ]
    f.clock.advance(59)
    f.counters.waiting("job 3", 20, away)
    assert f.written() == []
    f.clock.advance(1)
    f.counters.waiting("job 3", 20, away)
    assert f.written() == [f"job 3: waiting 20s: {away}"]


def test_a_job_that_waits_and_starts_again_is_not_announced_again(f: Fixture) -> None:
    f.counters.job_started(3, "app", "app")
    f.counters.waiting("job 3", 42, "the registry cannot be reached")
    f.counters.job_ended(3, "waiting", "the registry cannot be reached")
    assert f.written() == ["Job 3: app", "job 3: waiting 42s: the registry cannot be reached"]
    f.counters.job_started(3, "app", "app")
    assert f.written() == []
    f.counters.job_ended(3, "waiting", "another reason")
    assert f.written() == ["Job 3 waiting: another reason"]


def test_the_end_of_a_single_job_is_left_to_the_caller() -> None:
    f = Fixture(single=True)
    f.counters.job_ended(3, "failed", "wrong password")
    f.counters.job_ended(4, "succeeded", "r.example/app@sha256:abc")
    f.counters.job_ended(5, "waiting", "offline")
    assert f.written() == ["Job 5 waiting: offline"]
    f.counters.job_ended(6, "waiting", "no space left on the disk", resumes=False)
    assert f.written() == []


def test_a_job_that_waits_for_the_user_is_reported_where_there_are_several(f: Fixture) -> None:
    f.counters.job_ended(6, "waiting", "no space left on the disk", resumes=False)
    assert f.written() == ["Job 6 waiting: no space left on the disk"]


def test_a_summary_tells_how_far_compressing_is(f: Fixture) -> None:
    f.counters.job_started(3, "app", "app")
    f.counters.preparing(3, C, 0, 100 * MIB)
    f.written()
    f.counters.preparing(3, C, 70 * MIB, 100 * MIB)
    f.clock.advance(10)
    assert f.written() == ["compressing 1 layer (70.0 / 100.0 MiB)"]


def test_a_summary_every_ten_seconds_while_something_moves(f: Fixture) -> None:
    f.counters.job_started(3, "app", "app")
    f.counters.blob_started(3, A, 100 * MIB, 0)
    f.counters.preparing(3, C, 0, None)
    f.written()
    f.clock.advance(9.9)
    f.counters.blob_acknowledged(3, A, 50 * MIB)
    assert f.written() == []
    f.clock.advance(0.1)
    expected = "50.0 / 100.0 MiB+, 5.0 MiB/s, sending 1 blob, compressing 1 layer"
    assert f.written() == [expected]
    f.clock.advance(5)
    assert f.written() == []
    f.counters.blob_started(3, B, 100 * MIB, 0)
    f.written()
    f.clock.advance(5)
    (line,) = f.written()
    assert "sending 2 blobs" in line


def test_no_summary_while_nothing_moves(f: Fixture) -> None:
    f.counters.job_started(3, "app", "app")
    f.counters.blob_done(3, A, 100, "exists")
    f.written()
    f.clock.advance(60)
    assert f.written() == []


def test_an_unchanged_summary_is_repeated_once_a_minute(f: Fixture) -> None:
    """The job store is away for an hour."""
    f.counters.job_started(3, "app", "app")
    f.counters.blob_started(3, A, 100 * MIB, 0)
    f.written()
    seen = []
    for _ in range(360):
        f.clock.advance(10)
        seen += f.written()
    assert seen == [seen[0]] * 60
    f.counters.blob_acknowledged(3, A, 60 * MIB)
    f.clock.advance(10)
    (line,) = f.written()
    assert "60.0 / 100.0 MiB" in line


def test_close_writes_what_is_left(f: Fixture) -> None:
    f.counters.note("the last word")
    f.lines.close()
    assert f.stream.getvalue() == "the last word\n"


def test_lines_of_the_log_stand_in_their_order(f: Fixture) -> None:
    f.counters.note("before")
    f.counters.log("12:00:00.000  GET /v2/ 200")
    f.counters.note("after")
    assert f.written() == ["before", "12:00:00.000  GET /v2/ 200", "after"]


def test_the_summary_counts_what_is_in_flight(f: Fixture) -> None:
    """On a slow link one chunk takes minutes; the time left counts its bytes, too."""
    f.counters.job_started(1, "app:1", "r.example/app:1")
    f.counters.blob_started(1, A, 10 * MIB, 0)
    for second in range(1, 11):
        f.clock.advance(1)
        f.counters.blob_sending(1, A, second * MIB // 2)
    assert f.written()[-1] == "5.0 / 10.0 MiB (50%), 512.0 KiB/s, 10s left, sending 1 blob"
    for second in range(11, 21):
        f.clock.advance(1)
        f.counters.blob_sending(1, A, second * MIB // 2)
    assert f.written()[-1] == "10.0 / 10.0 MiB (99%), 512.0 KiB/s, sending 1 blob", "not acknowledged yet"
