"""Parse and build descriptors and single-image manifests (image-spec ``manifest.md``, Docker schema 2)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import field, replace
from typing import Any, Final

from pusher.dataclass import dataclass
from pusher.oci import media_types
from pusher.oci.bounded_json import load_json
from pusher.oci.digest import check_digest, is_sha256, of_bytes
from pusher.text import printable

_LONGEST_MEDIA_TYPE: Final = 255
LARGEST_SIZE: Final = 2**63 - 1
"""Bytes of a blob: what registries, and the job store, can count."""


@dataclass(frozen=True)
class Descriptor:
    """A blob in a manifest: its media type, digest and size in bytes."""

    media_type: str
    digest: str
    size: int
    urls: tuple[str, ...] = ()
    """Where a foreign layer is fetched from."""

    def to_json(self) -> dict[str, object]:
        """Return the descriptor in a manifest's field order."""
        return {"mediaType": self.media_type, "size": self.size, "digest": self.digest}


@dataclass(frozen=True)
class Manifest:
    """The exact bytes of a manifest, and their content.

    The bytes are pushed and hashed; they are never serialised again.
    """

    raw: bytes
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    called: str | None = field(default=None, compare=False)
    """The digest in an index that lists it, whose algorithm counts then."""

    @property
    def digest(self) -> str:
        """Return the digest of the exact bytes."""
        return of_bytes(self.raw, self.called)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Return config and layers."""
        return (self.config, *self.layers)


def parse_manifest(raw: bytes, called: str | None = None) -> Manifest:
    """Parse a single-image manifest. Raises ValueError with a plain reason if it is invalid."""
    data = load_json(raw)
    if isinstance(data, dict) and data.get("schemaVersion") == 1:
        raise ValueError("the manifest is of schema version 1, which registries no longer take")
    if not isinstance(data, dict) or data.get("schemaVersion") != 2:
        raise ValueError("the manifest is not of schema version 2")
    layers = data.get("layers", 0)
    if "config" not in data or not isinstance(layers, list | None):
        raise ValueError("the manifest has no config and layers")
    return Manifest(
        raw=raw,
        media_type=media_types.check_media_type(data.get("mediaType"), "manifest", media_types.OCI_MANIFEST),
        config=parse_descriptor(data["config"]),
        called=called,
        layers=tuple(parse_descriptor(layer) for layer in layers or ()),  # Go writes no layers as null
    )


def parse_descriptor(data: Any) -> Descriptor:
    """Parse a descriptor. Raises ValueError with a plain reason for a missing or wrong field."""
    if not isinstance(data, dict):
        raise ValueError("a descriptor is not an object")
    size, media_type = data.get("size"), data.get("mediaType")
    digest = check_digest(data.get("digest"), "a descriptor")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= LARGEST_SIZE:
        raise ValueError(f"the descriptor of {digest} has no size")
    if not isinstance(media_type, str):
        raise ValueError(f"the descriptor of {digest} has no mediaType")
    urls = data.get("urls") or ()
    if not isinstance(urls, list | tuple) or not all(isinstance(url, str) for url in urls):
        raise ValueError(f"the urls of {digest} are not a list of strings")
    # it is stored and shown, and only sent as a part of the document's own bytes
    return Descriptor(printable(media_type, _LONGEST_MEDIA_TYPE), digest, size, tuple(urls))


def build_manifest(config: Descriptor, layers: Sequence[Descriptor]) -> Manifest:
    """Build the manifest of an image whose source has none: Docker schema 2, or OCI if a layer is not gzip.

    Docker's schema has no zstd, and few tools read uncompressed layers in it. The config's bytes are the same
    in both.

    ``mediaType`` is always there: serverless-registry refuses a manifest without it
    (https://github.com/cloudflare/serverless-registry/pull/158).
    """
    types = [media_types.TO_OCI.get(layer.media_type, layer.media_type) for layer in layers]
    if set(types) <= {media_types.OCI_LAYER_GZIP}:
        media_type, config_type = media_types.DOCKER_MANIFEST, media_types.DOCKER_CONFIG
        types = [media_types.DOCKER_LAYER_GZIP for _ in layers]
    else:
        media_type, config_type = media_types.OCI_MANIFEST, media_types.OCI_CONFIG
    config = replace(config, media_type=config_type)
    layers = [replace(layer, media_type=named) for layer, named in zip(layers, types, strict=True)]
    body = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    raw = json.dumps(body, separators=(",", ":")).encode()
    return Manifest(raw, media_type, config, tuple(layers))


def diff_ids_of(config: bytes) -> tuple[str, ...]:
    """Return the diff IDs in an image config. Raises ValueError with a plain reason for any other document.

    An image without layers has none: Docker leaves them out, others write null.
    """
    try:
        rootfs = load_json(config)["rootfs"]
        diff_ids = rootfs.get("diff_ids") if rootfs.get("type") == "layers" else rootfs["diff_ids"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("the image config has no rootfs.diff_ids") from error
    if diff_ids is None:
        return ()
    if not isinstance(diff_ids, list) or not all(isinstance(d, str) and is_sha256(d) for d in diff_ids):
        raise ValueError("the image config's rootfs.diff_ids are not sha256 digests")
    return tuple(diff_ids)
