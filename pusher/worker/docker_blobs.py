"""Find blobs that Docker on this machine pushed or pulled, and that the registry still has.

``docker push`` compresses differently, so its blobs have other digests. Which blob is which layer comes from
Docker's own records, never from the manifest at a tag: anyone who can write the tag could put any blob there
under the right config. The manifest only says which blobs to look for, and is pushed again unchanged if it
is equivalent to pusher's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from pusher.dataclass import dataclass
from pusher.errors import PusherError
from pusher.oci import media_types
from pusher.oci.manifest import Descriptor, Manifest, parse_manifest
from pusher.registry.client import RegistryClient
from pusher.sources.base import Pin
from pusher.sources.engine.command import DOCKER
from pusher.sources.engine.disk import kinds
from pusher.sources.engine.disk.data_roots import DOCKER_ROOT
from pusher.sources.engine.disk.docker_records import DockerRecords
from pusher.sources.pins import EnginePin, StoragePin

_MANIFEST_FIELDS: Final = frozenset({"schemaVersion", "mediaType", "config", "layers"})
_DESCRIPTOR_FIELDS: Final = frozenset({"mediaType", "digest", "size"})
_MAGIC: Final[Mapping[str, bytes]] = {
    media_types.OCI_LAYER_GZIP: media_types.GZIP_MAGIC,
    media_types.OCI_LAYER_ZSTD: media_types.ZSTD_MAGIC,
}


@dataclass(frozen=True)
class PushedImage:
    """The image at a tag: its manifest, and by diff ID the verified blobs of its layers."""

    manifest: Manifest
    blobs: dict[str, Descriptor]

    def has_content(self, config: Descriptor, layers: Collection[Descriptor]) -> bool:
        """Return whether the manifest has exactly the content that pusher's would have."""
        data = json.loads(self.manifest.raw)
        described = [data["config"], *data["layers"]]
        if not set(data) <= _MANIFEST_FIELDS or not all(
            set(each) <= _DESCRIPTOR_FIELDS for each in described
        ):
            return False
        if b"".join(self.manifest.raw.split()) != json.dumps(data, separators=(",", ":")).encode():
            return False  # a name occurs twice, and other tools may read the first
        theirs = [(blob.digest, blob.size, _oci(blob)) for blob in self.manifest.layers]
        return (
            self.manifest.media_type in media_types.MANIFESTS
            and self.manifest.config.media_type in media_types.CONFIGS
            and (self.manifest.config.digest, self.manifest.config.size) == (config.digest, config.size)
            and theirs == [(blob.digest, blob.size, _oci(blob)) for blob in layers]
        )


def find_pushed_image(
    client: RegistryClient,
    repository: str,
    tag: str | None,
    pin: Pin,
    diff_ids: Collection[str],
    docker_root: Path | None,
) -> PushedImage | None:
    """Return the image at the tag with its known blobs of the layers of ``pin``; None if it has none.

    ``docker_root``: Docker's data root, if it is not the usual one.
    """
    records = DockerRecords(_docker_root_of(pin) or docker_root or DOCKER_ROOT)
    known = {diff_id: found for diff_id in diff_ids if (found := records.blob_digests(diff_id))}
    if not known or not tag:
        return None
    try:
        raw = client.get_manifest(repository, tag)
        manifest = parse_manifest(raw) if raw is not None else None
        if manifest is None:
            return None
        listed = {blob.digest: blob for blob in manifest.layers}
        blobs: dict[str, Descriptor] = {}
        for diff_id, digests in known.items():
            blob = next((listed[digest] for digest in sorted(digests) if digest in listed), None)
            if blob is not None and _is_as_described(client, repository, blob):
                blobs[diff_id] = blob
    except (PusherError, ValueError):
        return None  # only a shortcut: the push itself reports the error
    return PushedImage(manifest, blobs) if blobs else None


def _is_as_described(client: RegistryClient, repository: str, blob: Descriptor) -> bool:
    """Return whether the registry has the blob with the size and compression in the manifest."""
    magic = _MAGIC.get(_oci(blob))
    if magic is None:
        return False
    answer = client.get_small(f"blobs/{blob.digest}", repository, limit=len(magic))
    return (
        answer.ok and answer.headers.get("Content-Length") == str(blob.size) and answer.body.startswith(magic)
    )


def _oci(layer: Descriptor) -> str:
    return media_types.TO_OCI.get(layer.media_type, layer.media_type)


def _docker_root_of(pin: Pin) -> Path | None:
    """Return Docker's data root if the image was found there."""
    match pin:
        case EnginePin(kind=DOCKER.kind, storage=Path() as root):
            return root
        case StoragePin(kind=kinds.DOCKER_KIND, root=root):
            return root
    return None
