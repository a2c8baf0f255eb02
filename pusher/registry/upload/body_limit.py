"""Decide what a 413 means: a limit on the size of bodies, or a fault that smaller chunks do not fix."""

from __future__ import annotations

from typing import Final

from pusher.errors import ChunkTooLarge, RegistryFault
from pusher.registry.answers import refusal
from pusher.registry.http.answer import Answer
from pusher.units import human_bytes

LEAST: Final = 1024 * 1024
"""Bytes of a body that is never too large: nginx accepts this many by default."""
_MAX_REFUSALS: Final = 6
"""Refusals in a row, with retry pauses between them, after which the fault is not temporary."""


class SizeRefusals:
    """Counts 413 responses to small bodies of one blob. A body of a few bytes is never too large, so nothing
    is learned from them."""

    def __init__(self) -> None:
        self._refused = 0
        self._offset = 0

    def check(self, answer: Answer, length: int, offset: int, *, doing: str) -> None:
        """Return if smaller bodies may be accepted after a 413 for ``length`` bytes at ``offset``.

        Otherwise raises RegistryFault, as the fault may be temporary; ChunkTooLarge after too many.
        """
        if length > LEAST:
            return
        self._refused = self._refused + 1 if offset == self._offset else 1
        self._offset = offset
        what = (
            f"{refusal(answer, doing=doing).message}: a body of {human_bytes(length)} is refused as too large"
        )
        hint = "look at the registry's quota, and at the body limit of the proxy in front of it"
        if self._refused >= _MAX_REFUSALS:
            raise ChunkTooLarge(what, hint=hint)
        raise RegistryFault(what, hint=f"{hint}; pusher waits and tries again")
