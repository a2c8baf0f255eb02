"""List what a pushed manifest requires in its repository, and its entry in the referrers API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pusher.dataclass import dataclass
from pusher.oci.bounded_json import load_json
from pusher.oci.digest import of_bytes
from pusher.oci.manifest import Descriptor, parse_descriptor
from pusher.oci.media_types import OCI_INDEX, OCI_MANIFEST, check_media_type, is_nondistributable
from pusher.serve.errors import ApiError
from pusher.text import quoted

LARGEST: Final = 4 << 20
"""Bytes of a manifest, the least that the specification wants to be possible."""


@dataclass(frozen=True)
class PushedManifest:
    """The exact bytes of a manifest and its parsed fields."""

    raw: bytes
    digest: str
    media_type: str
    blobs: tuple[str, ...]
    """Digests of the blobs that it is made of, without those that are fetched from elsewhere."""
    children: tuple[str, ...]
    """Digests of what an index lists: manifests, and in build caches blobs."""
    subject: str | None
    descriptor: dict[str, object]
    """As the referrers API lists it."""


def read_manifest(raw: bytes, content_type: str | None, digest: str | None) -> PushedManifest:
    """Read a manifest that was pushed under ``digest``, or under a tag (None).

    Raises ApiError: MANIFEST_INVALID, or DIGEST_INVALID if its bytes have another digest.
    """
    found = of_bytes(raw, digest)
    if digest is not None and found != digest:
        raise ApiError(400, "DIGEST_INVALID", f"the manifest was sent as {digest}, its bytes have {found}")
    try:
        data = load_json(raw)
        if not isinstance(data, dict):
            raise ValueError("it is not an object")
        if data.get("schemaVersion") == 1:
            raise ValueError("it is of schema version 1, which registries no longer take")
        media_type = _media_type(data, content_type)
        blobs = tuple(
            blob.digest for blob in _blobs(data) if not (is_nondistributable(blob.media_type) or blob.urls)
        )
        children = tuple(parse_descriptor(child).digest for child in _read_list(data, "manifests"))
        subject = None if data.get("subject") is None else parse_descriptor(data["subject"]).digest
    except ValueError as error:
        raise ApiError(400, "MANIFEST_INVALID", f"the manifest cannot be read: {error}") from error
    return PushedManifest(
        raw, found, media_type, blobs, children, subject, _build_descriptor(raw, found, media_type, data)
    )


def _media_type(data: dict[str, Any], content_type: str | None) -> str:
    sent = (content_type or "").partition(";")[0].strip()
    written = data.get("mediaType")
    if written is not None and not isinstance(written, str):
        raise ValueError("its mediaType is not a string")
    if sent and written and sent != written:
        raise ValueError(f"it was sent as {quoted(sent)}, its mediaType is {quoted(written)}")
    return check_media_type(sent or written, "manifest", OCI_INDEX if "manifests" in data else OCI_MANIFEST)


def _blobs(data: dict[str, Any]) -> Iterator[Descriptor]:
    if data.get("config") is not None:
        yield parse_descriptor(data["config"])
    for key in ("layers", "blobs"):
        yield from map(parse_descriptor, _read_list(data, key))


def _read_list(data: dict[str, Any], key: str) -> list[Any]:
    listed = data.get(key)  # Go writes an empty list as null
    if not isinstance(listed, list | None):
        raise ValueError(f"its {key} are not a list")
    return listed or []


def _build_descriptor(raw: bytes, digest: str, media_type: str, data: dict[str, Any]) -> dict[str, object]:
    """Return the descriptor with artifact type and annotations (distribution-spec, "Listing Referrers")."""
    described: dict[str, object] = {"mediaType": media_type, "digest": digest, "size": len(raw)}
    config = data.get("config")
    artifact_type = data.get("artifactType") or (
        config.get("mediaType") if isinstance(config, dict) else None
    )
    if isinstance(artifact_type, str):
        described["artifactType"] = artifact_type
    if isinstance(data.get("annotations"), dict):
        described["annotations"] = data["annotations"]
    return described
