"""Define the value of a response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Final

from pusher.dataclass import dataclass

_LONGEST_SIZE: Final = 18
"""Digits."""


@dataclass(frozen=True)
class Answer:
    """A response. ``url`` is that of the last request, after redirects."""

    method: str
    url: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def ok(self) -> bool:
        """Return whether the status is 2xx."""
        return 200 <= self.status < 300


def size_in(headers: Mapping[str, str], name: str) -> int | None:
    """Return the bytes that a header states; None without one, or for what is not a size."""
    value = headers.get(name, "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) <= _LONGEST_SIZE else None
