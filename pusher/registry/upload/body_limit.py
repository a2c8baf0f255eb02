"""What a 413 means: a limit on the size of bodies, or something against which smaller chunks do not help."""

from __future__ import annotations

from typing import Final

from pusher.errors import ChunkTooLarge, RegistryFault
from pusher.registry.answers import refusal
from pusher.registry.http.answer import Answer

LEAST: Final = 1024 * 1024
"""Bytes of a body up to which its size is not what is wrong: nginx lets so many through as it comes."""
_MOST: Final = 6
"""Refusals in a row, with the pauses of retries between them, after which it does not pass by itself."""


class SizeRefusals:
    """Refusals of small bodies of one blob: a body of a few bytes is not too large for anything, and its
    refusal teaches nothing."""

    def __init__(self) -> None:
        self._refused = 0
        self._offset = 0

    def check(self, answer: Answer, length: int, offset: int, *, doing: str) -> None:
        """Return if smaller bodies may get through where one of ``length`` bytes was answered with 413, sent
        where the registry held ``offset`` bytes.

        Otherwise raises RegistryFault, because it may pass; ChunkTooLarge once it was repeated too often.
        """
        if length > LEAST:
            return
        self._refused = self._refused + 1 if offset == self._offset else 1
        self._offset = offset
        what = f"{refusal(answer, doing=doing).message}: a body of {length} bytes is refused as too large"
        hint = "look at the registry's quota, and at the body limit of the proxy in front of it"
        if self._refused >= _MOST:
            raise ChunkTooLarge(what, hint=hint)
        raise RegistryFault(what, hint=f"{hint}; pusher waits and tries again")
