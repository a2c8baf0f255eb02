"""Identify the entries of a `save` stream by their paths while reading it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from pusher.sources.base import ExportPiece
from pusher.sources.legacy_folders import LegacyFolders
from pusher.sources.tar import reader

_NAMED: Final = re.compile(r"(?:\./)?(?:blobs/sha256/([0-9a-f]{64})|([0-9a-f]{64})\.(?:json|tar))")
"""A blob of a layout; a config, or a layer as Podman names it."""
_LEGACY: Final = re.compile(r"(?:\./)?([^/]+)/(json|layer\.tar)")
"""A layer before Docker 25, and what describes it: the folder is an ID that says nothing about the bytes."""
_LARGEST_DESCRIPTION: Final = 1 << 20


def pieces(
    source: reader.Input, missing: set[str], diff_ids: Sequence[str], skip_sizes: Collection[int]
) -> Iterator[ExportPiece]:
    """Yield the wanted pieces of a stream, in its order.

    ``missing``: the wanted digests; those found by name are removed, and once it is empty reading stops.
    ``diff_ids``: those of the image's uncompressed layers, lowest first.
    """
    folders = LegacyFolders(diff_ids)
    for entry in reader.walk(source):
        if not missing:
            return
        if not entry.is_file:
            continue
        digest, legacy = digest_in(entry.name), _LEGACY.fullmatch(entry.name)
        if legacy and legacy[2] == "json":
            if entry.size <= _LARGEST_DESCRIPTION:
                folders.read_description(legacy[1], reader.passing(source, entry).read())
            continue
        if legacy:
            digest = folders.diff_id_in(legacy[1])
        if digest in missing:
            missing.discard(digest)
            yield ExportPiece(
                "layer" if digest in diff_ids else "blob",
                digest,
                entry.size,
                reader.passing(source, entry),
            )
        elif legacy and digest is None and entry.size not in skip_sizes and not missing.isdisjoint(diff_ids):
            yield ExportPiece("layer", None, entry.size, reader.passing(source, entry))


def digest_in(name: str) -> str | None:
    """Return the digest in the entry's path, None if there is none."""
    match = _NAMED.fullmatch(name)
    return f"sha256:{match[1] or match[2]}" if match else None
