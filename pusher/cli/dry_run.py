"""Print what a push would do: ``--dry-run``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

import click

from pusher.cli.found_images import find_images
from pusher.cli.image_list import ImageRequest
from pusher.cli.output import print_line, print_notice
from pusher.cli.store import open_store, store_exists
from pusher.errors import ExitCode, InvalidOption
from pusher.text import as_json

if TYPE_CHECKING:
    from pusher.config import Settings
    from pusher.worker.dry_run import PlannedBlob, PlannedPush

_ACTIONS: Final = {
    "exists": "skip",
    "mount": "mount",
    "send": "send",
    "compress": "compress and send",
}
_TAGS: Final = {
    "current": "the tag names this image already",
    "same_config": "the tag names an image with the same config, perhaps with other blobs of its layers",
    "other": "the tag names another image, and would be moved",
    "new": "the tag is new",
}


def dry_run(
    settings: Settings,
    requests: Sequence[ImageRequest],
    image_arguments: dict[str, Any],
    flags: Mapping[str, Any],
    command: str,
    *,
    is_json: bool,
) -> ExitCode:
    """Print what would be done with each blob, or an object for each destination; return the exit code."""
    from pusher.sources.archive.stream import is_stream
    from pusher.worker.dry_run import plan_pushes

    if piped := next((request.image for request in requests if is_stream(request.image)), None):
        raise InvalidOption(
            f"--dry-run cannot read {piped}: the pipe could not be read again for the push",
            hint="write the archive to a file first",
        )
    found = find_images(
        None,
        settings,
        requests,
        image_arguments,
        command,
        all_tags=flags["all_tags"],
        keep_going=flags["keep_going"],
    )
    with open_store(settings) if store_exists(settings) else nullcontext() as store:
        for plan in plan_pushes([image for _, image in found.images], store, settings):
            if is_json:
                click.echo(as_json(_as_json(plan)))
            else:
                _print(plan)
    print_notice("Nothing was changed: this was a dry run.")
    return found.exit_code


def _print(plan: PlannedPush) -> None:
    from pusher.units import human_bytes

    print_line(f"{plan.image} -> {plan.destination}: {_TAGS[plan.tag]}")
    for blob in plan.blobs:
        size = "" if blob.size is None else f"  {human_bytes(blob.size)}"
        print_line(f"  {_describe(blob)}  {blob.digest or blob.key}{size}")
    compressed = sum(blob.action == "compress" for blob in plan.blobs)
    has_unsized = any(blob.action == "send" and blob.size is None for blob in plan.blobs)
    parts = [human_bytes(plan.bytes_to_send)] if plan.bytes_to_send or not (compressed or has_unsized) else []
    if has_unsized:
        parts.append("the image config")
    if compressed:
        layers = "layer" if compressed == 1 else "layers"
        most = plan.uncompressed_size
        bound = "" if most is None else f" (at most about {human_bytes(most)} before compression)"
        parts.append(f"{compressed} {layers} that must be compressed first{bound}")
    print_line(f"  to send: {', '.join(parts[:-1])}{' and ' if parts[1:] else ''}{parts[-1]}")


def _describe(blob: PlannedBlob) -> str:
    action = _ACTIONS[blob.action]
    return f"{action} from {blob.mount_from}" if blob.mount_from else action


def _as_json(plan: PlannedPush) -> dict[str, object]:
    size = plan.uncompressed_size
    return {
        "image": plan.image,
        "destination": str(plan.destination),
        "tag": plan.tag,
        "bytes_to_send": plan.bytes_to_send,
        **({} if size is None else {"uncompressed_bytes": size}),
        "blobs": [
            {
                "action": blob.action,
                "key": blob.key,
                "digest": blob.digest,
                "size": blob.size,
                "mount_from": blob.mount_from,
            }
            for blob in plan.blobs
        ],
    }
