"""Select jobs by state and by what their names contain."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from pusher.store.records import JobState

_DESTINATION: Final = "host || '/' || repository || coalesce(':' || tag, '')"
_MOST_DIGITS: Final = 19
"""An integer with fewer digits fits into a column."""


@dataclass(frozen=True)
class JobFilter:
    """``states``: empty for all. ``text``: part of the image or the destination, or the id, in any case."""

    states: Collection[JobState] = ()
    text: str = ""

    def condition(self) -> str:
        """Return the condition for queries of jobs."""
        found = ["1 = 1"]
        if self.states:
            found.append("state IN :states")
        if self.text:
            parts = [f"lower({column}) LIKE lower(:part) ESCAPE '~'" for column in ("image", _DESTINATION)]
            if self._number is not None:
                parts.append("id = :number")
            found.append(f"({' OR '.join(parts)})")
        return f"({' AND '.join(found)})"

    def values(self) -> dict[str, Any]:
        """Return the values for the condition."""
        part = self.text
        for special in "~%_":
            part = part.replace(special, f"~{special}")
        return {"states": self.states, "part": f"%{part}%", "number": self._number}

    @property
    def _number(self) -> int | None:
        number = self.text.removeprefix("#")
        fits = number.isascii() and number.isdigit() and len(number) < _MOST_DIGITS
        return int(number) if fits else None
