"""Select jobs by state and by what their names contain."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, func, or_, true

from pusher.store.models import JobRow
from pusher.store.records import JobState

_MOST_DIGITS = 19
"""An integer with fewer digits fits into a column."""


@dataclass(frozen=True)
class JobFilter:
    """``states``: empty for all. ``text``: part of the image or the destination, or the id, in any case."""

    states: Collection[JobState] = ()
    text: str = ""

    def condition(self) -> ColumnElement[bool]:
        """Return the condition for queries of jobs."""
        found: list[ColumnElement[bool]] = [true()]
        if self.states:
            found.append(JobRow.state.in_(sorted(self.states)))
        if self.text:
            destination = JobRow.host + "/" + JobRow.repository + func.coalesce(":" + JobRow.tag, "")
            parts = [column.icontains(self.text, autoescape=True) for column in (JobRow.image, destination)]
            number = self.text.removeprefix("#")
            if number.isascii() and number.isdigit() and len(number) < _MOST_DIGITS:
                parts.append(JobRow.id == int(number))
            found.append(or_(*parts))
        return and_(*found)
