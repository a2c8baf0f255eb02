"""Podman's manifest lists: names for several images, whose manifests Podman makes when it pushes them."""

from __future__ import annotations

from typing import Any

from pusher.errors import ImageUnsupported, PusherError
from pusher.oci.index import parse_index
from pusher.sources.engine.command import PODMAN, Daemon, ask
from pusher.sources.image_names import is_image_id, normalized
from pusher.text import suggest


def is_list(name: str, described: dict[str, Any] | None, daemon: Daemon | None) -> bool:
    """Whether ``name`` is a manifest list. ``described``: what inspect says of it, which is an image of the
    list for this machine, under its own names; None where the list has none."""
    if described is not None and _is_named(described, name):
        return False
    try:
        ask(PODMAN, "manifest", "exists", name, daemon=daemon)
    except PusherError:  # no list, or a Podman that cannot tell
        return False
    return True


def digests_listed(name: str, daemon: Daemon | None) -> list[str]:
    """The digests of the manifests in a list, in their order. Raises Engine*, ValueError."""
    answer = ask(PODMAN, "manifest", "inspect", name, daemon=daemon)
    return [child.digest for child in parse_index(answer.encode()).children]


def list_refusal(name: str, why: str) -> ImageUnsupported:
    """The error for a manifest list that cannot be read, with the way that pushes all of it."""
    return ImageUnsupported(
        f"{name} is a manifest list of Podman, {why}",
        hint=f"have Podman write it into a folder, and push that: {written_by_podman(name)}",
    )


def written_by_podman(name: str) -> str:
    """The commands that push all of a list, with what Podman fetches for it."""
    there = suggest("podman manifest push --all {} oci:list:1", name)
    return f"{there}; pusher push oci:list:1 --to REFERENCE"


def _is_named(described: dict[str, Any], name: str) -> bool:
    if is_image_id(name) and str(described.get("Id")).startswith(name.removeprefix("sha256:")):
        return True
    names = [*(described.get("RepoTags") or ()), *(described.get("RepoDigests") or ())]
    return normalized(name) in {normalized(str(own)) for own in names}
