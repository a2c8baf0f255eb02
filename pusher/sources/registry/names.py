"""``docker://REFERENCE`` as it is typed."""

from __future__ import annotations

from typing import Final

from pusher.reference import Reference

PREFIX: Final = "docker://"


def read_reference(image: str) -> Reference:
    """Return what stands behind the prefix. Raises ReferenceMalformed."""
    return Reference.parse(image.removeprefix(PREFIX))


def own_name(reference: Reference) -> str | None:
    """Return the reference without its digest; None if only the digest tells the image."""
    return f"{reference.name}:{reference.tag}" if reference.tag else None
