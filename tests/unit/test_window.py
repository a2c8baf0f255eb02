"""The hours in which a job may be pushed: how they are written, and when they begin and end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from pusher.config.window import Window
from pusher.errors import InvalidOption


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clocks go forward at 2024-03-31 02:00, to 03:00, and back at 2024-10-27 03:00, to 02:00."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0/2,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def utc(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}Z")


def hours(window: str, start: str, end: str) -> list[tuple[str, str]]:
    """When the window opens and closes between two times in UTC, to the minute."""
    parsed, found, opened = Window.parse(window), [], ""
    minute, last = int(utc(start).timestamp()) // 60, int(utc(end).timestamp()) // 60
    for number in range(minute, last + 1):
        now = datetime.fromtimestamp(number * 60, UTC)
        if parsed.is_open(now) and not opened:
            opened = f"{now:%d %H:%M}"
        elif opened and not parsed.is_open(now):
            found.append((opened, f"{now:%d %H:%M}"))
            opened = ""
    return found


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("22:00-06:00", "22:00-06:00"),
        ("22:00 - 6:00", "22:00-06:00"),
        ("mon-fri 22:00-06:00, sat-sun", "Mon-Fri 22:00-06:00,Sat-Sun"),
        ("Sat", "Sat"),
        ("00:00-24:00", "00:00-24:00"),
    ],
)
def test_it_is_stored_in_one_form(text: str, canonical: str) -> None:
    assert str(Window.parse(text)) == canonical
    assert Window.parse(canonical) == Window.parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "cannot be read"),
        ("22:00", "cannot be read"),
        ("22-06", "cannot be read"),
        ("Mon-Fri 9:00-26:00", "26:00', which ends at 26:00, and the times of a day are 00:00 to 24:00"),
        ("24:00-06:00", "which begins at 24:00"),
        ("06:00-06:00", "ends when it begins"),
        ("Mon-Abc", "names the day 'Abc'"),
        ("22:00-06:00=2M", "cannot be read"),
        ("22:00-06:00,,Sat", "which has the entry '': it cannot be read"),
        ("{}", "cannot be read"),
        ("Sat," * 100, "more than 256 characters"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, why: str) -> None:
    with pytest.raises(InvalidOption, match=why) as error:
        Window.parse(text)
    assert error.value.message.startswith("--window is '")
    assert "22:00-06:00" in error.value.hint


def test_over_midnight_and_on_some_days() -> None:
    # 2024-01-05 was a Friday
    assert hours("22:00-06:00", "2024-01-05T00:00", "2024-01-06T12:00") == [
        ("05 00:00", "05 06:00"),
        ("05 22:00", "06 06:00"),
    ]
    assert hours("Fri 22:00-06:00", "2024-01-05T00:00", "2024-01-12T12:00") == [("05 22:00", "06 06:00")]
    assert hours("Sat-Mon", "2024-01-05T00:00", "2024-01-10T00:00") == [("06 00:00", "09 00:00")]
    assert hours("06:00-07:00,06:30-08:00", "2024-01-05T00:00", "2024-01-05T12:00") == [
        ("05 06:00", "05 08:00")
    ]


def test_when_it_opens_next() -> None:
    window = Window.parse("Fri 22:00-06:00")
    assert window.opens_at(utc("2024-01-05T12:00")) == utc("2024-01-05T22:00")
    assert window.opens_at(utc("2024-01-05T23:15")) == utc("2024-01-05T23:15"), "it is open"
    assert window.opens_at(utc("2024-01-06T06:00")) == utc("2024-01-12T22:00")


@pytest.mark.usefixtures("berlin")
def test_an_hour_that_the_clock_skips() -> None:
    around = ("2024-03-30T20:00", "2024-03-31T20:00")
    assert hours("22:00-02:30", *around) == [("30 21:00", "31 01:00")], "it ends when the clock jumps over it"
    assert hours("02:30-05:00", *around) == [("31 01:00", "31 03:00")], "and begins then"
    assert hours("02:15-02:45", *around) == [], "there is no such time that day"
    assert Window.parse("02:30-05:00").opens_at(utc("2024-03-30T20:00")) == utc("2024-03-31T01:00")
    assert Window.parse("02:00-03:00").opens_at(utc("2024-03-30T20:00")) == utc("2024-04-01T00:00")
    assert Window.parse("Sun 02:15-02:45").opens_at(utc("2024-03-25T20:00")) == utc("2024-04-07T00:15")


@pytest.mark.usefixtures("berlin")
def test_an_hour_that_comes_twice_counts_once() -> None:
    around = ("2024-10-26T18:00", "2024-10-27T18:00")
    assert hours("22:00-02:30", *around) == [("26 20:00", "27 00:30")]
    assert hours("02:30-05:00", *around) == [("27 00:30", "27 04:00")]
    assert hours("22:00-06:00", *around) == [("26 20:00", "27 05:00")], "an hour longer"
