"""List the layers of an image in order, and open the uncompressed tar of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import BinaryIO, Final

from pusher.errors import ImageUnsupported, SourceError
from pusher.oci.index import Index
from pusher.oci.manifest import Manifest, diff_ids_of
from pusher.registry.http.body import BlobFile
from pusher.sources.base import SourceImage, SourceLayer
from pusher.sources.decompression import HEAD, Decompressed, decompression
from pusher.sources.file_range import FileRange, Joined, open_buffered

_READ: Final = 1 << 20

Read = Callable[[int], bytes]
"""Gives at most so many bytes of a layer's tar, none at its end."""


def stack_of(image: SourceImage) -> tuple[SourceLayer, ...]:
    """Return the layers of the only image, the lowest first.

    Raises ImageUnsupported if there are several, or it lacks a layer.
    """
    if image.drafts:
        _only_manifest(image)
    if not image.documents:
        return image.layers
    known = {layer.export_name: layer for layer in image.layers}
    manifest = _only_manifest(image)
    if not all(layer.digest in known for layer in manifest.layers):
        raise ImageUnsupported(
            "an image with foreign layers cannot be split",
            hint="add --allow-nondistributable to push them too, or leave out --split-layers",
        )
    return tuple(known[layer.digest] for layer in manifest.layers)


def attestations_in(image: SourceImage) -> set[str]:
    """Return the digests of attestation manifests."""
    indexes = [document for document in image.all_documents if isinstance(document, Index)]
    return {child.digest for index in indexes for child in index.children if child.is_attestation}


def diff_ids_in(image: SourceImage, config: bytes | None) -> tuple[str, ...]:
    """Return a diff ID for each layer of ``stack_of``. Raises ImageUnsupported if it is not an image of
    layers."""
    try:
        diff_ids = diff_ids_of(config or b"")
        if len(diff_ids) != len(stack_of(image)):
            raise ValueError("its config lists another number of layers")
    except ValueError as error:
        raise ImageUnsupported(
            f"only the layers of an image can be split: {error}", hint="leave out --split-layers"
        ) from error
    return diff_ids


@contextmanager
def open_tar(part: BlobFile) -> Iterator[Read]:
    """Open the tar of a layer whose blob is on disk."""
    try:
        file = part.open()
    except OSError as error:
        raise SourceError(f"cannot read {part.path}: {error.strerror or error}") from error
    with file:
        stream = open_buffered(FileRange(file, part.start, part.size, str(part.path)))
        yield read_uncompressed(stream, f"layer {part.digest}")


def read_uncompressed(blob: BinaryIO, name: str) -> Read:
    """Return the tar in a blob."""
    head = blob.read(HEAD)
    how = decompression(head)
    whole = open_buffered(Joined(chain([head], iter(partial(blob.read, _READ), b""))))
    return whole.read if how is None else Decompressed(whole, name, how).read


def _only_manifest(image: SourceImage) -> Manifest:
    attestations = attestations_in(image)
    manifests = [
        document
        for document in image.all_documents
        if isinstance(document, Manifest) and document.digest not in attestations
    ]
    if len(manifests) != 1 or manifests[0].config.digest != image.config_digest:
        raise ImageUnsupported(
            f"only one image can be split at a time, and this one has {len(manifests)} platforms",
            hint="choose one, for example with --platform linux/amd64",
        )
    return manifests[0]
