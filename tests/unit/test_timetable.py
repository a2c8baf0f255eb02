"""Rates by the time of the day: how they are written, what holds when."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from pusher.config.timetable import Timetable, parse_timetable
from pusher.errors import InvalidOption

MIB = 1024 * 1024
WEEK = "Mon-Fri 08:00-18:00=2M,Sat-Sun=10M,off"


def parse(text: str) -> Timetable:
    return parse_timetable(text, "--limit-rate")


def at(day: str, clock: str) -> datetime:
    """A time in the first week of 2024, which began on a Monday."""
    number = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].index(day) + 1
    return datetime.fromisoformat(f"2024-01-{number:02}T{clock}")


def times(table: Timetable) -> list[tuple[str, str, int | None]]:
    """A whole week: when the rate changes, and to what."""
    now, end = at("Mon", "00:00"), at("Mon", "00:00") + timedelta(days=7)
    found: list[tuple[str, str, int | None]] = []
    while now < end:
        found.append((f"{now:%a}", f"{now:%H:%M}", table.rate_at(now)))
        now = table.next_change(now) or end
    return found


@pytest.mark.parametrize(
    ("text", "rate"),
    [("2M", 2 * MIB), ("512K", 512 * 1024), ("1.5MB/s", 1_500_000), ("100000", 100_000), ("off", None)],
)
def test_one_rate_for_all_times(text: str, rate: int | None) -> None:
    table = parse(text)
    assert times(table) == [("Mon", "00:00", rate)]
    assert table.next_change(at("Wed", "12:00")) is None


def test_a_stretch_of_the_day() -> None:
    table = parse("08:00-18:00=2M,off")
    assert table == parse("08:00-18:00=2M")
    assert table.rate_at(at("Sun", "07:59:59")) is None
    assert table.rate_at(at("Sun", "08:00")) == 2 * MIB
    assert table.rate_at(at("Sun", "17:59:59.9")) == 2 * MIB
    assert table.rate_at(at("Sun", "18:00")) is None
    assert table.next_change(at("Sun", "08:00")) == at("Sun", "18:00")
    assert table.next_change(at("Sun", "18:00")) == at("Sun", "08:00") + timedelta(days=1)


def test_days() -> None:
    assert times(parse(WEEK)) == [
        ("Mon", "00:00", None),
        *[
            (day, clock, rate)
            for day in ("Mon", "Tue", "Wed", "Thu", "Fri")
            for clock, rate in (("08:00", 2 * MIB), ("18:00", None))
        ],
        ("Sat", "00:00", 10 * MIB),
    ]


def test_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    assert times(parse("Fri 22:00-06:00=1M,2M")) == [
        ("Mon", "00:00", 2 * MIB),
        ("Fri", "22:00", MIB),
        ("Sat", "06:00", 2 * MIB),
    ]
    assert times(parse("Sun 22:00-06:00=1M"))[:2] == [("Mon", "00:00", MIB), ("Mon", "06:00", None)]
    assert parse("22:00-06:00=1M").rate_at(at("Wed", "03:00")) == MIB


def test_days_over_sunday() -> None:
    table = parse("Sat-Mon=1M")
    assert [change[0] for change in times(table)] == ["Mon", "Tue", "Sat"]


def test_the_first_that_holds_counts() -> None:
    table = parse("12:00-13:00=off,08:00-18:00=1M,Wed=3M,2M")
    assert table.rate_at(at("Wed", "12:30")) is None
    assert table.rate_at(at("Wed", "14:00")) == MIB
    assert table.rate_at(at("Wed", "19:00")) == 3 * MIB
    assert table.rate_at(at("Thu", "19:00")) == 2 * MIB


def test_the_rate_for_the_rest_may_stand_anywhere() -> None:
    assert parse("2M,08:00-18:00=1M") == parse("08:00-18:00=1M,2M")


def test_spaces_and_capitals_are_no_matter() -> None:
    assert parse(" mon-FRI  8:00 - 18:00 = 2m , OFF ") == parse("Mon-Fri 08:00-18:00=2M,off")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2M", "2M"),
        ("2048K", "2M"),
        ("1.5M", "1536K"),
        ("2MB/s", "2MB"),
        ("123457", "123457"),
        ("off", "off"),
        ("8:00-18:00=2M,off", "08:00-18:00=2M"),
        (WEEK, "Mon-Fri 08:00-18:00=2M,Sat-Sun=10M"),
        ("00:00-24:00=5M,1M", "00:00-24:00=5M,1M"),
        ("Tue=off,2G", "Tue=off,2G"),
    ],
)
def test_it_is_written_as_it_can_be_read(text: str, written: str) -> None:
    assert str(parse(text)) == written
    assert parse(written) == parse(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("fast", "'fast', which is not a size"),
        ("", "'', which is not a size"),
        ("0", "'0', which is less than 1024 bytes"),
        ("08:00-18:00=", "'', which is not a size"),
        ("08:00-18:00=2M,", "'', which is not a size"),
        ("=2M", "is '=2M', which cannot be read"),
        ("8-18=2M", "is '8-18=2M', which cannot be read"),
        ("08:00-18:00=2M=3M", "which cannot be read"),
        ("Mox=2M", "names the day 'Mox'"),
        ("Mon-Frx 08:00-09:00=2M", "names the day 'Frx'"),
        ("1M,8-18=2M", "which has the entry '8-18=2M': it cannot be read"),
        ("08:00-24:01=2M", "which ends at 24:01, and the times of a day are 00:00 to 24:00"),
        ("08:60-09:00=2M", "which begins at 08:60, and the times of a day are 00:00 to 23:59"),
        ("24:00-08:00=2M", "which begins at 24:00"),
        ("08:00-08:00=2M", "ends when it begins"),
        ("2M,3M", "has two rates without a time"),
    ],
)
def test_nonsense_is_named_with_a_way_to_write_it(text: str, what: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        parse(text)
    assert caught.value.message.startswith("--limit-rate is ")
    assert what in caught.value.message
    assert '"08:00-18:00=2M,off"' in caught.value.hint
