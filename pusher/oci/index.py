"""Parse indexes (image-spec ``image-index.md``, Docker's manifest list): an image's manifests by platform."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Any, Final

from pusher.dataclass import dataclass
from pusher.oci import media_types
from pusher.oci.bounded_json import load_json
from pusher.oci.digest import of_bytes
from pusher.oci.manifest import Descriptor, parse_descriptor
from pusher.oci.media_types import OCI_INDEX
from pusher.oci.platform import Platform

MAX_NESTED: Final = 8
"""Indexes below each other; those of real images are two deep."""
_ATTESTATION: Final = ("vnd.docker.reference.type", "attestation-manifest")


@dataclass(frozen=True)
class Child:
    """A manifest or index that an index lists."""

    descriptor: Descriptor
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Return the digest of the child's bytes."""
        return self.descriptor.digest

    @property
    def is_attestation(self) -> bool:
        """Return whether it is BuildKit's attestation of another child (provenance, SBOM), not an image."""
        return self.annotations.get(_ATTESTATION[0]) == _ATTESTATION[1]

    @property
    def attested(self) -> str | None:
        """Return the digest of the child that this attestation is about."""
        return self.annotations.get("vnd.docker.reference.digest") if self.is_attestation else None

    def __str__(self) -> str:
        if self.is_attestation:
            return "an attestation"
        return str(self.platform or self.digest)


@dataclass(frozen=True)
class Index:
    """The exact bytes of an index, which are pushed and hashed, and their content."""

    raw: bytes
    media_type: str
    children: tuple[Child, ...]
    called: str | None = field(default=None, compare=False)
    """The digest in an index that lists it, whose algorithm counts then."""

    @property
    def digest(self) -> str:
        """Return the digest of the exact bytes."""
        return of_bytes(self.raw, self.called)

    def without(self, digests: Collection[str]) -> Index:
        """Return the index without some of its children, which has another digest."""
        data = load_json(self.raw)
        data["manifests"] = [child for child in data["manifests"] if child["digest"] not in digests]
        return parse_index(json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode())


def parse_index(raw: bytes, called: str | None = None) -> Index:
    """Parse an index. Raises ValueError with a plain reason if it is invalid."""
    data = load_json(raw)
    if not isinstance(data, dict) or not isinstance(data.get("manifests"), list):
        raise ValueError("the index lists no manifests")
    media_type = media_types.check_media_type(data.get("mediaType"), "index", OCI_INDEX)
    return Index(raw, media_type, tuple(_child(child) for child in data["manifests"]), called)


def _child(data: Any) -> Child:
    descriptor = parse_descriptor(data)
    annotations = data.get("annotations") or {}
    return Child(
        descriptor,
        Platform.of_json(data.get("platform")),
        {str(key): str(value) for key, value in annotations.items()} if isinstance(annotations, dict) else {},
    )
