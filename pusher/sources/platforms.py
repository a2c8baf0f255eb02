"""Check whether the platform of a single image is the requested one."""

from __future__ import annotations

from pusher.errors import ImageNotFound
from pusher.oci.bounded_json import load_json
from pusher.oci.platform import Platform
from pusher.sources.base import Choice


def platform_of(config: bytes) -> Platform | None:
    """Return the platform that an image config names."""
    try:
        return Platform.of_json(load_json(config))
    except ValueError:
        return None


def check_platform(own: Platform | None, choice: Choice, where: str) -> None:
    """Raise ImageNotFound if an image is for another platform than those wanted; one without is accepted."""
    if choice.platforms and own is not None and not choice.wants(own):
        raise ImageNotFound(f"{where} has no image for {choice.platforms[0]}", hint=f"its image is for {own}")
