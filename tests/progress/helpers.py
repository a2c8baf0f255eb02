"""A clock that only moves when told to, and digests that are easy to tell apart."""

from __future__ import annotations


class Clock:
    """Seconds; call it to read it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def digest(letter: str) -> str:
    """A sha256 digest whose short form is the letter twelve times."""
    return "sha256:" + letter * 64


MIB = 1024 * 1024
