"""Walk the tree below a manifest or index: the documents to push, in order, and their blobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from pusher.errors import ImageIncomplete, ImageNotFound, ImageUnsupported
from pusher.oci import media_types
from pusher.oci.document import Document
from pusher.oci.index import MAX_NESTED, Child, Index
from pusher.oci.manifest import LARGEST_SIZE, Descriptor, Manifest
from pusher.oci.platform import Platform
from pusher.registry.http.body import BlobFile
from pusher.sources.base import Choice, Pin, SourceImage, SourceLayer
from pusher.sources.document_reader import MAX_DOCUMENT, DocumentReader
from pusher.sources.platforms import check_platform, platform_of
from pusher.text import suggest

_DOCUMENTS: Final = (
    media_types.MANIFESTS
    | media_types.INDEXES
    | {media_types.DOCKER_SCHEMA_1, media_types.DOCKER_SCHEMA_1_SIGNED}
)


class Tree:
    """An image whose blobs are final, below the manifest or index ``root``.

    ``read`` returns the bytes of a document or config by its descriptor, None if the source lacks it;
    ``has`` returns whether the source has a blob. ``where`` names the source in messages. Raises
    ImageIncomplete, ImageNotFound, ImageUnsupported, LayerMismatch.
    """

    def __init__(
        self,
        root: Descriptor,
        read: Callable[[Descriptor], bytes | None],
        has: Callable[[Descriptor], bool],
        choice: Choice,
        *,
        where: str,
    ) -> None:
        self._reader = DocumentReader(read, where)
        self._asked = has
        self._there: dict[Descriptor, bool] = {}
        self._where = where
        self._whole: dict[str, bool] = {}
        self._fitting: dict[tuple[str, Platform], bool] = {}
        self._documents: dict[str, Document] = {}
        self.choice = choice
        self.notes: list[str] = []
        # at the tag it is found by its sha256 digest, whatever the source calls it
        top = replace(self._choose(self._reader.get(root)), called=None)
        if not self._is_whole(top):
            raise self._incomplete_error(top)
        self._add(top)

    @property
    def documents(self) -> tuple[Document, ...]:
        """Return each once, children first, the root last."""
        return tuple(self._documents.values())

    def blobs(self) -> list[Descriptor]:
        """Return the blobs to push, configs included, each once."""
        found: dict[str, Descriptor] = {}
        for document in self.documents:
            for blob in self._blobs_of(document):
                found.setdefault(blob.digest, blob)
        return list(found.values())

    def image(self, file_of: Callable[[Descriptor], BlobFile | None], pin: Pin) -> SourceImage:
        """Return the source's image; ``file_of`` returns a blob's file if it is on this disk."""
        manifests = [document for document in self.documents if isinstance(document, Manifest)]
        diff_ids = self._diff_ids(manifests)
        if manifests:
            first = manifests[0].config
        elif blobs := self.blobs():  # a build cache of BuildKit: an index of layers and what describes them
            first = min(blobs, key=lambda blob: blob.size)
        else:
            raise ImageUnsupported(f"the index in {self._where} lists no image")
        if first.size > MAX_DOCUMENT:
            raise self._reader.unsupported_error(f"its config has {first.size} bytes")
        blobs = [blob for blob in self.blobs() if blob.digest != first.digest]
        diff_ids = {digest: diff_id for digest, diff_id in diff_ids.items() if diff_id != first.digest}
        layers = final_layers([(blob, diff_ids.get(blob.digest)) for blob in blobs], file_of)
        if sum(blob.size for blob in blobs) > LARGEST_SIZE:
            raise self._reader.unsupported_error("its blobs have more bytes than can be counted")
        config = self._reader.read_verified(first, "config")
        return SourceImage(first.digest, layers, pin, config, self.documents, tuple(self.notes))

    # --- which documents ----------------------------------------------------------------------------------

    def _choose(self, document: Document, depth: int = 0) -> Document:
        """Return the requested part of the root."""
        self._check_depth(depth)
        wanted = self.choice.platforms
        if isinstance(document, Manifest):
            check_platform(self._platform_of(document), self.choice, self._where)
            return document
        if not wanted:
            return self._reduce(document, [])
        images = [child for child in document.children if not child.is_attestation]
        kept: dict[str, Child] = {}
        for platform in wanted:
            fitting = {child.digest: child for child in images if self._is_for(child, platform)}
            if not fitting:
                hint = f"it has images for {_list_names([str(child) for child in images])}"
                raise ImageNotFound(f"{self._where} has no image for {platform}", hint=hint)
            kept |= fitting
        if len(kept) > 1:
            return self._reduce(document, [child for child in images if child.digest not in kept])
        (only,) = kept.values()
        found = self._child(only)
        if found is None:
            raise ImageIncomplete(
                f"{self._where} lists an image for {only} and does not have it",
                hint=suggest(
                    "pull it, and where it was saved save it again: docker pull --platform {} IMAGE", only
                ),
            )
        if len(document.children) > 1:
            self.notes.append(
                f"only {only} is pushed, and has the digest {found.digest} where the whole index has "
                f"{document.digest}"
            )
        # The index wins, as it does in a pull: configs often leave out the variant.
        return found if isinstance(found, Manifest) else self._choose(found, depth + 1)

    def _reduce(self, index: Index, dropped: Sequence[Child]) -> Index:
        """Return the index without unwanted children and, if allowed, missing ones."""
        if self.choice.drop_attestations:
            dropped = [*dropped, *(child for child in index.children if child.is_attestation)]
        gone = {child.digest for child in dropped}
        gone |= {child.digest for child in index.children if child.attested in gone}
        missing = [
            child for child in index.children if child.digest not in gone and not self._is_there(child)
        ]
        if missing and not self.choice.skip_missing:
            raise self._lacking_error(index, missing)
        gone |= {child.digest for child in missing}
        gone |= {child.digest for child in index.children if child.attested in gone}
        if not gone:
            return index
        if all(child.digest in gone for child in index.children):
            raise ImageIncomplete(
                f"nothing of the index {index.digest} in {self._where} is left to push",
                hint="pull or save the image again, with all of its platforms",
            )
        left_out = [str(child) for child in index.children if child.digest in gone]
        reduced = index.without(gone)
        self.notes.append(
            f"left out of the index: {_list_names(left_out)}; its digest changes from {index.digest} "
            f"to {reduced.digest}"
        )
        return reduced

    def _is_for(self, child: Child, platform: Platform, depth: int = 0) -> bool:
        if child.platform is not None:
            return platform.takes(child.platform)
        self._check_depth(depth)
        found = None if self._is_blob(child) else self._child(child)
        if isinstance(found, Index):
            if (found.digest, platform) not in self._fitting:
                images = [inner for inner in found.children if not inner.is_attestation]
                self._fitting[found.digest, platform] = any(
                    self._is_for(inner, platform, depth + 1) for inner in images
                )
            return self._fitting[found.digest, platform]
        own = None if found is None else self._platform_of(found)
        return own is not None and platform.takes(own)

    def _add(self, document: Document) -> None:
        if isinstance(document, Index):
            for child in document.children:
                found = None if self._is_blob(child) else self._child(child)
                if found is not None and found.digest not in self._documents:
                    self._add(found)
        self._documents[document.digest] = document

    # --- what is there ------------------------------------------------------------------------------------

    def _is_there(self, child: Child, depth: int = 0) -> bool:
        if self._is_blob(child):
            return self._has(child.descriptor)
        found = self._child(child)
        return found is not None and self._is_whole(found, depth)

    def _has(self, blob: Descriptor) -> bool:
        if blob not in self._there:
            self._there[blob] = blob.digest in self.choice.absent or self._asked(blob)
        return self._there[blob]

    def _is_whole(self, document: Document, depth: int = 0) -> bool:
        self._check_depth(depth)
        if isinstance(document, Manifest):
            return all(self._has(blob) for blob in self._blobs_of(document))
        if document.digest not in self._whole:
            self._whole[document.digest] = all(
                self._is_there(child, depth + 1) for child in document.children
            )
        return self._whole[document.digest]

    def _is_blob(self, child: Child) -> bool:
        """Return whether an index lists a blob, as those of build caches do, rather than a manifest."""
        if child.descriptor.media_type in _DOCUMENTS:
            return False
        if child.descriptor.size > MAX_DOCUMENT:
            return True
        try:
            return self._child(child) is None
        except ImageUnsupported:
            return True

    def _blobs_of(self, document: Document) -> list[Descriptor]:
        """Return the blobs to push for a document, without foreign layers, which have their own URL."""
        if isinstance(document, Index):
            return [child.descriptor for child in document.children if self._is_blob(child)]
        return [
            blob
            for blob in document.blobs
            if self.choice.foreign or not (blob.urls and media_types.is_nondistributable(blob.media_type))
        ]

    def _child(self, child: Child) -> Document | None:
        return self._reader.find(child.descriptor)

    def _platform_of(self, manifest: Manifest) -> Platform | None:
        """Return the platform in the config; None if it has none or is missing."""
        raw = self._reader.read_config(manifest) if self._has(manifest.config) else None
        return platform_of(raw or b"")

    def _diff_ids(self, manifests: Sequence[Manifest]) -> dict[str, str]:
        """Return diff IDs by blob digest, as far as configs list them."""
        known: dict[str, str] = {}
        for manifest in manifests:
            diff_ids = self._reader.read_diff_ids(manifest) or ()
            known |= {blob.digest: diff_id for blob, diff_id in zip(manifest.layers, diff_ids, strict=False)}
        return known

    # --- what is wrong ------------------------------------------------------------------------------------

    def _check_depth(self, depth: int) -> None:
        if depth > MAX_NESTED:
            raise self._reader.unsupported_error(f"indexes are nested more than {MAX_NESTED} deep")

    def _lacking_error(self, index: Index, missing: Sequence[Child]) -> ImageIncomplete:
        absent = {child.digest for child in missing}
        there = [child for child in index.children if child.digest not in absent and not child.is_attestation]
        hint = "pull what is missing first"
        if there:
            one = suggest("push one platform alone with --platform {}, or ", there[0])
            hint = f"{one}leave out what is missing with --skip-missing (the index then has another digest)"
        listed = _list_names([str(child) for child in missing])
        error = ImageIncomplete(
            f"{self._where} lacks {len(missing)} of the {len(index.children)} manifests that its index "
            f"lists: {listed}",
            hint=hint,
        )
        error.missing = self._absent_below(missing)
        return error

    def _incomplete_error(self, document: Document) -> ImageIncomplete:
        absent = [blob.digest for blob in self._blobs_of(document) if not self._has(blob)]
        count = "a blob" if len(absent) == 1 else f"{len(absent)} blobs"
        error = ImageIncomplete(
            f"{self._where} lacks {count} of the image: {_list_names(absent)}",
            hint="pull or save the image again",
        )
        error.missing = tuple(dict.fromkeys(absent))
        return error

    def _absent_below(self, children: Sequence[Child]) -> tuple[str, ...]:
        """Return the blobs that children of an index lack; none if one lacks a manifest."""
        absent: dict[str, None] = {}
        left, seen = list(children), set[str]()
        while left:
            child = left.pop()
            if child.digest in seen:
                continue
            seen.add(child.digest)
            document = None if self._is_blob(child) else self._child(child)
            if document is None and child.descriptor.media_type in _DOCUMENTS:
                return ()
            if isinstance(document, Index):
                left += document.children
                continue
            blobs = [child.descriptor] if document is None else self._blobs_of(document)
            absent |= dict.fromkeys(blob.digest for blob in blobs if not self._has(blob))
        return tuple(absent)


def tree_or_own(
    root: Descriptor,
    read: Callable[[Descriptor], bytes | None],
    has: Callable[[Descriptor], bool],
    choice: Choice,
    *,
    own: Platform | None,
    where: str,
) -> Tree:
    """Return the tree, or only the image for the platform ``own`` where some platforms were not pulled and
    none was requested, as `docker push` does. Raises the errors of ``Tree``."""
    try:
        return Tree(root, read, has, choice, where=where)
    except ImageIncomplete as incomplete:
        if own is None or choice.platforms or choice.every or choice.skip_missing:
            raise
        try:
            tree = Tree(root, read, has, replace(choice, platforms=(own,)), where=where)
        except ImageNotFound:
            raise incomplete from None
        tree.notes.append(f"{incomplete.message}; --skip-missing pushes an index of those that are there")
        return tree


def final_layers(
    blobs: Sequence[tuple[Descriptor, str | None]], file_of: Callable[[Descriptor], BlobFile | None]
) -> tuple[SourceLayer, ...]:
    """Return blobs as layers. A layer gets no diff ID if that is unknown, also another blob's (the same files
    compressed in two ways), or another blob's digest."""
    holders: dict[str, set[str]] = {blob.digest: {blob.digest} for blob, _ in blobs}
    for blob, diff_id in blobs:
        holders.setdefault(diff_id or blob.digest, set()).add(blob.digest)
    return tuple(
        SourceLayer(diff_id if diff_id and len(holders[diff_id]) == 1 else None, blob, file_of(blob))
        for blob, diff_id in blobs
    )


def _list_names(names: Sequence[str]) -> str:
    """Return some of the names, equal ones once with their number."""
    counts = Counter(names)
    shown = [name if count == 1 else f"{name} ({count} times)" for name, count in list(counts.items())[:5]]
    return ", ".join(shown) + (f" and {len(counts) - 5} more" if len(counts) > 5 else "")
