"""What a registry tells of an image that is at a tag already, whichever tool pushed it there.

``docker push`` compresses otherwise than we do, so its blobs have digests that we would never come to. Its
manifest and config together say which blob stands for which layer: what the registry has under any name need
not be exported, compressed or sent.
"""

from __future__ import annotations

from dataclasses import dataclass

from pusher.errors import PusherError
from pusher.oci.manifest import Descriptor, Manifest, diff_ids_of, parse_manifest
from pusher.registry.client import RegistryClient


@dataclass(frozen=True)
class PushedImage:
    """The image at a tag: its manifest, and the blob of each layer by diff ID."""

    manifest: Manifest
    blobs: dict[str, Descriptor]


def look_at(client: RegistryClient, repository: str, tag: str) -> PushedImage | None:
    """The single image at ``tag``; None if there is none, or it cannot be seen or understood."""
    try:
        raw = client.manifest_at(repository, tag)
        manifest = parse_manifest(raw) if raw is not None else None
        config = client.small_blob(repository, manifest.config.digest) if manifest else None
        if manifest is None or config is None:
            return None
        return PushedImage(manifest, dict(zip(diff_ids_of(config), manifest.layers, strict=True)))
    except (PusherError, ValueError):
        return None  # it is only a short cut; whatever is wrong shows where it matters
