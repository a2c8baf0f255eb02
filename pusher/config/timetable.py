"""Parse rate limits by time of day: ``2M``, ``08:00-18:00=2M,off``, ``Sat-Sun=10M,512K``."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from pusher.config.values import parse_size
from pusher.dataclass import dataclass
from pusher.errors import InvalidOption
from pusher.text import quoted

MIN_RATE: Final = 1024
"""Bytes a second; with less, a registry would close the connection during a small chunk."""

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY: Final = 24 * 60
_WHEN: Final = (
    r"(?i)(?:(?P<first>[a-z]{3})(?:-(?P<last>[a-z]{3}))?)?"
    r"\s*(?:(?P<start>[0-9]{1,2}:[0-9]{2})\s*-\s*(?P<end>[0-9]{1,2}:[0-9]{2}))?"
)


@dataclass(frozen=True)
class TimeSpan:
    """A time span that repeats every week."""

    rate: int | None = None
    """Bytes a second; None: no limit."""
    first: int = 0
    last: int = 6
    """Weekdays on which it begins, from Monday, 0; ``last`` before ``first`` goes over Sunday."""
    start: int = 0
    end: int = _DAY
    """Minutes of the day; ``end`` before ``start`` goes over midnight."""

    def contains(self, day: int, minute: int) -> bool:
        """Return whether the span contains this minute of this weekday."""
        if self.start < self.end:
            return self.begins_on(day) and self.start <= minute < self.end
        return (self.begins_on(day) and minute >= self.start) or (
            self.begins_on((day - 1) % 7) and minute < self.end
        )

    def begins_on(self, day: int) -> bool:
        """Return whether the span begins on this weekday."""
        return (day - self.first) % 7 <= (self.last - self.first) % 7

    def __str__(self) -> str:
        return f"{self.when}={_rate(self.rate)}"

    @property
    def when(self) -> str:
        """Return the days and times, as ``parse_when`` reads them."""
        days = _DAYS[self.first] + (f"-{_DAYS[self.last]}" if self.last != self.first else "")
        times = f"{_clock(self.start)}-{_clock(self.end)}"
        parts = [days] if (self.first, self.last) != (0, 6) else []
        parts += [times] if (self.start, self.end) != (0, _DAY) or not parts else []
        return " ".join(parts)


@dataclass(frozen=True)
class Timetable:
    """Rates by the local time of day and weekday. ``str()`` of it can be parsed again."""

    rest: int | None
    """Bytes a second outside of all spans; None: no limit."""
    spans: tuple[TimeSpan, ...] = ()
    """The first one that contains a time decides."""

    def rate_at(self, now: datetime) -> int | None:
        """Return the bytes per second at ``now``, a local time; None: no limit."""
        day, minute = now.weekday(), now.hour * 60 + now.minute
        return next((span.rate for span in self.spans if span.contains(day, minute)), self.rest)

    def next_change(self, now: datetime) -> datetime | None:
        """Return the time of the next change of the rate after ``now``, a local time; None: never."""
        minutes = sorted({0} | {minute % _DAY for span in self.spans for minute in (span.start, span.end)})
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        for day in range(8):
            for minute in minutes:
                at = midnight + timedelta(days=day, minutes=minute)
                if at > now and self.rate_at(at) != self.rate_at(now):
                    return at
        return None

    def __str__(self) -> str:
        rest = [] if self.spans and self.rest is None else [_rate(self.rest)]
        return ",".join([*map(str, self.spans), *rest])


def parse_timetable(text: str, option: str) -> Timetable:
    """Read ``[DAYS] [FROM-TO]=RATE`` entries separated by commas; one without a time is for the rest.

    DAYS is ``Sat`` or ``Mon-Fri``, RATE a size per second for ``parse_size``, or ``off`` for no limit. Times
    without an entry have no limit. Raises InvalidOption, which names ``option``.
    """
    spans: list[TimeSpan] = []
    rest: list[int | None] = []
    for entry in text.split(","):
        if "=" in entry:
            spans.append(_parse_span(entry.strip(), text, option))
        else:
            rest.append(_parse_rate(entry, option))
    if len(rest) > 1:
        raise _invalid_error(text, option, "has two rates without a time")
    return Timetable(rest[0] if rest else None, tuple(spans))


def _parse_span(entry: str, text: str, option: str) -> TimeSpan:
    when, _, rate = entry.rpartition("=")
    try:
        span = parse_when(when)
    except ValueError as error:
        raise _invalid_error(text, option, in_entry(entry, text, error)) from None
    return replace(span, rate=_parse_rate(rate, option))


def parse_when(text: str) -> TimeSpan:
    """Read ``[DAYS] [FROM-TO]``, such as ``Mon-Fri 22:00-06:00``. Raises ValueError, which says what is wrong
    with the text: "ends when it begins"."""
    match = re.fullmatch(_WHEN, text.strip())
    if match is None or not (match["first"] or match["start"]):
        raise ValueError("cannot be read")
    days = [match["first"] or "Mon", match["last"] or match["first"] or "Sun"]
    if unknown := [day for day in days if day.capitalize() not in _DAYS]:
        raise ValueError(f"names the day {quoted(unknown[0])}")
    first, last = (_DAYS.index(day.capitalize()) for day in days)
    start, end = _minutes(match["start"] or "00:00"), _minutes(match["end"] or "24:00")
    if start is None or start == _DAY:
        raise ValueError(f"begins at {match['start']}, and the times of a day are 00:00 to 23:59")
    if end is None:
        raise ValueError(f"ends at {match['end']}, and the times of a day are 00:00 to 24:00")
    if start == end:
        raise ValueError("ends when it begins")
    return TimeSpan(None, first, last, start, end)


def in_entry(entry: str, text: str, error: ValueError) -> str:
    """Return what is wrong with an ``entry`` of ``text``, for "TEXT, which ..."."""
    return (
        str(error) if entry.strip() == text.strip() else f"has the entry {quoted(entry.strip())}: it {error}"
    )


def _parse_rate(text: str, option: str) -> int | None:
    if text.strip().lower() == "off":
        return None
    try:
        return parse_size(text.strip().removesuffix("/s"), option, least=MIN_RATE)
    except InvalidOption as error:
        raise InvalidOption(error.message, hint=_HINT) from None


def _minutes(clock: str) -> int | None:
    hours, minutes = map(int, clock.split(":"))
    return hours * 60 + minutes if minutes < 60 and hours * 60 + minutes <= _DAY else None


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _rate(rate: int | None) -> str:
    """Return the rate as ``parse_size`` reads it."""
    if rate is None:
        return "off"
    for base, tail in ((1024, ""), (1000, "B")):
        for power, unit in ((3, "G"), (2, "M"), (1, "K")):
            if rate % base**power == 0:
                return f"{rate // base**power}{unit}{tail}"
    return str(rate)


_HINT: Final = (
    'write a rate in bytes a second like 2M or 512K, "08:00-18:00=2M,off", or '
    '"Mon-Fri 08:00-18:00=2M,Sat-Sun=10M,off"; off is no limit'
)


def _invalid_error(text: str, option: str, why: str) -> InvalidOption:
    return InvalidOption(f"{option} is {quoted(text)}, which {why}", hint=_HINT)
