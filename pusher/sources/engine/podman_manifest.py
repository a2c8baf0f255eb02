"""Read Podman's manifest lists, as `podman manifest` shows them: one name for several images."""

from __future__ import annotations

from typing import Any

from pusher.errors import ImageUnsupported, PusherError
from pusher.oci.index import parse_index
from pusher.sources.engine.command import PODMAN, Daemon, run_command
from pusher.sources.image_names import is_image_id, normalize_name
from pusher.text import suggest


def is_manifest_list(name: str, described: dict[str, Any] | None, daemon: Daemon | None) -> bool:
    """Return whether ``name`` is a manifest list.

    ``described``: what inspect prints, which is the list's image for this machine, under its own names; None
    if the list has none.
    """
    if described is not None and _is_named(described, name):
        return False
    try:
        run_command(PODMAN, "manifest", "exists", name, daemon=daemon)
    except PusherError:  # not a list, or a Podman without the command
        return False
    return True


def listed_digests(name: str, daemon: Daemon | None) -> list[str]:
    """Return the digests of the manifests in a list, in their order. Raises Engine*, ValueError."""
    answer = run_command(PODMAN, "manifest", "inspect", name, daemon=daemon)
    return [child.digest for child in parse_index(answer.encode()).children]


def list_error(name: str, why: str) -> ImageUnsupported:
    """Return the error for a manifest list that cannot be read, with commands that push all of it."""
    return ImageUnsupported(
        f"{name} is a manifest list of Podman, {why}",
        hint=f"have Podman write it into a folder, and push that: {podman_push_commands(name)}",
    )


def podman_push_commands(name: str) -> str:
    """Return the commands that push all of a list, with what Podman fetches for it."""
    there = suggest("podman manifest push --all {} oci:list:1", name)
    return f"{there}; pusher push oci:list:1 --to REFERENCE"


def _is_named(described: dict[str, Any], name: str) -> bool:
    if is_image_id(name) and str(described.get("Id")).startswith(name.removeprefix("sha256:")):
        return True
    names = [*(described.get("RepoTags") or ()), *(described.get("RepoDigests") or ())]
    return normalize_name(name) in {normalize_name(str(own)) for own in names}
