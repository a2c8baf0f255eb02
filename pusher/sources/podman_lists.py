"""Podman's manifest lists: names for several images, whose manifests Podman makes when it pushes them."""

from __future__ import annotations

from typing import Any

from pusher.errors import ImageUnsupported, PusherError
from pusher.sources.engine_cli import PODMAN, Daemon, ask
from pusher.sources.names import is_image_id, normalized
from pusher.text import suggest


def check_single(name: str, described: dict[str, Any] | None, daemon: Daemon | None) -> None:
    """Raise ImageUnsupported if ``name`` is a manifest list. ``described``: what inspect says of it, which is
    an image of the list for this machine, under its own names; None where the list has none."""
    if described is not None and _is_named(described, name):
        return
    try:
        ask(PODMAN, "manifest", "exists", name, daemon=daemon)
    except PusherError:  # no list, or a Podman that cannot tell
        return
    raise list_refusal(name)


def list_refusal(name: str) -> ImageUnsupported:
    """The error for a manifest list, with the way that pushes all of it."""
    there = suggest("podman manifest push --all {} oci:list:1", name)
    return ImageUnsupported(
        f"{name} is a manifest list of Podman, whose images are not read one by one",
        hint=f"have Podman write it into a folder, and push that: {there}; "
        "pusher push oci:list:1 --to REFERENCE",
    )


def _is_named(described: dict[str, Any], name: str) -> bool:
    if is_image_id(name) and str(described.get("Id")).startswith(name.removeprefix("sha256:")):
        return True
    names = [*(described.get("RepoTags") or ()), *(described.get("RepoDigests") or ())]
    return normalized(name) in {normalized(str(own)) for own in names}
