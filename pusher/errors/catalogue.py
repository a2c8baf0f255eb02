"""The catalogue of errors, made from the classes: for ``pusher errors``, the documentation and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pusher.dataclass import dataclass
from pusher.errors.base import ExitCode, PusherError, Retry

AGAIN: Final = {
    Retry.NEVER: "no",
    Retry.BACKOFF: "yes, after a pause",
    Retry.OFFLINE: "yes, once it can be reached",
    Retry.LATER: "yes, once that is done",
}
"""Whether trying again can help, in words."""


@dataclass(frozen=True)
class CatalogueEntry:
    """One kind of error. ``meaning`` is a sentence with its full stop, ``advice`` what a hint is."""

    code: str
    meaning: str
    advice: str
    exit_code: ExitCode
    retry: Retry

    def as_json(self) -> dict[str, object]:
        """Return it for programs."""
        return {
            "code": self.code,
            "meaning": self.meaning,
            "advice": self.advice,
            "exit_code": int(self.exit_code),
            "retry": self.retry.value,
        }


def catalogue() -> dict[str, CatalogueEntry]:
    """Return every error by its code, ordered by exit code, then by name."""
    entries = sorted(map(_entry, _classes(PusherError)), key=lambda entry: (entry.exit_code, entry.code))
    return {entry.code: entry for entry in entries}


def unfixable_codes() -> frozenset[str]:
    """Return the codes of the errors after which the same job always fails again."""
    return frozenset(cls.code for cls in _classes(PusherError) if not cls.fixable)


def error_as_json(code: str, message: str, hint: str) -> dict[str, object]:
    """Return an error as commands print it for programs; ``code`` as in the catalogue."""
    entry = catalogue().get(code) or _entry(PusherError)  # a newer pusher may have stored it
    return {
        "code": code,
        "message": message,
        "hint": hint,
        "exit_code": int(entry.exit_code),
        "retry": entry.retry.value,
    }


def markdown() -> str:
    """Return the catalogue as a table for the documentation."""
    rows = [
        "| code | what it means | what to do | exit code | does trying again help? |",
        "|---|---|---|--:|---|",
    ]
    for entry in catalogue().values():
        cells = (
            f"`{entry.code}`",
            entry.meaning,
            entry.advice,
            str(int(entry.exit_code)),
            AGAIN[entry.retry],
        )
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def _classes(base: type[PusherError]) -> Iterator[type[PusherError]]:
    if "code" in vars(base):
        yield base
    for cls in base.__subclasses__():
        yield from _classes(cls)


def _entry(cls: type[PusherError]) -> CatalogueEntry:
    sentence = " ".join((cls.__doc__ or "").split()).partition(". ")[0]
    return CatalogueEntry(cls.code, sentence.rstrip(".") + ".", cls.advice, cls.exit_code, cls.retry)
