"""What a 413 means: a limit on bodies, which smaller chunks keep to, or something that they do not mend."""

from __future__ import annotations

from typing import Final

from pusher.errors import RegistryFault
from pusher.registry.answers import refusal
from pusher.registry.transport import Answer

LEAST: Final = 1024 * 1024
"""Bytes of a body up to which its size is not what is wrong: nginx lets so many through as it comes."""


def demand_smaller(answer: Answer, length: int, *, doing: str) -> None:
    """Return if smaller bodies may get through where one of ``length`` bytes was answered with 413.

    Else raises RegistryFault: a body of a few bytes is not too large for anything, and teaches nothing.
    """
    if length <= LEAST:
        raise RegistryFault(
            f"{refusal(answer, doing=doing).message}: a body of {length} bytes is refused as too large",
            hint="look at the registry's quota, and at the body limit of the proxy in front of it; "
            "pusher waits and tries again",
        )
