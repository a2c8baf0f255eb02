"""docker-archive files in every shape, read in place: before Docker 25, 25 and later, the containerd image
store's, Podman's, and archives whose layers some tool compressed."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pusher.errors import (
    ArchiveInvalid,
    ImageAmbiguous,
    ImageChanged,
    ImageNotFound,
    ImageUnsupported,
    LayerMismatch,
)
from pusher.oci import media_types
from pusher.oci.digest import hex_of, is_digest, of_bytes
from pusher.oci.manifest import Manifest, diff_ids_of
from pusher.sources import tar
from pusher.sources.archive_file import ArchivedImage, ArchiveFile, open_archive
from pusher.sources.base import Exported, Slice, SourceImage, SourceLayer
from pusher.sources.compressed import digest_of_gzip
from pusher.sources.layout import child_digests, find_manifest
from pusher.sources.names import did_you_mean, is_image_id, normalized, shown

KIND: Final = "docker-archive"


class ArchiveSource:
    """One image in a docker-archive file.

    ``name`` chooses among several: a name, an image ID, or ``@N`` for the N-th from 0. ``pinned`` is what an
    earlier ``resolve`` recorded; the image is then found by its config digest.
    """

    def __init__(
        self, path: Path, name: str | None = None, *, pinned: Mapping[str, str | int | None] | None = None
    ):
        self.path = path.absolute()
        self.name = name
        self._pinned = pinned

    def own_name(self) -> str | None:
        """The name that the archive gives the chosen image, if any: where `docker push` would send it."""
        with open_archive(self.path) as archive:
            image = self._choose(archive)
        wanted = normalized(self.name) if self.name else None
        matching = [name for name in image.names if normalized(name) == wanted]
        return next(iter(matching or image.names), None)

    def resolve(self) -> SourceImage:
        """Read manifest.json, config and manifest; layers only if they are compressed and no manifest names
        them (their digests are then computed, and remembered in ``pinned``)."""
        with self._open() as archive:
            image = self._choose(archive)
            config = _config(archive, image)
            config_digest = of_bytes(config)
            try:
                diff_ids = diff_ids_of(config)
            except (ValueError, RecursionError) as error:
                raise ArchiveInvalid(f"{self.path}: {error}") from error
            if len(diff_ids) != len(image.layers):
                raise ArchiveInvalid(
                    f"{self.path} contradicts itself: its manifest.json lists {len(image.layers)} layers "
                    f"and the config {len(diff_ids)}"
                )
            manifest = _manifest(archive, config_digest, diff_ids)
            pinned: dict[str, str | int | None] = {
                "kind": KIND,
                "path": str(self.path),
                "name": self.name,
                "config": config_digest,
                "size": archive.status.st_size,
                "mtime_ns": archive.status.st_mtime_ns,
            }
            if manifest is not None:
                layers = [
                    SourceLayer(diff_id, layer.media_type, self._slice(archive, layer.digest, layer.size))
                    for diff_id, layer in zip(diff_ids, manifest.layers, strict=True)
                ]
            else:
                known = self._known_digests(pinned)
                layers = [
                    self._layer(archive, name, diff_id, known)
                    for name, diff_id in zip(image.layers, diff_ids, strict=True)
                ]
                pinned["gzip"] = json.dumps(known) if known else None
            return SourceImage(config_digest, tuple(layers), config, manifest, pinned)

    @contextmanager
    def export(
        self,
        wanted: Collection[str],
        *,
        skip_sizes: Collection[int] = (),  # noqa: ARG002 - every layer is known by name
        check_stop: Callable[[], None] | None = None,  # noqa: ARG002 - a file never keeps its reader waiting
    ) -> Iterator[Iterator[Exported]]:
        """The uncompressed layers among ``wanted``, each once."""
        with self._open() as archive:
            image = self._choose(archive)
            paths = dict(zip(diff_ids_of(_config(archive, image)), image.layers, strict=True))

            def pieces() -> Iterator[Exported]:
                for diff_id, name in paths.items():
                    entry = archive.entry(name)
                    if diff_id in wanted and not media_types.is_compressed(_head(archive, entry)):
                        yield Exported("layer", diff_id, entry.size, archive.stream(entry))

            yield pieces()

    @contextmanager
    def _open(self) -> Iterator[ArchiveFile]:
        """The archive; ImageChanged instead of ImageNotFound if it was there before."""
        try:
            with open_archive(self.path) as archive:
                yield archive
        except ImageNotFound as error:
            if self._pinned is None:
                raise
            raise ImageChanged(
                f"{self.path} is gone since the image was enqueued",
                hint="put the archive back and `pusher retry` the job, or `pusher cancel` it",
            ) from error

    def _choose(self, archive: ArchiveFile) -> ArchivedImage:
        images = archive.images()
        if self._pinned is not None:
            for image in images:
                if of_bytes(archive.read(image.config)) == self._pinned["config"]:
                    return image
            raise ImageChanged(
                f"{self.path} no longer holds the image that was enqueued ({self._pinned['config']})",
                hint="put the old archive back and `pusher retry` the job, or enqueue the new image",
            )
        if not images:
            raise ImageNotFound(f"{self.path} holds no image")
        if self.name is None:
            found = list(images)
        elif self.name.startswith("@") and self.name[1:].isdecimal():
            found = list(images[int(self.name[1:]) :][:1])
        else:
            found = [image for image in images if _is_called(image, self.name)]
        if len(found) == 1:
            return found[0]
        known = [shown(name) for image in images for name in image.names]
        if not found:
            hint = did_you_mean(self.name or "", known)
            raise ImageNotFound(f"{self.path} holds no image {self.name}", hint=hint)
        listed = ", ".join(known[:20]) if known else f"@0 to @{len(images) - 1}"
        example = known[0] if known else "@0"
        raise ImageAmbiguous(
            f"{self.path} holds {len(images)} images: {listed}",
            hint=f"choose one: {KIND}:{self.path}:{example}",
        )

    def _slice(self, archive: ArchiveFile, digest: str, size: int) -> Slice:
        entry = archive.entry(_blob_path(digest))
        if entry.size != size:
            raise ArchiveInvalid(
                f"{self.path} contradicts itself: {digest} has {entry.size} bytes, its manifest says {size}"
            )
        return Slice(self.path, entry.offset, entry.size, digest)

    def _layer(self, archive: ArchiveFile, name: str, diff_id: str, known: dict[str, str]) -> SourceLayer:
        entry = archive.entry(name)
        head = _head(archive, entry)
        if not media_types.is_compressed(head):
            return SourceLayer(diff_id)
        if not head.startswith(media_types.GZIP_MAGIC):
            raise ImageUnsupported(
                f"layer {shown(name)} in {self.path} is zstd-compressed, and no manifest says so",
                hint=f"load it into an engine and push it from there: docker load -i {self.path}",
            )
        if diff_id not in known:
            known[diff_id] = self._computed(archive, entry, name, diff_id)
        return SourceLayer(
            diff_id,
            media_types.DOCKER_LAYER_GZIP,
            Slice(self.path, entry.offset, entry.size, known[diff_id]),
        )

    def _computed(self, archive: ArchiveFile, entry: tar.Entry, name: str, diff_id: str) -> str:
        try:
            digest, found = digest_of_gzip(archive.stream(entry))
        except ValueError as error:
            raise ArchiveInvalid(f"layer {shown(name)} in {self.path} is damaged: {error}") from error
        if found != diff_id:
            raise LayerMismatch(
                f"layer {shown(name)} in {self.path} should have diff ID {diff_id}, its bytes have {found}",
                hint="the archive is damaged; save the image again",
            )
        return digest

    def _known_digests(self, status: Mapping[str, str | int | None]) -> dict[str, str]:
        """Digests computed before, as long as the file was not touched since."""
        pinned = self._pinned
        if pinned is None or any(pinned.get(key) != status[key] for key in ("size", "mtime_ns")):
            return {}
        stored = pinned.get("gzip")
        return dict(json.loads(stored)) if isinstance(stored, str) else {}


def _is_called(image: ArchivedImage, name: str) -> bool:
    if is_image_id(name) and _config_hex(image).startswith(name.removeprefix("sha256:")):
        return True
    return normalized(name) in {normalized(own) for own in image.names}


def _config_hex(image: ArchivedImage) -> str:
    """The hex digits in the config's path: ``<hex>.json`` or ``blobs/sha256/<hex>``."""
    return image.config.rpartition("/")[2].removesuffix(".json")


def _config(archive: ArchiveFile, image: ArchivedImage) -> bytes:
    config = archive.read(image.config)
    named = f"sha256:{_config_hex(image)}"
    if is_digest(named) and of_bytes(config) != named:
        raise LayerMismatch(
            f"the config in {archive.path} should have digest {named}, its bytes have {of_bytes(config)}",
            hint="save the image again",
        )
    return config


def _manifest(archive: ArchiveFile, config_digest: str, diff_ids: tuple[str, ...]) -> Manifest | None:
    """The archive's own manifest of this image, if its layers are final.

    Docker 25 and later without the containerd image store makes up a manifest whose layers are the
    uncompressed tars; nobody ever pushed that, so the layers are compressed instead.
    """
    if "index.json" not in archive:
        return None

    def read(digest: str) -> bytes | None:
        path = _blob_path(digest)
        return archive.read(path) if path in archive else None

    def accept(manifest: Manifest) -> bool:
        return manifest.config.digest == config_digest and len(manifest.layers) == len(diff_ids)

    manifest = find_manifest(child_digests(archive.read("index.json")), read, accept, where=str(archive.path))
    if manifest is None or tuple(layer.digest for layer in manifest.layers) == diff_ids:
        return None
    return manifest


def _head(archive: ArchiveFile, entry: tar.Entry) -> bytes:
    return archive.stream(entry).read(4)


def _blob_path(digest: str) -> str:
    return f"blobs/sha256/{hex_of(digest)}"
