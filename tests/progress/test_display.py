"""Choosing a display, and its thread: it never hurts the work."""

from __future__ import annotations

import io
import threading
import time

import pytest

from pusher.progress.display import Display, Mode, choose_mode
from tests.progress.helpers import digest


@pytest.mark.parametrize(
    ("mode", "text"),
    [("auto", "word\n"), ("lines", "word\n"), ("json", '"message": "word"}\n'), ("none", "")],
)
def test_modes_without_a_terminal(mode: Mode, text: str) -> None:
    stream = io.StringIO()
    with Display(mode, stream) as display:
        display.progress.note("word")
    assert stream.getvalue().endswith(text)
    assert bool(stream.getvalue()) == bool(text)


def test_a_terminal_display_may_be_forced_on_a_stream_that_is_none() -> None:
    stream = io.StringIO()
    with Display("tty", stream) as display:
        display.progress.blob_started(1, digest("a"), 100, 0)
        display.progress.note("word")
    assert "word" in stream.getvalue()


class _Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("mode", "stream", "term", "found"),
    [
        ("auto", _Tty(), "xterm-256color", "tty"),
        ("auto", _Tty(), "dumb", "lines"),
        ("auto", io.StringIO(), "xterm-256color", "lines"),
        ("tty", io.StringIO(), "dumb", "tty"),
        ("none", _Tty(), "xterm", "none"),
    ],
)
def test_auto_goes_by_the_terminal(
    monkeypatch: pytest.MonkeyPatch, mode: Mode, stream: io.StringIO, term: str, found: Mode
) -> None:
    monkeypatch.setenv("TERM", term)
    assert choose_mode(mode, stream) == found


class _Broken(io.StringIO):
    """A pipe whose reader has gone."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.tried = threading.Event()

    def write(self, text: str) -> int:
        self.tried.set()
        raise self.error


@pytest.mark.parametrize("mode", ["lines", "json"])
@pytest.mark.parametrize(
    "error", [BrokenPipeError(), ValueError("closed file"), OSError("input/output error")]
)
def test_an_output_that_breaks_ends_the_display_and_not_the_work(mode: Mode, error: Exception) -> None:
    stream = _Broken(error)
    with Display(mode, stream) as display:
        display.progress.note("word")
        assert stream.tried.wait(60)
        display.progress.note("and on")


def test_the_thread_ends_with_the_context_and_the_error_of_the_work_comes_out() -> None:
    stream = io.StringIO()

    def work() -> None:
        with Display("lines", stream) as display:
            display.progress.note("before the error")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert stream.getvalue() == "before the error\n"
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_closing_early_draws_what_happened_and_waits_no_longer_than_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = _Tty()
    with Display("tty", stream) as display:
        display.progress.blob_started(1, digest("a"), 100, 0)
        display.progress.note("word")
        assert display.close(20)
        drawn = stream.getvalue()
        assert drawn.rpartition("word")[2].endswith("\x1b[2K"), "the block is cleared"
        display.progress.note("too late")
    assert stream.getvalue() == drawn

    gate = threading.Event()

    class Blocked(io.StringIO):
        def write(self, text: str) -> int:
            gate.wait(60)
            return super().write(text)

    with Display("lines", Blocked()) as display:
        display.progress.note("word")
        assert not display.close(0.05)
        gate.set()


def test_a_blocked_output_does_not_block_the_workers() -> None:
    gate = threading.Event()

    class Blocked(io.StringIO):
        def write(self, text: str) -> int:
            gate.wait(60)
            return super().write(text)

    stream = Blocked()
    with Display("lines", stream) as display:
        display.progress.note("word")
        started = time.monotonic()
        for offset in range(1000):
            display.progress.blob_acknowledged(1, digest("a"), offset)
        assert time.monotonic() - started < 10
        gate.set()
    assert stream.getvalue() == "word\n"
