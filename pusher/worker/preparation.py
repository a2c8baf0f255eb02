"""Turn a source into blobs on disk: one pass over an export, every layer compressed only once."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from pusher.config import Settings
from pusher.errors import ImageChanged, LayerMismatch, StorageDoubtful
from pusher.oci import media_types
from pusher.oci.digest import of_bytes, short
from pusher.oci.layer_blob import COMPARED, ORIGINAL, LayerBlob
from pusher.oci.manifest import Descriptor
from pusher.progress.base import Progress
from pusher.registry.http.body import BlobFile
from pusher.registry.http.verified_file import DigestVerifier
from pusher.sources import reopen
from pusher.sources.base import ExportPiece, Source, SourceImage
from pusher.sources.pins import RegistryPin, pin_from_json
from pusher.sources.registry.source import RegistrySource
from pusher.spool.compress import Compression, Kind
from pusher.spool.spool import Spool
from pusher.store.records import JobBlob, JobRecord
from pusher.store.store import Store
from pusher.worker.compression import CompressionChooser, RequestedCompression
from pusher.worker.control import Activity, Control
from pusher.worker.downloads import Downloads, descriptor_of
from pusher.worker.job_link import JobLink
from pusher.worker.registries import Registries
from pusher.worker.stall_notices import SourceStallCheck
from pusher.worker.unfinished import EarlyStart, UnfinishedBlob

_REPORT_EVERY = 4 * 1024 * 1024
"""Bytes between two reports on a layer that is being compressed."""


@dataclass(frozen=True)
class BlobPreparer:
    """Prepares the blobs of a job that are not on disk yet."""

    store: Store
    spool: Spool
    settings: Settings
    progress: Progress
    activity: Activity
    downloads: Downloads
    registries: Registries

    def config_blob(self, job: JobRecord) -> BlobFile | None:
        """Return the blob of the image's config if its bytes are known without an export, else None."""
        content = self.store.documents.get(job.config_digest)
        return None if content is None else self._keep_config(job, content)

    def prepare(
        self,
        job: JobRecord,
        control: Control,
        missing: Mapping[str, JobBlob],
        send_unfinished: Callable[[UnfinishedBlob], None] | None = None,
    ) -> Iterator[tuple[str, BlobFile | None]]:
        """Yield the key of each blob in ``missing`` with the blob as soon as it is ready.

        A blob that can be sent before it is complete is yielded twice, first with its ``arrival``. Of a layer
        that is large and being compressed, ``send_unfinished`` gets the blob, if that is allowed; None is
        yielded for one that it sends to its end.
        Raises SourceError, DiskFull, Stopped, LeaseLost; for an image in a registry also as ``Downloads``.
        """
        pin = pin_from_json(job.source)
        if isinstance(pin, RegistryPin):
            remote = RegistrySource.from_pin(pin, self.registries.client, retry=self.settings.retry)
            for found, arrival in self.downloads.fetch(remote, job, control, missing):
                blob = descriptor_of(found)
                if arrival is None:
                    self._set_blob(job, found.key, blob)
                yield (
                    found.key,
                    BlobFile(blob.digest, blob.size, self.spool.path(blob.digest), arrival=arrival),
                )
            return
        source: Source | None = reopen(pin)
        chooser = CompressionChooser(
            RequestedCompression.for_job(job.options, self.settings),
            JobLink(
                self.registries.links,
                job.registry,
                lambda wait: self.registries.response_seconds(job.registry, wait),
            ),
            lambda text: self.store.events.add(job.id, "compression", text),
        )
        while source is not None:
            try:
                yield from self._prepare_from(source, job, control, missing, chooser, send_unfinished)
                if chosen := chooser.summary():
                    self.progress.note(chosen)
                return
            except (StorageDoubtful, LayerMismatch) as doubt:
                source = source.fall_back()
                if source is None:
                    raise
                self.progress.note(f"{doubt.message}; asking the engine for the image instead")

    def _prepare_from(
        self,
        source: Source,
        job: JobRecord,
        control: Control,
        missing: Mapping[str, JobBlob],
        chooser: CompressionChooser,
        send_unfinished: Callable[[UnfinishedBlob], None] | None,
    ) -> Iterator[tuple[str, BlobFile | None]]:
        image = source.resolve()
        if image.config is not None and job.config_digest in missing:
            yield job.config_digest, self._keep_config(job, image.config)
        files = [(layer, layer.file) for layer in image.layers if layer.file and layer.key in missing]
        for layer, file in sorted(files, key=lambda pair: -pair[1].size):
            media_type = layer.blob.media_type if layer.blob else media_types.DOCKER_LAYER_GZIP
            blob = LayerBlob(file.digest, file.size, ORIGINAL, media_type)
            self._record(job, layer.key, blob, compared=layer.compared)
            yield layer.key, replace(file, verifier=DigestVerifier(file.digest, file.size))
        wanted = _wanted_names(job, image, missing)
        compared = {layer.key for layer in image.layers if layer.compared}
        known = [blob.uncompressed_size for blob in self._blobs_of_others(job, missing)]
        for skip_sizes in (frozenset(filter(None, known)), frozenset[int]()):
            if not wanted:
                return
            watch = SourceStallCheck(job.image, control, self.progress.note)
            with source.export(set(wanted), skip_sizes=skip_sizes, check_stop=watch) as pieces:
                for piece in pieces:
                    control.check()
                    made = self._prepare_piece(
                        job, control, piece, wanted, chooser, compared, send_unfinished
                    )
                    if made is not None:
                        yield made
                    if not wanted:
                        return
        raise ImageChanged(
            f"the export of {job.image} is missing {len(wanted)} of its layers, including "
            f"{short(min(wanted))}",
            hint=f"check that the image is complete, then: pusher retry {job.id}",
        )

    def _prepare_piece(
        self,
        job: JobRecord,
        control: Control,
        piece: ExportPiece,
        wanted: dict[str, str],
        chooser: CompressionChooser,
        compared: Collection[str],
        send_unfinished: Callable[[UnfinishedBlob], None] | None,
    ) -> tuple[str, BlobFile | None] | None:
        """Return the blob of one piece and remove its name from ``wanted``; None if it is not wanted."""
        if piece.name == job.config_digest:
            wanted.pop(piece.name, None)
            return piece.name, self._keep_config(job, piece.stream.read())
        if piece.name is not None and piece.name not in wanted:
            return None
        label = piece.name or "a layer"
        reported = done = 0
        doing = "reading" if piece.kind == "blob" else "compressing"
        early: EarlyStart | None = None
        how: Compression | None = None

        def on_bytes(count: int) -> None:
            nonlocal reported, done
            self.activity.record_movement()
            control.record_source_movement()
            done += count
            if done - reported >= _REPORT_EVERY or done == piece.size:
                reported = done
                self.activity.record_progress()
                self.progress.preparing(job.id, label, done, piece.size, doing)
            if early is not None:
                early.start_if_large(done)

        if piece.kind == "blob" and piece.name is not None:
            diff_id = wanted[piece.name]
            spooled = self.spool.write_blob(
                piece.stream,
                digest=piece.name,
                size=piece.size,
                media_type=self._media_type(job, piece.name),
                on_bytes=on_bytes,
                check_stop=control.check,
            )
            wanted.pop(piece.name)
            self._record(job, diff_id, spooled, compared=diff_id in compared)
        else:
            begun = self._begun_compression(job, piece, chooser)
            how, stream = (begun, piece.stream) if begun else chooser.choose(piece.stream)
            early = self._early_start(job, piece, how, send_unfinished)
            try:
                spooled = self.spool.write_layer(
                    stream,
                    how=how,
                    expected_diff_id=piece.name,
                    arrival=None if early is None else early.unfinished.arrival,
                    on_bytes=on_bytes,
                    check_stop=control.check,
                )
                diff_id = spooled.diff_id or ""
                if wanted.pop(diff_id, None) is None:
                    self._remember(diff_id, spooled)
                    return None
                self._record(job, diff_id, spooled, compared=diff_id in compared)
            except BaseException as error:
                if early is not None:
                    early.unfinished.fail(damaged=isinstance(error, LayerMismatch))
                raise
        blob = BlobFile(spooled.digest, spooled.size, self.spool.path(spooled.digest))
        is_sent = early is not None and early.unfinished.finish(blob)
        compression = None if how is None else str(how)
        self.progress.prepared(job.id, label, spooled.digest, spooled.size, compression=compression)
        return diff_id, None if is_sent else blob

    def _begun_compression(
        self, job: JobRecord, piece: ExportPiece, chooser: CompressionChooser
    ) -> Compression | None:
        """Return the compression with which an earlier run began to send this layer, so that the bytes are
        the same; None if there is none, or another one is wanted now."""
        if piece.name is None:
            return None
        upload = self.store.uploads.unfinished(job.registry, job.repository, piece.name)
        return None if upload is None else chooser.parse(upload.compression)

    def _early_start(
        self,
        job: JobRecord,
        piece: ExportPiece,
        how: Compression,
        send_unfinished: Callable[[UnfinishedBlob], None] | None,
    ) -> EarlyStart | None:
        """Return how to send the layer's blob while it is compressed; None if that is switched off, the layer
        is small, or its blob is known."""
        if send_unfinished is None or piece.name is None or how.kind is Kind.NONE:
            return None
        link = self.registries.get(job.registry, job.repository).link
        least = 2 * link.first_size(self.settings.at(job.registry).chunk_size)
        layers = self.store.blobs.of_job(job.id)
        is_known = any(layer.digest for layer in layers if layer.key == piece.name)
        if piece.size < least or is_known or self.store.known_blobs.newest(piece.name):
            return None
        return EarlyStart(UnfinishedBlob(piece.name, piece.size, how), piece.size, least, send_unfinished)

    def _record(self, job: JobRecord, diff_id: str, blob: LayerBlob, *, compared: bool) -> None:
        """Store the blob. ``compared``: it was compressed already, and unpacked it has this diff ID."""
        if blob.compression != ORIGINAL:
            self._remember(diff_id, blob)
        elif compared:
            self._remember(diff_id, replace(blob, compression=COMPARED))
        self._set_blob(job, diff_id, blob)

    def _set_blob(self, job: JobRecord, key: str, blob: LayerBlob | Descriptor) -> None:
        self.store.blobs.set_blob(job, key, digest=blob.digest, size=blob.size, media_type=blob.media_type)

    def _remember(self, diff_id: str, blob: LayerBlob) -> None:
        """Store the blob for later images, too.

        Only for blobs verified here: an image's claims about its blobs count for that image only, or anyone
        could choose the blobs of our layers.
        """
        self.store.known_blobs.remember(replace(blob, diff_id=diff_id))

    def _keep_config(self, job: JobRecord, content: bytes) -> BlobFile:
        """Write the config to the spool, and to the store, which saves the export on a later push.

        Raises LayerMismatch if its digest is not the image's.
        """
        digest, size = job.config_digest, len(content)
        if (found := of_bytes(content, digest)) != digest:
            raise LayerMismatch(
                f"the image lists a config with digest {digest}, its source has {found}",
                hint="the source is damaged: save or pull the image again",
            )
        if not self.spool.has(digest, size):
            self.spool.write_blob(
                io.BytesIO(content), digest=digest, size=size, media_type=media_types.DOCKER_CONFIG
            )
        self.store.documents.put(digest, content)
        self.store.blobs.set_blob(job, digest, digest=digest, size=size, media_type=media_types.DOCKER_CONFIG)
        return BlobFile(digest, size, self.spool.path(digest))

    def _blobs_of_others(self, job: JobRecord, missing: Mapping[str, JobBlob]) -> list[LayerBlob]:
        """Return the known blobs of the job's layers that are not missing, which an export need not read."""
        others = {layer.key for layer in self.store.blobs.of_job(job.id)} - set(missing)
        return [blob for blobs in self.store.known_blobs.of_layers(others).values() for blob in blobs]

    def _media_type(self, job: JobRecord, digest: str) -> str:
        layers = self.store.blobs.of_job(job.id)
        found = next((layer.media_type for layer in layers if layer.digest == digest), None)
        return found or media_types.DOCKER_LAYER_GZIP


def _wanted_names(job: JobRecord, image: SourceImage, missing: Mapping[str, JobBlob]) -> dict[str, str]:
    """Return the names to request from an export, with the keys of their blobs."""
    wanted: dict[str, str] = {}
    if image.config is None and job.config_digest in missing:
        wanted[job.config_digest] = job.config_digest
    for layer in image.layers:
        if layer.file is None and layer.key in missing:
            wanted[layer.export_name] = layer.key
    return wanted
