"""Read docker-archive files in place: of Docker before 25, of 25 and later, of the containerd image store
and Podman, with layers that a tool compressed, or compressed as a whole."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from pusher.errors import ArchiveInvalid, ImageChanged, LayerMismatch
from pusher.oci import media_types
from pusher.oci.digest import of_bytes
from pusher.oci.manifest import Descriptor
from pusher.sources.archive.file import ArchiveFile, open_archive
from pusher.sources.archive.images import ArchivedImage, Chosen, choose, diff_ids_in, images_in
from pusher.sources.archive.roots import Roots
from pusher.sources.base import EVERYTHING, Choice, ExportPiece, SourceImage, SourceLayer
from pusher.sources.blob_places import BlobsInArchive
from pusher.sources.decompression import Decompressed, Unpacked, decompression, unpack
from pusher.sources.file_range import open_buffered
from pusher.sources.image_names import display_name, normalize_name
from pusher.sources.image_tree import tree_or_own
from pusher.sources.pins import ArchivePin
from pusher.sources.platforms import check_platform, platform_of
from pusher.sources.tagged import TaggedImage, tagged_images
from pusher.sources.tar import reader

KIND: Final = ArchivePin.kind


class ArchiveSource:
    """One image in a docker-archive file.

    ``name`` chooses among several: a name, an image ID, or ``@N`` for the N-th from 0. With the ``pin``
    of an earlier ``resolve`` the image is found by its config digest.
    """

    def __init__(
        self,
        path: Path,
        name: str | None = None,
        choice: Choice = EVERYTHING,
        *,
        pin: ArchivePin | None = None,
    ) -> None:
        self.path = path.absolute()
        self.name = name
        self._choice = choice if pin is None else pin.choice
        self._pin = pin

    def own_name(self) -> str | None:
        """Return the name of the chosen image in the archive, None if it has none."""
        with open_archive(self.path) as archive:
            chosen = self._choose(archive)
            names = Roots(archive).names_of(chosen.root, chosen.image.names)
        wanted = normalize_name(self.name.partition("@")[0]) if self.name else None
        matching = [name for name in names if normalize_name(name) == wanted]
        return next(iter(matching or names), None)

    def list_tagged(self) -> list[TaggedImage]:
        """Return the images of the archive by their names."""
        with open_archive(self.path) as archive:
            names = [name for image in images_in(archive) for name in image.names]
        return tagged_images(KIND, self.path, self.name, names)

    def resolve(self) -> SourceImage:
        """Read manifest.json, config and manifests; layers only if they are compressed and no manifest names
        them (the pin then stores their computed digests)."""
        with self._open() as archive:
            return self._image(archive, self._choose(archive))

    @contextmanager
    def export(
        self,
        wanted: Collection[str],
        *,
        skip_sizes: Collection[int] = (),  # noqa: ARG002 - every layer is known by name
        check_stop: Callable[[], None] | None = None,  # noqa: ARG002 - reading a file does not block
    ) -> Iterator[Iterator[ExportPiece]]:
        """Yield the uncompressed layers among ``wanted``, each once; where the archive is compressed as a
        whole, blobs too."""
        with self._open() as archive:
            chosen = self._choose(archive)
            image = self._image(archive, chosen)
            if image.documents:
                blobs = {layer.blob.digest for layer in image.layers if layer.blob is not None}
                yield BlobsInArchive(archive).export(blobs.intersection(wanted))
            else:
                yield self._layers(archive, chosen.image, image, wanted)

    def fall_back(self) -> None:
        """Return None: no fallback."""

    @contextmanager
    def _open(self) -> Iterator[ArchiveFile]:
        """Open the archive. Raise ImageChanged, not ImageNotFound, if it existed before."""
        if self._pin is not None and not self.path.exists():
            raise ImageChanged(
                f"{self.path} was removed after the image was enqueued",
                hint="`pusher cancel` the job, or put the archive back",
            )
        with open_archive(self.path) as archive:
            yield archive

    def _choose(self, archive: ArchiveFile) -> Chosen:
        if self._pin is None:
            return choose(archive, self.name, self._choice)
        for image in images_in(archive):
            config = archive.read(image.config)
            if of_bytes(config) == self._pin.config_digest:
                return Chosen(image, config, self._pin.root_digest)
        raise ImageChanged(
            f"{self.path} no longer contains the image that was enqueued ({self._pin.config_digest})",
            hint="enqueue the new image instead, or put the old archive back",
        )

    # --- the image ----------------------------------------------------------------------------------------

    def _image(self, archive: ArchiveFile, chosen: Chosen) -> SourceImage:
        image, config = chosen.image, chosen.config
        diff_ids = diff_ids_in(archive, config)
        if len(diff_ids) != len(image.layers):
            raise ArchiveInvalid(
                f"{self.path} is inconsistent: its manifest.json lists {len(image.layers)} layers "
                f"and the config {len(diff_ids)}"
            )
        status = archive.status
        pin = ArchivePin(self.path, self.name, of_bytes(config), status.st_size, status.st_mtime_ns)
        if chosen.root is not None:
            place = BlobsInArchive(archive)
            size = place.size_of(chosen.root)
            if size is None:
                raise ImageChanged(
                    f"{self.path} no longer contains the manifest that was enqueued ({chosen.root})",
                    hint="enqueue the new image instead, or put the old archive back",
                )
            root = Descriptor(media_types.OCI_INDEX, chosen.root, size)
            own = platform_of(config)
            tree = tree_or_own(root, place.read, place.has, self._choice, own=own, where=str(self.path))
            pin = replace(pin, root_digest=root.digest, choice=tree.choice)
            return tree.image(place.file_of, pin)
        check_platform(platform_of(config), self._choice, str(self.path))
        known = self._reuse_unpacked(pin)
        layers = self._describe_layers(archive, image, diff_ids, known)
        pin = replace(pin, unpacked=tuple(known.values()))
        return SourceImage(pin.config_digest, layers, pin, config)

    # --- layers without a manifest ------------------------------------------------------------------------

    def _describe_layers(
        self,
        archive: ArchiveFile,
        image: ArchivedImage,
        diff_ids: tuple[str, ...],
        known: dict[str, Unpacked],
    ) -> tuple[SourceLayer, ...]:
        """Return the layers; add the unpacked facts of compressed ones to ``known``, by diff ID."""
        entries = dict(zip(diff_ids, map(archive.entry, image.layers), strict=True))
        heads = {diff_id: archive.head(entry) for diff_id, entry in entries.items()}
        unknown = {
            entries[diff_id]: (diff_id, how)
            for diff_id, head in heads.items()
            if (how := decompression(head)) and diff_id not in known
        }
        for entry, stream in archive.streams(unknown):
            diff_id, how = unknown[entry]
            found = unpack(stream, f"layer {display_name(entry.name)} in {self.path}", how)
            if found.diff_id != diff_id:
                raise LayerMismatch(
                    f"layer {display_name(entry.name)} in {self.path} should have diff ID {diff_id}, "
                    f"its bytes have {found.diff_id}",
                    hint="the archive is damaged; save the image again",
                )
            known[diff_id] = found
        return tuple(
            SourceLayer(
                diff_id,
                Descriptor(media_type, known[diff_id].digest, entries[diff_id].size),
                archive.file_of(entries[diff_id], known[diff_id].digest),
                compared=known[diff_id].is_plain,
            )
            if (media_type := media_types.of_layer(heads[diff_id])) and not known[diff_id].is_padded
            else SourceLayer(diff_id)
            for diff_id in diff_ids
        )

    def _reuse_unpacked(self, now: ArchivePin) -> dict[str, Unpacked]:
        """Return what the pin has unpacked, by diff ID, unless the file changed since."""
        pin = self._pin
        if pin is None or (pin.size, pin.mtime_ns) != (now.size, now.mtime_ns):
            return {}
        return {each.diff_id: each for each in pin.unpacked}

    @staticmethod
    def _layers(
        archive: ArchiveFile, chosen: ArchivedImage, image: SourceImage, wanted: Collection[str]
    ) -> Iterator[ExportPiece]:
        pieces: dict[reader.Entry, tuple[bool, str]] = {}
        for layer, name in zip(image.layers, chosen.layers, strict=True):
            known_as = layer.export_name
            if layer.file is None and known_as in wanted:
                pieces[archive.entry(name)] = layer.blob is not None, known_as
        unpacked_before = image.pin.unpacked if isinstance(image.pin, ArchivePin) else ()
        known = {each.diff_id: each for each in unpacked_before}
        for entry, stream in archive.streams(pieces):
            is_blob, known_as = pieces[entry]
            how = None if is_blob or known_as not in known else decompression(archive.head(entry))
            if how is None:
                yield ExportPiece("blob" if is_blob else "layer", known_as, entry.size, stream)
            else:  # registries take neither xz nor bzip2, nor padded gzip: the layer is compressed again
                tar_of = Decompressed(stream, f"layer {display_name(entry.name)} in {archive.path}", how)
                yield ExportPiece("layer", known_as, known[known_as].size, open_buffered(tar_of))
