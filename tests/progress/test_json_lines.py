"""JSON lines: the contract with programs."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

from pusher.progress.counters import Counters
from pusher.progress.json_lines import JsonLines
from tests.progress.helpers import Clock, digest

A, C = digest("a"), digest("c")
AT = "2025-01-31T12:00:00.000Z"


class Fixture:
    def __init__(self) -> None:
        self.clock = Clock()
        wall = datetime(2025, 1, 31, 12, tzinfo=UTC)
        self.counters = Counters(self.clock, lambda: wall)
        self.stream = io.StringIO()
        self.json = JsonLines(self.counters, self.stream, clock=self.clock, wall=lambda: wall)

    def written(self) -> list[dict[str, Any]]:
        self.json.render()
        text = self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        return [json.loads(line) for line in text.splitlines()]


def test_events() -> None:
    f = Fixture()
    f.counters.job_started(3, "app", "r.example/app")
    f.counters.blob_started(3, A, 100, 20)
    f.counters.blob_acknowledged(3, A, 60)
    f.counters.blob_done(3, A, 100, "uploaded")
    f.counters.waiting("network", 2.25, "offline")
    f.counters.note("word")
    f.counters.job_ended(3, "succeeded", "r.example/app@x")
    assert f.written() == [
        {
            "type": "job-started",
            "at": AT,
            "job": 3,
            "image": "app",
            "destination": "r.example/app",
            "again": False,
        },
        {"type": "blob-started", "at": AT, "job": 3, "digest": A, "size": 100, "offset": 20},
        {"type": "blob-acknowledged", "at": AT, "job": 3, "digest": A, "offset": 60},
        {"type": "blob-done", "at": AT, "job": 3, "digest": A, "size": 100, "how": "uploaded"},
        {
            "type": "waiting",
            "at": AT,
            "what": "network",
            "seconds": 2.2,
            "until": "2025-01-31T12:00:02.250Z",
            "reason": "offline",
        },
        {"type": "note", "at": AT, "message": "word"},
        {
            "type": "job-ended",
            "at": AT,
            "job": 3,
            "state": "succeeded",
            "message": "r.example/app@x",
            "resumes": False,
        },
    ]


def test_progress_once_a_second_while_something_moves() -> None:
    f = Fixture()
    f.clock.advance(1)
    assert f.written() == []
    f.counters.job_started(3, "app", "r.example/app")
    f.counters.blob_started(3, A, 100, 0)
    f.counters.preparing(3, C, 5, None)
    f.counters.waiting("network", 9, "offline")
    f.written()
    f.clock.advance(1)
    f.counters.blob_sending(3, A, 50)
    assert f.written() == [
        {
            "type": "progress",
            "at": AT,
            "bytes_total": 100,
            "bytes_done": 0,
            "bytes_per_second": 50,
            "seconds_left": 1,
            "blobs": [{"job": 3, "digest": A, "size": 100, "offset": 0, "in_flight": 50}],
            "preparing": [{"job": 3, "diff_id": C, "done": 5, "total": None}],
            "waiting": [
                {
                    "what": "network",
                    "seconds": 8.0,
                    "until": "2025-01-31T12:00:09.000Z",
                    "reason": "offline",
                }
            ],
        }
    ]
    f.clock.advance(0.5)
    assert f.written() == []
