"""A word where something outside does not answer."""

from __future__ import annotations

import re
import subprocess

import pytest

from pusher import waiting
from pusher.waiting import SilenceReporter, communicate, report_silence_to


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def test_a_word_after_ten_seconds_and_after_a_minute() -> None:
    clock, words = Clock(), list[str]()
    wait = SilenceReporter("Docker", clock)
    with report_silence_to(words.append):
        for second in range(1, 100):
            clock.now = 50.0 + second
            wait()
            assert len(words) == (second >= 10) + (second >= 60)
    assert words[0] == "Docker has not responded for 10s; still waiting"


def test_what_came_between_begins_it_anew() -> None:
    clock, words = Clock(), list[str]()
    wait = SilenceReporter("`docker save`", clock)
    with report_silence_to(words.append):
        for _ in range(5):
            for _ in range(8):
                clock.now += 1
                wait()
            clock.now += 30  # it gave something, and nobody waited
    assert words == []


def test_nobody_is_told_where_nobody_listens() -> None:
    clock, words = Clock(), list[str]()
    with report_silence_to(words.append):
        pass
    wait = SilenceReporter("Docker", clock)
    for _ in range(20):
        clock.now += 1
        wait()
    assert words == []


def test_a_process_is_given_what_it_reads_and_named_while_it_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "NOTICE_AFTER", 0.5)
    words: list[str] = []
    pipe = subprocess.PIPE
    slow = ["sh", "-c", "read given; sleep 1.3; echo got $given; echo and >&2"]
    spawn = subprocess.Popen(slow, stdin=pipe, stdout=pipe, stderr=pipe)
    with report_silence_to(words.append), spawn as process:
        answer = communicate(process, b"this\n", limit=20, name="the program")
    assert answer == (b"got this\n", b"and\n")
    assert re.fullmatch(r"the program has not responded for \d+s; still waiting", words[0])
    assert process.returncode == 0


def test_only_a_pause_that_is_noticed_is_reported() -> None:
    words, slept = list[str](), list[float]()
    with report_silence_to(words.append):
        for seconds in (0.5, 12.0):
            waiting.pause(seconds, "r.example answered 429", slept.append)
    assert slept == [0.5, 12.0]
    assert words == ["r.example answered 429; trying again in 12s"]
