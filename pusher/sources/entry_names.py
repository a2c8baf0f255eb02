"""Identify the entries of a `save` stream by their paths while reading it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from pusher.sources.base import ExportPiece
from pusher.sources.tar import reader

_NAMED: Final = re.compile(r"(?:\./)?(?:blobs/sha256/([0-9a-f]{64})|([0-9a-f]{64})\.(?:json|tar))")
"""A blob of a layout; a config, or a layer as Podman names it."""
_UNNAMED: Final = re.compile(r"(?:\./)?[^/]+/layer\.tar")
"""A layer before Docker 25: the folder is an ID that says nothing about the bytes."""


def pieces(
    source: reader.Input, missing: set[str], diff_ids: Collection[str], skip_sizes: Collection[int]
) -> Iterator[ExportPiece]:
    """Yield the wanted pieces of a stream, in its order.

    ``missing``: the wanted digests; those found by name are removed, and once it is empty reading stops.
    ``diff_ids``: which of them are uncompressed layers.
    """
    for entry in reader.walk(source):
        if not missing:
            return
        if not entry.is_file:
            continue
        digest = digest_in(entry.name)
        if digest in missing:
            missing.discard(digest)
            yield ExportPiece(
                "layer" if digest in diff_ids else "blob",
                digest,
                entry.size,
                reader.passing(source, entry),
            )
        elif (
            _UNNAMED.fullmatch(entry.name)
            and entry.size not in skip_sizes
            and not missing.isdisjoint(diff_ids)
        ):
            yield ExportPiece("layer", None, entry.size, reader.passing(source, entry))


def digest_in(name: str) -> str | None:
    """Return the digest in the entry's path, None if there is none."""
    match = _NAMED.fullmatch(name)
    return f"sha256:{match[1] or match[2]}" if match else None
