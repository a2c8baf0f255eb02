"""Finding a manifest through indexes (image-spec ``image-index.md``) whose children may be missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from pusher.errors import LayerMismatch
from pusher.oci import media_types
from pusher.oci.digest import is_digest, of_bytes
from pusher.oci.foreign import load_json
from pusher.oci.manifest import Manifest, parse_manifest

_MAX_DEPTH: Final = 8


def child_digests(index: bytes) -> list[str]:
    """The digests that an index lists, in its order; none if it is no index."""
    try:
        children = load_json(index)["manifests"]
        found = [child["digest"] for child in children]
    except (ValueError, KeyError, TypeError):
        return []
    return [digest for digest in found if isinstance(digest, str) and is_digest(digest)]


def find_manifest(
    roots: Iterable[str],
    read: Callable[[str], bytes | None],
    accept: Callable[[Manifest], bool],
    *,
    where: str,
    depth: int = 0,
    seen: set[str] | None = None,
) -> Manifest | None:
    """The first manifest below ``roots`` that ``accept`` takes; ``read`` gives a blob, None if it is missing.

    Raises LayerMismatch if a blob does not have its digest; ``where`` is named in it.
    """
    seen = set() if seen is None else seen  # indexes that list each other's children must not multiply
    if depth > _MAX_DEPTH:
        return None
    for digest in roots:
        if digest in seen:
            continue
        seen.add(digest)
        raw = read(digest)
        if raw is None:
            continue
        if of_bytes(raw) != digest:
            raise LayerMismatch(
                f"the manifest {digest} in {where} is damaged: its bytes have {of_bytes(raw)}",
                hint="save the image again",
            )
        children = child_digests(raw)
        found = (
            find_manifest(children, read, accept, where=where, depth=depth + 1, seen=seen)
            if children
            else _accepted(raw, accept)
        )
        if found is not None:
            return found
    return None


def _accepted(raw: bytes, accept: Callable[[Manifest], bool]) -> Manifest | None:
    try:
        manifest = parse_manifest(raw)
    except ValueError:
        return None
    return manifest if manifest.media_type in media_types.MANIFESTS and accept(manifest) else None
