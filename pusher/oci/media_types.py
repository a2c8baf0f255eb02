"""Define media types of manifests, configs and layers (image-spec ``media-types.md``, Docker schema 2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pusher.text import quoted

DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_FOREIGN_LAYER: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA_1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"

TO_OCI: Final[Mapping[str, str]] = {
    DOCKER_LAYER_GZIP: OCI_LAYER_GZIP,
    DOCKER_LAYER: OCI_LAYER,
    OCI_LAYER_GZIP: OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD: OCI_LAYER_ZSTD,
    OCI_LAYER: OCI_LAYER,
}
"""Layers that images are made of, by every name."""

MANIFESTS: Final = frozenset({DOCKER_MANIFEST, OCI_MANIFEST})
CONFIGS: Final = frozenset({DOCKER_CONFIG, OCI_CONFIG})
INDEXES: Final = frozenset({DOCKER_LIST, OCI_INDEX})

_NONDISTRIBUTABLE: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar"

GZIP_MAGIC: Final = b"\x1f\x8b"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"

_IN_A_HEADER: Final = re.compile(r"[!-~](?:[ -~]{,253}[!-~])?")


def check_media_type(media_type: object, what: str, otherwise: str) -> str:
    """Return the media type of ``what`` if it can be sent in a header. Raises ValueError.

    If it is missing or null, which Go reads as missing, return ``otherwise``.
    """
    if media_type is None:
        return otherwise
    if not isinstance(media_type, str):
        raise ValueError(f"the {what}'s mediaType is not a string")
    if not _IN_A_HEADER.fullmatch(media_type):
        raise ValueError(f"the {what}'s mediaType {quoted(media_type, 80)} cannot be sent to a registry")
    return media_type


def is_nondistributable(media_type: str) -> bool:
    """Return whether a layer is foreign: to be fetched from its ``urls`` (image-spec ``layer.md``)."""
    return media_type == DOCKER_FOREIGN_LAYER or media_type.startswith(_NONDISTRIBUTABLE)


def of_layer(head: bytes) -> str | None:
    """Return the media type of a compressed layer that begins with ``head``; None if registries refuse it."""
    types = {GZIP_MAGIC: DOCKER_LAYER_GZIP, ZSTD_MAGIC: OCI_LAYER_ZSTD}
    return next((media_type for magic, media_type in types.items() if head.startswith(magic)), None)
