"""Read the manifests, indexes and configs of a source, with size limits and verified digests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pusher.errors import ImageIncomplete, ImageUnsupported, LayerMismatch
from pusher.oci import media_types
from pusher.oci.digest import of_bytes
from pusher.oci.document import Document, parse_document
from pusher.oci.manifest import Descriptor, Manifest, diff_ids_of

MAX_DOCUMENT: Final = 16 << 20
"""Bytes of a manifest or index: registries take 4 MiB (distribution-spec, "Pushing Manifests")."""
_MAX_DOCUMENTS: Final = 2000
_MAX_BYTES: Final = 64 << 20


class DocumentReader:
    """Reads documents by their descriptors, each manifest and index once.

    ``read`` returns the bytes of a document, None where the source lacks it; ``where`` names the source in
    messages. Raises ImageUnsupported, LayerMismatch, and what ``read`` raises.
    """

    def __init__(self, read: Callable[[Descriptor], bytes | None], where: str) -> None:
        self._read = read
        self._where = where
        self._known: dict[str, Document | None] = {}
        self._bytes = 0

    def get(self, descriptor: Descriptor) -> Document:
        """Return a manifest or index; ImageIncomplete where the source lacks it."""
        found = self.find(descriptor)
        if found is None:
            raise ImageIncomplete(
                f"{self._where} lacks the manifest {descriptor.digest}", hint="save or pull the image again"
            )
        return found

    def find(self, descriptor: Descriptor) -> Document | None:
        """Return a manifest or index, None where the source lacks it."""
        if descriptor.digest not in self._known:
            self._known[descriptor.digest] = self._read_document(descriptor)
        return self._known[descriptor.digest]

    def read_config(self, manifest: Manifest) -> bytes | None:
        """Return the bytes of a manifest's config, None where it is missing or too large to be one."""
        small = manifest.config.size <= MAX_DOCUMENT
        return self.read_verified(manifest.config, "config") if small else None

    def read_diff_ids(self, manifest: Manifest) -> tuple[str, ...] | None:
        """Return the diff IDs of a manifest's layers, None where its config does not list them."""
        try:
            diff_ids = diff_ids_of(self.read_config(manifest) or b"")
        except ValueError:
            return None
        return diff_ids if len(diff_ids) == len(manifest.layers) else None

    def read_verified(self, descriptor: Descriptor, what: str) -> bytes | None:
        """Return the bytes of a document, None where it is missing. Raises LayerMismatch."""
        raw = self._read(descriptor)
        if raw is not None and (found := of_bytes(raw, descriptor.digest)) != descriptor.digest:
            raise LayerMismatch(
                f"the {what} {descriptor.digest} in {self._where} is damaged: its bytes have {found}",
                hint="save or copy the image again",
            )
        return raw

    def unsupported_error(self, why: str) -> ImageUnsupported:
        """Return the error for what no registry takes."""
        return ImageUnsupported(
            f"the manifest in {self._where} cannot be pushed: {why}",
            hint="build or pull the image again with a current tool",
        )

    def _read_document(self, descriptor: Descriptor) -> Document | None:
        if descriptor.size > MAX_DOCUMENT:
            raise ImageUnsupported(
                f"the manifest {descriptor.digest} in {self._where} has {descriptor.size} bytes; "
                f"no registry takes more than {MAX_DOCUMENT}"
            )
        if descriptor.media_type in (media_types.DOCKER_SCHEMA_1, media_types.DOCKER_SCHEMA_1_SIGNED):
            raise self.unsupported_error("it is of schema version 1, which registries no longer take")
        raw = self.read_verified(descriptor, "manifest")
        if raw is None:
            return None
        self._bytes += len(raw)
        if self._bytes > _MAX_BYTES or len(self._known) > _MAX_DOCUMENTS:
            raise self.unsupported_error("its indexes list too much")
        try:
            return parse_document(raw, descriptor.digest)
        except ValueError as error:
            raise self.unsupported_error(str(error)) from error
