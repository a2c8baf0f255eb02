"""Select jobs by state and by what their names contain."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Any, Final

from pusher.dataclass import dataclass
from pusher.store.job_rows import labels_text
from pusher.store.records import JobState

_DESTINATION: Final = "host || '/' || repository || coalesce(':' || tag, '')"
_MAX_DIGITS: Final = 19
"""An integer with fewer digits fits into a column."""


@dataclass(frozen=True)
class JobFilter:
    """``states``, ``registries``: empty for all. ``labels``: all of them. ``text``: part of the image or the
    destination, or the id, in any case."""

    states: Collection[JobState] = ()
    text: str = ""
    registries: Collection[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def condition(self) -> str:
        """Return the condition for queries of jobs."""
        found = ["1 = 1"]
        if self.states:
            found.append("state IN :states")
        if self.registries:
            found.append("host IN :registries")
        found += [f"CAST(labels AS TEXT) LIKE :label{n} ESCAPE '~'" for n in range(len(self.labels))]
        if self.text:
            parts = [f"lower({column}) LIKE lower(:part) ESCAPE '~'" for column in ("image", _DESTINATION)]
            if self._number is not None:
                parts.append("id = :number")
            found.append(f"({' OR '.join(parts)})")
        return f"({' AND '.join(found)})"

    def values(self) -> dict[str, Any]:
        """Return the values for the condition."""
        labels = {
            f"label{n}": f"%{_escape(labels_text({key: value})[1:-1])}%"
            for n, (key, value) in enumerate(self.labels.items())
        }
        return {
            "states": self.states,
            "registries": self.registries,
            "part": f"%{_escape(self.text)}%",
            "number": self._number,
            **labels,
        }

    @property
    def _number(self) -> int | None:
        number = self.text.removeprefix("#")
        fits = number.isascii() and number.isdigit() and len(number) < _MAX_DIGITS
        return int(number) if fits else None


def _escape(text: str) -> str:
    """Return the text for LIKE, in which nothing of it has a meaning."""
    for special in "~%_":
        text = text.replace(special, f"~{special}")
    return text
