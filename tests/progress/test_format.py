"""Times, percents and lines for people."""

from __future__ import annotations

import pytest

from pusher.progress.format import fit, format_columns, human_left, percent


@pytest.mark.parametrize(
    ("done", "total", "whole"),
    [(0, 10, 0), (999, 1000, 99), (9999, 10000, 99), (10, 10, 100), (0, 0, 100), (11, 10, 100)],
)
def test_percent_is_100_only_at_the_end(done: int, total: int, whole: int) -> None:
    assert percent(done, total) == whole


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.001, "1s"), (1.4, "1s"), (252, "4m12s"), (99 * 86400, "99d00h"), (1e12, ">99d")]
)
def test_time_left_is_never_nothing_and_never_absurd(seconds: float, text: str) -> None:
    assert human_left(seconds) == text


def test_lines_are_broken_between_words() -> None:
    line = "  hint: check the network, the registry's name and its port"
    for is_command in (False, True):
        assert (
            fit(line, 40, is_command=is_command)
            == "  hint: check the network, the\n    registry's name and its port"
        )
        assert fit(line, 80, is_command=is_command) == line
    longer = line + " and its path; then run the command again"
    assert fit(longer, 80) == line + " and its path; then\n    run the command again"
    assert fit(longer, 80, is_command=True) == longer, "a terminal copies it as one line"
    assert fit("short", 40) == "short"
    assert fit("x" * 100, 40) == "x" * 100


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (120, "12:00  queued  stopped by the user, and nothing of it is lost"),
        (60, "12:00  queued  stopped by the user, and nothing of it is\n               lost"),
        (40, "12:00  queued  stopped by the user, and\n               nothing of it is lost"),
        (28, "12:00  queued\n  stopped by the user, and\n  nothing of it is lost"),
    ],
)
def test_a_column_beside_another_is_broken_between_words(width: int, text: str) -> None:
    found = format_columns("12:00  queued  ", "stopped by the user, and nothing of it is lost", width)
    assert found == text
    assert max(map(len, found.split("\n"))) < width


def test_what_is_there_to_copy_is_never_broken() -> None:
    digest = "sha256:" + "a" * 64
    assert digest in format_columns("12:00  queued  ", f"pushed {digest}", 40).split()
