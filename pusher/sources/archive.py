"""docker-archive files in every shape, read in place: before Docker 25, 25 and later, the containerd image
store's, Podman's, archives whose layers some tool compressed, and archives that are compressed as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pusher.errors import ArchiveInvalid, ImageChanged, ImageUnsupported, LayerMismatch
from pusher.oci import media_types
from pusher.oci.digest import of_bytes
from pusher.oci.manifest import Descriptor
from pusher.sources import tar
from pusher.sources.archive_file import ArchiveFile, open_archive
from pusher.sources.archive_images import ArchivedImage, Chosen, choose, diff_ids_in, images_in
from pusher.sources.archive_roots import Roots
from pusher.sources.base import EVERYTHING, Choice, Exported, Pinned, SourceImage, SourceLayer
from pusher.sources.compressed import digest_of_gzip
from pusher.sources.names import normalized, shown
from pusher.sources.places import BlobsInArchive
from pusher.sources.platforms import check_platform, platform_of
from pusher.sources.tree import tree_or_own
from pusher.text import suggest

KIND: Final = "docker-archive"


class ArchiveSource:
    """One image in a docker-archive file.

    ``name`` chooses among several: a name, an image ID, or ``@N`` for the N-th from 0. ``pinned`` is what an
    earlier ``resolve`` recorded; the image is then found by its config digest.
    """

    def __init__(
        self,
        path: Path,
        name: str | None = None,
        choice: Choice = EVERYTHING,
        *,
        pinned: Mapping[str, str | int | None] | None = None,
    ) -> None:
        self.path = path.absolute()
        self.name = name
        self._choice = choice if pinned is None else Choice.of_pinned(pinned)
        self._pinned = pinned

    def own_name(self) -> str | None:
        """The name that the archive gives the chosen image, if any: where `docker push` would send it."""
        with open_archive(self.path) as archive:
            chosen = self._choose(archive)
            names = Roots(archive).names_of(chosen.root, chosen.image.names)
        wanted = normalized(self.name.partition("@")[0]) if self.name else None
        matching = [name for name in names if normalized(name) == wanted]
        return next(iter(matching or names), None)

    def resolve(self) -> SourceImage:
        """Read manifest.json, config and manifests; layers only if they are compressed and no manifest names
        them (their digests are then computed, and remembered in ``pinned``)."""
        with self._open() as archive:
            return self._image(archive, self._choose(archive))

    @contextmanager
    def export(
        self,
        wanted: Collection[str],
        *,
        skip_sizes: Collection[int] = (),  # noqa: ARG002 - every layer is known by name
        check_stop: Callable[[], None] | None = None,  # noqa: ARG002 - a file never keeps its reader waiting
    ) -> Iterator[Iterator[Exported]]:
        """The uncompressed layers among ``wanted``, each once; where the archive is compressed as a whole,
        blobs too."""
        with self._open() as archive:
            chosen = self._choose(archive)
            image = self._image(archive, chosen)
            if image.documents:
                blobs = {layer.blob.digest for layer in image.layers if layer.blob is not None}
                yield BlobsInArchive(archive).export(blobs.intersection(wanted))
            else:
                yield self._layers(archive, chosen.image, image, wanted)

    def fall_back(self) -> None:
        """A file is all there is."""

    @contextmanager
    def _open(self) -> Iterator[ArchiveFile]:
        """The archive; ImageChanged instead of ImageNotFound if it was there before."""
        if self._pinned is not None and not self.path.exists():
            raise ImageChanged(
                f"{self.path} is gone since the image was enqueued",
                hint="put the archive back and `pusher retry` the job, or `pusher cancel` it",
            )
        with open_archive(self.path) as archive:
            yield archive

    def _choose(self, archive: ArchiveFile) -> Chosen:
        if self._pinned is None:
            return choose(archive, self.name, self._choice)
        root = self._pinned.get("root")
        for image in images_in(archive):
            config = archive.read(image.config)
            if of_bytes(config) == self._pinned["config"]:
                return Chosen(image, config, None if root is None else str(root))
        raise ImageChanged(
            f"{self.path} no longer holds the image that was enqueued ({self._pinned['config']})",
            hint="put the old archive back and `pusher retry` the job, or enqueue the new image",
        )

    # --- the image ----------------------------------------------------------------------------------------

    def _image(self, archive: ArchiveFile, chosen: Chosen) -> SourceImage:
        image, config = chosen.image, chosen.config
        diff_ids = diff_ids_in(archive, config)
        if len(diff_ids) != len(image.layers):
            raise ArchiveInvalid(
                f"{self.path} contradicts itself: its manifest.json lists {len(image.layers)} layers "
                f"and the config {len(diff_ids)}"
            )
        pinned: Pinned = {
            "kind": KIND,
            "path": str(self.path),
            "name": self.name,
            "config": of_bytes(config),
            "size": archive.status.st_size,
            "mtime_ns": archive.status.st_mtime_ns,
        }
        if chosen.root is not None:
            place = BlobsInArchive(archive)
            size = place.size_of(chosen.root)
            if size is None:
                raise ImageChanged(
                    f"{self.path} no longer holds the manifest that was enqueued ({chosen.root})",
                    hint="put the old archive back and `pusher retry` the job, or enqueue the new image",
                )
            root = Descriptor(media_types.OCI_INDEX, chosen.root, size)
            own = platform_of(config)
            tree = tree_or_own(root, place.read, place.has, self._choice, own=own, where=str(self.path))
            return tree.image(place.slice_of, {**pinned, "root": root.digest, "choice": tree.choice.pinned()})
        check_platform(platform_of(config), self._choice, str(self.path))
        known = self._known_digests(pinned)
        layers = self._described(archive, image, diff_ids, known)
        pinned["gzip"] = json.dumps(known) if known else None
        return SourceImage(of_bytes(config), layers, config, pinned=pinned)

    # --- layers without a manifest ------------------------------------------------------------------------

    def _described(
        self,
        archive: ArchiveFile,
        image: ArchivedImage,
        diff_ids: tuple[str, ...],
        known: dict[str, str],
    ) -> tuple[SourceLayer, ...]:
        """The layers; the digests of those that are compressed are added to ``known``, by diff ID."""
        entries = dict(zip(diff_ids, map(archive.entry, image.layers), strict=True))
        names = dict(zip(diff_ids, image.layers, strict=True))
        heads = {diff_id: archive.head(entry) for diff_id, entry in entries.items()}
        for diff_id, head in heads.items():
            if head.startswith(media_types.ZSTD_MAGIC):
                raise ImageUnsupported(
                    f"layer {shown(names[diff_id])} in {self.path} is zstd-compressed without a manifest",
                    hint=suggest(
                        "load it into an engine and push it from there: docker load -i {}", self.path
                    ),
                )
        unknown = {
            entries[diff_id]: diff_id
            for diff_id, head in heads.items()
            if media_types.is_compressed(head) and diff_id not in known
        }
        for entry, stream in archive.streams(unknown):
            try:
                digest, found = digest_of_gzip(stream)
            except ValueError as error:
                raise ArchiveInvalid(
                    f"layer {shown(entry.name)} in {self.path} is damaged: {error}"
                ) from error
            if found != unknown[entry]:
                raise LayerMismatch(
                    f"layer {shown(entry.name)} in {self.path} should have diff ID {unknown[entry]}, "
                    f"its bytes have {found}",
                    hint="the archive is damaged; save the image again",
                )
            known[found] = digest
        return tuple(
            SourceLayer(
                diff_id,
                Descriptor(media_types.DOCKER_LAYER_GZIP, known[diff_id], entries[diff_id].size),
                archive.slice_of(entries[diff_id], known[diff_id]),
                compared=True,
            )
            if media_types.is_compressed(heads[diff_id])
            else SourceLayer(diff_id)
            for diff_id in diff_ids
        )

    def _known_digests(self, status: Pinned) -> dict[str, str]:
        """Digests computed before, as long as the file was not touched since."""
        pinned = self._pinned
        if pinned is None or any(pinned.get(key) != status[key] for key in ("size", "mtime_ns")):
            return {}
        stored = pinned.get("gzip")
        return dict(json.loads(stored)) if isinstance(stored, str) else {}

    @staticmethod
    def _layers(
        archive: ArchiveFile, chosen: ArchivedImage, image: SourceImage, wanted: Collection[str]
    ) -> Iterator[Exported]:
        pieces: dict[tar.Entry, tuple[bool, str]] = {}
        for layer, name in zip(image.layers, chosen.layers, strict=True):
            known_as = layer.blob.digest if layer.blob else layer.diff_id
            if layer.slice is None and known_as in wanted:
                pieces[archive.entry(name)] = layer.blob is not None, known_as
        for entry, stream in archive.streams(pieces):
            is_blob, known_as = pieces[entry]
            yield Exported("blob" if is_blob else "layer", known_as, entry.size, stream)
