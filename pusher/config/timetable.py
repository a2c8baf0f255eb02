"""How much may be sent at which time of the day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Timetable:
    """Rates by the local time of the day."""

    always: int | None

    def rate_at(self, now: datetime) -> int | None:  # noqa: ARG002
        """Bytes a second at ``now``, a local time; None: no limit."""
        return self.always
