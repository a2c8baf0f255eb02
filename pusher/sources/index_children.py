"""List the children of an index (image-spec ``image-index.md``), even if it is invalid otherwise."""

from __future__ import annotations

from pusher.oci.bounded_json import load_json
from pusher.oci.digest import is_digest


def child_digests(index: bytes) -> list[str]:
    """Return the digests that an index lists, in its order; none if it is not an index."""
    try:
        children = load_json(index)["manifests"]
        found = [child["digest"] for child in children]
    except (ValueError, KeyError, TypeError):
        return []
    return [digest for digest in found if isinstance(digest, str) and is_digest(digest)]
