"""The live block where it has little or nothing to show, and what a real terminal receives."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import subprocess
import sys

import pytest

from pusher.progress.counters import Counters, Snapshot
from pusher.progress.terminal import Terminal, block
from tests.progress.helpers import Clock, digest

A = digest("a")


def _plain(snapshot: Snapshot, width: int, height: int = 24) -> list[str]:
    return [row.plain for row in block(snapshot, width=width, height=height)]


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


class _Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_it_draws_again_only_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle display sends nothing down a slow line."""
    monkeypatch.setenv("TERM", "xterm")
    counters = Counters(Clock())
    stream = _Tty()
    terminal = Terminal(counters, stream)
    counters.blob_started(3, A, 100, 0)
    terminal.render()
    drawn = len(stream.getvalue())
    terminal.render()
    assert len(stream.getvalue()) == drawn
    counters.blob_acknowledged(3, A, 50)
    terminal.render()
    assert len(stream.getvalue()) > drawn
    terminal.close()


_PROGRAM = """
import sys, time
from pusher.progress.display import Display
with Display("auto", sys.stderr) as display:
    progress = display.progress
    progress.job_started(3, "app", "r.example/app")
    progress.blob_started(3, "sha256:" + "a" * 64, 1000, 0)
    {middle}
    progress.note("a word")
    progress.job_ended(3, "succeeded", "done")
"""


_DRAWN = "sys.stdin.readline()"
"""In a program: go on once what the test awaits is on the terminal."""
_BLOCK = rb"aaaaaaaaaaaa"


def _run_on_a_terminal(middle: str, *awaited: bytes, kill: bool = False, **environ: str) -> str:
    """What a terminal receives. Each pattern of ``awaited``, once it came behind the one before, lets the
    program go on, or kills it."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM.format(middle=middle)],
        stderr=follower,
        stdin=subprocess.PIPE,
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
    assert process.stdin is not None
    received, seen, patterns = b"", 0, list(awaited)
    while True:
        try:
            data = os.read(leader, 65536)
        except OSError:
            break
        received += data
        while patterns and (found := re.search(patterns[0], received[seen:])):
            seen += found.end()
            del patterns[0]
            if kill:
                process.send_signal(signal.SIGINT)
            else:
                process.stdin.write(b"\n")
                process.stdin.flush()
        if not data:
            break
    process.stdin.close()
    process.wait(60)
    os.close(leader)
    assert not patterns
    return received.decode()


def test_on_a_terminal_events_scroll_and_the_block_goes() -> None:
    output = _run_on_a_terminal(_DRAWN, _BLOCK)
    assert "Job 3: app -> r.example/app\r\n" in output
    assert "──────" in output
    # The last event is printed, and after the last erased line nothing more.
    assert "Job 3 succeeded: done\r\n" in output
    last = output.rpartition("\x1b[2K")[2]
    assert re.sub(r"\x1b\[[?0-9;]*[A-Za-z]|\s", "", last) == ""


def test_an_echoed_ctrl_c_is_cleared_before_the_next_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    counters, stream = Counters(Clock()), _Tty()
    terminal = Terminal(counters, stream)
    counters.note("first")
    terminal.render()
    stream.write("^C")
    counters.note("stopping")
    terminal.close()
    assert "^C\r\x1b[2K" in stream.getvalue()


@pytest.mark.parametrize("kill", [False, True])
def test_the_cursor_is_shown_while_it_draws_and_after(kill: bool) -> None:
    output = _run_on_a_terminal(_DRAWN, _BLOCK, kill=kill)
    assert output.count("\x1b[?25h") >= output.count("\x1b[?25l")
    assert output.rfind("\x1b[?25h") > output.rfind("\x1b[?25l")
    if kill:
        assert "KeyboardInterrupt" in output


def test_the_cursor_rests_where_an_echoed_ctrl_c_begins_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    counters = Counters(Clock())
    stream = _Tty()
    terminal = Terminal(counters, stream)
    counters.blob_started(3, A, 100, 0)
    terminal.render()
    assert stream.getvalue().endswith("\r")
    terminal.close()


def test_lines_of_the_log_go_above_the_block() -> None:
    middle = f"{_DRAWN}; progress.log('GET /v2/ ' + 'x' * 100); {_DRAWN}"
    output = _run_on_a_terminal(middle, _BLOCK, rb"x{100}[^a]*" + _BLOCK)
    line = "GET /v2/ " + "x" * 100 + "\r\n"
    assert line in output, "whole, and not cut to the width"
    before, _, after = output.partition(line)
    assert "aaaaaaaaaaaa" in before
    assert "aaaaaaaaaaaa" in after
    assert before.endswith("\x1b[2K"), "the block was erased first"


@pytest.mark.parametrize(
    ("encoding", "bar"), [("utf-8", "──────"), ("ascii", "------"), ("latin-1", "------")]
)
def test_the_bar_is_made_of_what_the_terminal_can_show(encoding: str, bar: str) -> None:
    assert bar in _run_on_a_terminal(_DRAWN, _BLOCK, PYTHONIOENCODING=encoding)


def test_no_color_and_color() -> None:
    middle = f"progress.blob_sending(3, 'sha256:' + 'a' * 64, 500); {_DRAWN}"
    assert "\x1b[36m" not in _run_on_a_terminal(middle, _BLOCK)
    colored = _run_on_a_terminal(middle, _BLOCK, NO_COLOR="")
    assert "\x1b[36m" in colored


def test_a_dumb_terminal_gets_lines() -> None:
    output = _run_on_a_terminal("pass", TERM="dumb")
    assert "\x1b" not in output
    assert "aaaaaaaaaaaa: sending 1.0 KiB" in output


def test_a_job_that_waits_keeps_its_bar() -> None:
    counters = Counters(Clock())
    counters.job_started(3, "app:1", "r.example/app:1")
    counters.blob_started(3, A, 100 << 20, 0)
    counters.blob_acknowledged(3, A, 40 << 20)
    counters.waiting("job 3", 30.0, "the network is gone")
    counters.job_ended(3, "waiting", "the network is gone")
    rows = _plain(counters.snapshot(), 80)
    assert rows[0] == "job 3         waiting 30s: the network is gone"
    assert rows[1].startswith("total         ━")
    assert " 40%  40.0 / 100.0 MiB" in rows[1]
    counters.job_started(3, "app:1", "r.example/app:1")
    counters.blob_started(3, A, 100 << 20, 40 << 20)
    counters.job_ended(3, "succeeded", "")
    assert counters.snapshot().blobs == ()


def test_what_waited_here_and_went_on_elsewhere_is_forgotten() -> None:
    clock = Clock()
    counters = Counters(clock)
    counters.job_started(3, "app:1", "r.example/app:1")
    counters.blob_started(3, A, 100, 40)
    counters.waiting("job 3", 30.0, "the network is gone")
    counters.job_ended(3, "waiting", "the network is gone")
    clock.advance(31)
    assert counters.snapshot().blobs == ()


def test_while_sizes_are_unknown_there_is_no_share_of_them() -> None:
    counters = Counters(Clock())
    counters.blob_done(3, A, 100 << 20, "uploaded")
    counters.preparing(3, digest("b"), 10, None)
    total = _plain(counters.snapshot(), 80)[-1]
    assert "%" not in total
    assert "100.0 / 100.0 MiB+" in total


@pytest.mark.parametrize("width", [20, 40, 80])
def test_no_row_is_wider_than_the_terminal(width: int) -> None:
    counters = Counters(Clock())
    counters.blob_started(3, A, 10 << 30, 5 << 30)
    counters.preparing(3, digest("b"), 10 << 30, 20 << 30)
    counters.waiting("job 12345", 3600.0, "registry.example.com refuses the connection, and has for a while")
    assert all(len(row) < width for row in _plain(counters.snapshot(), width))


@pytest.mark.parametrize(
    ("image", "destination", "said"),
    [
        ("app:1", "r.example/app:1", "Job 3: app:1 -> r.example/app:1\n"),
        (
            f"docker-archive:/builds/{'night/' * 20}app.tar:app:1.2",
            f"registry.example.com/{'team/' * 20}app:1.2",
            "Job 3: docker-archive:/builds/n...ht/night/night/app.tar:app:1.2\n{}",
        ),
    ],
)
def test_long_names_of_a_job_take_two_rows(
    monkeypatch: pytest.MonkeyPatch, image: str, destination: str, said: str
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "65")
    counters, stream = Counters(Clock()), _Tty()
    terminal = Terminal(counters, stream)
    counters.job_started(3, image, destination)
    terminal.render()
    terminal.close()
    printed = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", stream.getvalue())
    said = said.format("  -> registry.example.com/team/...am/team/team/team/team/app:1.2\n")
    assert printed.rstrip("\n") == said.rstrip("\n"), "older versions of rich end with an empty row"
    assert all(len(row) < 65 for row in printed.splitlines())
