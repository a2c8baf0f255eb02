"""Define the value of a response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from pusher.dataclass import dataclass


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
