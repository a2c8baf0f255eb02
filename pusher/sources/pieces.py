"""Recognising what an entry of a `save` stream is, by its path, while the stream passes by."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Final

from pusher.oci.manifest import Manifest, diff_ids_of
from pusher.sources import tar
from pusher.sources.base import Exported
from pusher.sources.filerange import buffered
from pusher.sources.layout import find_manifest

_NAMED: Final = re.compile(r"(?:\./)?(?:blobs/sha256/([0-9a-f]{64})|([0-9a-f]{64})\.(?:json|tar))")
"""A blob of a layout; a config, or a layer as Podman names it."""
_UNNAMED: Final = re.compile(r"(?:\./)?[^/]+/layer\.tar")
"""A layer before Docker 25: the folder is an ID that says nothing about the bytes."""

_SMALL: Final = 4 << 20
_SMALL_TOTAL: Final = 64 << 20


def pieces(
    source: tar.Input, missing: set[str], diff_ids: Collection[str], skip_sizes: Collection[int]
) -> Iterator[Exported]:
    """What is wanted of a stream, in its order.

    ``missing``: the digests wanted; those that pass under their name are taken out, and once it is empty the
    stream is left. ``diff_ids``: which of them are uncompressed layers.
    """
    for entry in tar.walk(source):
        if not missing:
            return
        if not entry.is_file:
            continue
        digest = _digest_in(entry.name)
        if digest in missing:
            missing.discard(digest)
            yield Exported(
                "layer" if digest in diff_ids else "blob",
                digest,
                entry.size,
                buffered(tar.EntryStream(source, entry)),
            )
        elif (
            _UNNAMED.fullmatch(entry.name)
            and entry.size not in skip_sizes
            and not missing.isdisjoint(diff_ids)
        ):
            yield Exported("layer", None, entry.size, buffered(tar.EntryStream(source, entry)))


def manifest_in(
    source: tar.Input, root: str, accept: Callable[[bytes], bool]
) -> tuple[Manifest, bytes] | None:
    """The manifest below ``root`` (an index, or itself) whose config ``accept`` takes, with that config.

    Reads the stream up to the last of them, and keeps small JSON blobs in memory, at most 64 MiB.
    """
    small: dict[str, bytes] = {}
    total = 0

    def takes(manifest: Manifest) -> bool:
        config = small.get(manifest.config.digest)
        try:
            return config is not None and accept(config) and len(manifest.layers) == len(diff_ids_of(config))
        except ValueError:
            return False

    for entry in tar.walk(source):
        digest = _digest_in(entry.name)
        if digest is None or not entry.is_file or entry.size > _SMALL or total + entry.size > _SMALL_TOTAL:
            continue
        data = source.read(entry.size)
        if not data.startswith(b"{"):
            continue
        small[digest] = data
        total += entry.size
        manifest = find_manifest([root], small.get, takes, where=source.name)
        if manifest is not None:
            return manifest, small[manifest.config.digest]
    return None


def _digest_in(name: str) -> str | None:
    match = _NAMED.fullmatch(name)
    return f"sha256:{match[1] or match[2]}" if match else None
