"""Parse ``docker://REFERENCE`` as typed."""

from __future__ import annotations

from typing import Final

from pusher.reference import Reference

PREFIX: Final = "docker://"


def read_reference(image: str) -> Reference:
    """Return the reference after the prefix. Raises ReferenceMalformed."""
    return Reference.parse(image.removeprefix(PREFIX))


def own_name(reference: Reference) -> str | None:
    """Return the reference without its digest; None if it has no tag."""
    return f"{reference.name}:{reference.tag}" if reference.tag else None
