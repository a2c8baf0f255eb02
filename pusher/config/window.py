"""Parse the hours in which a job may be pushed: ``22:00-06:00``, ``Mon-Fri 22:00-06:00,Sat-Sun``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import Final, Self

from pusher.config.timetable import TimeSpan, in_entry, parse_when
from pusher.dataclass import dataclass
from pusher.errors import InvalidOption
from pusher.text import quoted

_WEEK: Final = 7
_MAX_LENGTH: Final = 256
"""Characters of a window, which each job stores."""


@dataclass(frozen=True)
class Window:
    """Time spans that repeat every week, by the local time of the machine that asks. ``str()`` of it can be
    parsed again.

    A span begins and ends when the clock first shows its times: where it skips one of them, as in spring, at
    the moment that it skips.
    """

    spans: tuple[TimeSpan, ...]

    @classmethod
    def parse(cls, text: str, option: str = "--window") -> Self:
        """Read ``[DAYS] [FROM-TO]`` entries separated by commas. Raises InvalidOption."""
        try:
            if len(text) > _MAX_LENGTH:
                raise ValueError(f"has more than {_MAX_LENGTH} characters")
            spans = []
            for entry in text.split(","):
                try:
                    spans.append(parse_when(entry))
                except ValueError as error:
                    raise ValueError(in_entry(entry, text, error)) from None
        except ValueError as error:
            raise InvalidOption(
                f"{option} is {quoted(text[:_MAX_LENGTH])}, which {error}",
                hint='write hours of the day like 22:00-06:00, or "Mon-Fri 22:00-06:00,Sat-Sun"',
            ) from None
        return cls(tuple(spans))

    def is_open(self, now: datetime) -> bool:
        """Return whether the window contains this time, an aware one."""
        return any(start <= now < end for start, end in self._intervals(now, 0))

    def opens_at(self, now: datetime) -> datetime:
        """Return the first time from ``now`` on, an aware one, at which the window is open."""
        if self.is_open(now):
            return now
        # a weekly span twice: the clock may skip it once
        return min(start for start, _ in self._intervals(now, 2 * _WEEK + 1) if start > now)

    def _intervals(self, now: datetime, days: int) -> Iterator[tuple[datetime, datetime]]:
        """Yield beginning and end of each span that begins from yesterday until ``days`` days from now."""
        today = datetime.combine(now.astimezone().date(), time())
        for number in range(-1, days + 1):
            day = today + timedelta(days=number)
            for span in self.spans:
                if span.begins_on(day.weekday()):
                    last = day + timedelta(days=1) if span.end <= span.start else day
                    start, end = _first_time(day, span.start), _first_time(last, span.end)
                    if start < end:
                        yield start, end

    def __str__(self) -> str:
        return ",".join(span.when for span in self.spans)


@cache
def read_window(text: str) -> Window:
    """Return the window of a job, as it is stored."""
    return Window.parse(text)


def _first_time(day: datetime, minutes: int) -> datetime:
    """Return the first moment at which the local clock shows this time of a day, or a later one."""
    local = day + timedelta(minutes=minutes)
    found = local.astimezone(UTC)
    if found.astimezone().replace(tzinfo=None) == local:
        return found
    before, after = sorted((found, local.replace(fold=1).astimezone(UTC)))  # between them the clock skips it
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) / 2
        if middle.astimezone().replace(tzinfo=None) < local:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)
