"""The live block at several widths, and what a real terminal receives."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys

import pytest

from pusher.progress.counters import Counters, Snapshot
from pusher.progress.terminal import block
from tests.progress.helpers import MIB, Clock, digest

A, B, C = digest("a"), digest("b"), digest("c")


@pytest.fixture
def snapshot() -> Snapshot:
    clock = Clock()
    counters = Counters(clock)
    counters.job_started(3, "app", "r.example/app")
    counters.blob_done(3, digest("d"), 100 * MIB, "exists")
    counters.blob_started(3, A, 400 * MIB, 100 * MIB)
    counters.blob_started(3, B, 2048 * MIB, 0)
    counters.preparing(3, C, 0, 900 * MIB)
    clock.advance(10)
    counters.blob_sending(A, 100 * MIB)
    counters.preparing(3, C, 90 * MIB, 900 * MIB)
    counters.waiting("bbbbbbbbbbbb", 42, "the connection was reset")
    return counters.snapshot()


def _plain(snapshot: Snapshot, width: int, height: int = 24, *, ascii_only: bool = False) -> list[str]:
    return [row.plain for row in block(snapshot, width=width, height=height, ascii_only=ascii_only)]


def test_120_columns(snapshot: Snapshot) -> None:
    count = "  1 of 3 blobs"
    assert _plain(snapshot, 120) == [
        "aaaaaaaaaaaa  ━━━━━━━╍╍╍╍╍╍╍╍───────────────  25%  100.0 / 400.0 MiB     10.0 MiB/s     20s",
        "bbbbbbbbbbbb  ──────────────────────────────   0%  0 B / 2.0 GiB              0 B/s",
        "cccccccccccc  compressing  90.0 / 900.0 MiB  9.0 MiB/s",
        "bbbbbbbbbbbb  waiting 42s: the connection was reset",
        f"total         ━━╍───────────────────────────   7%  200.0 MiB / 2.5 GiB   10.0 MiB/s   3m45s{count}",
    ]


def test_80_columns(snapshot: Snapshot) -> None:
    assert _plain(snapshot, 80) == [
        "aaaaaaaaaaaa  ━━━━╍╍╍╍╍─────────  25%  100.0 / 400.0 MiB     10.0 MiB/s     20s",
        "bbbbbbbbbbbb  ──────────────────   0%  0 B / 2.0 GiB              0 B/s",
        "cccccccccccc  compressing  90.0 / 900.0 MiB  9.0 MiB/s",
        "bbbbbbbbbbbb  waiting 42s: the connection was reset",
        "total         ━╍────────────────   7%  200.0 MiB / 2.5 GiB   10.0 MiB/s   3m45s",
    ]


def test_60_columns_have_no_bar(snapshot: Snapshot) -> None:
    assert _plain(snapshot, 60)[0] == "aaaaaaaaaaaa    25%  100.0 / 400.0 MiB     10.0 MiB/s     …"


@pytest.mark.parametrize("width", [10, 20, 33, 59, 79, 81, 100, 119, 200])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_no_row_wraps(snapshot: Snapshot, width: int, ascii_only: bool) -> None:
    rows = _plain(snapshot, width, ascii_only=ascii_only)
    assert len(rows) == 5
    assert all(len(row) < width for row in rows)


def test_ascii_only(snapshot: Snapshot) -> None:
    rows = _plain(snapshot, 80, ascii_only=True)
    assert rows[0] == "aaaaaaaaaaaa  ####+++++---------  25%  100.0 / 400.0 MiB     10.0 MiB/s     20s"
    assert all(row.isascii() for row in rows)


def test_more_rows_than_the_terminal_has() -> None:
    counters = Counters(Clock())
    for letter in "0123456789abcdef":
        counters.blob_started(3, digest(letter), 100, 0)
    rows = _plain(counters.snapshot(), 80, height=10)
    assert len(rows) == 8
    assert rows[-2] == "  and 10 more"
    assert rows[-1].startswith("total")


def test_nothing_to_show() -> None:
    counters = Counters(Clock())
    assert _plain(counters.snapshot(), 80) == []
    counters.blob_done(3, A, 100, "exists")
    assert _plain(counters.snapshot(), 80) == []


_PROGRAM = """
import sys, time
from pusher.progress.display import make_progress
with make_progress("auto", sys.stderr) as progress:
    progress.job_started(3, "app", "r.example/app")
    progress.blob_started(3, "sha256:" + "a" * 64, 1000, 0)
    {middle}
    progress.note("a word")
    progress.job_ended(3, "succeeded", "done")
"""


def _run_on_a_terminal(middle: str, *, kill: bool = False, **environ: str) -> str:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM.format(middle=middle)],
        stderr=follower,
        stdin=follower,
        env={
            **os.environ,
            "TERM": "xterm",
            "COLUMNS": "80",
            "LINES": "24",
            "PYTHONIOENCODING": "utf-8",
            **environ,
        },
    )
    os.close(follower)
    received = b""
    while True:
        try:
            data = os.read(leader, 65536)
        except OSError:
            break
        received += data
        if kill and b"aaaaaaaaaaaa" in received:
            process.send_signal(signal.SIGINT)
            kill = False
        if not data:
            break
    process.wait(20)
    os.close(leader)
    return received.decode()


def test_on_a_terminal_events_scroll_and_the_block_goes() -> None:
    output = _run_on_a_terminal("time.sleep(0.5)")
    assert "Job 3: app -> r.example/app\r\n" in output
    assert "──────" in output
    # The last event is printed, and after the last erased line nothing more.
    assert "Job 3 succeeded: done\r\n" in output
    last = output.rpartition("\x1b[2K")[2]
    assert re.sub(r"\x1b\[[?0-9;]*[A-Za-z]|\s", "", last) == ""


@pytest.mark.parametrize("kill", [False, True])
def test_the_cursor_is_shown_while_it_draws_and_after(kill: bool) -> None:
    output = _run_on_a_terminal("time.sleep(20)" if kill else "time.sleep(0.5)", kill=kill)
    assert output.count("\x1b[?25h") >= output.count("\x1b[?25l")
    assert output.rfind("\x1b[?25h") > output.rfind("\x1b[?25l")
    if kill:
        assert "KeyboardInterrupt" in output


def test_a_dumb_terminal_gets_lines() -> None:
    output = _run_on_a_terminal("pass", TERM="dumb")
    assert "\x1b" not in output
    assert "aaaaaaaaaaaa: sending 1.0 KiB" in output
