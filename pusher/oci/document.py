"""Define the document at a tag or digest: a manifest, or an index of manifests."""

from __future__ import annotations

from pusher.oci.bounded_json import load_json
from pusher.oci.index import Index, parse_index
from pusher.oci.manifest import Manifest, parse_manifest

Document = Manifest | Index


def parse_document(raw: bytes, digest: str | None = None) -> Document:
    """Parse a manifest or an index, whose digest is ``digest`` if an index lists it. Raises ValueError with a
    plain reason if it is neither."""
    data = load_json(raw)
    is_index = isinstance(data, dict) and "manifests" in data and "config" not in data
    return parse_index(raw, digest) if is_index else parse_manifest(raw, digest)
