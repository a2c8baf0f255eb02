"""Turn a source into blobs on disk: one pass over an export, every layer compressed only once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Final

# used by what this calls; loaded here, as the registry's first response is still on its way
import pusher.spool.pipeline
import pusher.worker.upload_run  # noqa: F401
from pusher.errors import ImageChanged, LayerMismatch, StorageDoubtful
from pusher.oci import media_types
from pusher.oci.digest import short
from pusher.oci.layer_blob import COMPARED, ORIGINAL, LayerBlob
from pusher.oci.manifest import Descriptor
from pusher.registry.http.body import BlobFile
from pusher.registry.http.verified_file import DigestVerifier
from pusher.sources import reopen
from pusher.sources.base import ExportPiece, Pin, Source, SourceImage
from pusher.sources.engine.command import DOCKER
from pusher.sources.pins import EnginePin
from pusher.spool.arrival import LayerArrival
from pusher.spool.compress import Compression, Kind
from pusher.store.records import JobBlob, JobRecord
from pusher.worker.compression import RequestedCompression, compression_kind
from pusher.worker.compression_chooser import CompressionChooser
from pusher.worker.control import Control
from pusher.worker.documents import descriptor_of
from pusher.worker.job_link import JobLink
from pusher.worker.preparation import BlobPreparer
from pusher.worker.stall_notices import SourceStallCheck
from pusher.worker.unfinished import EarlyStart, UnfinishedBlob

_REPORT_EVERY: Final = 4 * 1024 * 1024
"""Bytes between two reports on a layer that is being compressed."""
_UNNAMED: Final = "a layer"


class PreparationRun:
    """One reading of a job's source, ``pin``; the other arguments are those of ``BlobPreparer.prepare``."""

    def __init__(
        self,
        preparer: BlobPreparer,
        pin: Pin,
        job: JobRecord,
        control: Control,
        missing: Mapping[str, JobBlob],
        opened: ExitStack,
        send_unfinished: Callable[[UnfinishedBlob], None] | None,
    ) -> None:
        worker = preparer.worker
        self._preparer = preparer
        self._worker = worker
        self._store = worker.store
        self._spool = worker.spool
        self._progress = worker.progress
        self._pin = pin
        self._job = job
        self._control = control
        self._missing = missing
        self._opened = opened
        self._send_unfinished = send_unfinished
        self._arrival: LayerArrival | None = None
        """Of the layer that is being compressed, if it is sent meanwhile."""
        # none of these leads back here: a cycle would keep the whole job until the garbage collector runs
        self._chooser = CompressionChooser(
            RequestedCompression.for_job(job.options, worker.settings),
            JobLink(
                worker.registries.links,
                job.registry,
                partial(worker.registries.response_seconds, job.registry),
                partial(worker.registries.round_trip, job.registry),
            ),
            partial(worker.store.events.add, job.id, "compression"),
        )

    def blobs(self) -> Iterator[tuple[str, BlobFile | None]]:
        """Yield what ``BlobPreparer.prepare`` yields."""
        if isinstance(self._pin, EnginePin):
            yield from self._blobs_in_docker(self._pin)
            if not self._missing:
                return
        source: Source | None = reopen(self._pin)
        while source is not None:
            try:
                yield from self._prepare_from(source)
                self._preparer.report_compression(self._job, self._chooser.summary(), self._chooser.chosen)
                return
            except (StorageDoubtful, LayerMismatch) as doubt:
                source = source.fall_back()
                if source is None:
                    raise
                self._progress.note(f"{doubt.message}; asking the engine for the image instead")

    def _blobs_in_docker(self, pin: EnginePin) -> Iterator[tuple[str, BlobFile]]:
        """Yield the blobs, to be read from Docker's content store while they are sent.

        Yield nothing if Docker does not let its content store be read.
        """
        if pin.kind != DOCKER.kind or pin.root_digest is None:
            return
        new_check = partial(SourceStallCheck, self._job.image, self._control, self._progress.note)
        from pusher.sources.engine.content_api import DockerContent

        content = self._opened.enter_context(
            DockerContent(pin.daemon, new_check, self._worker.settings.retry.source, self._control.wait)
        )
        if content.offers(pin.id):
            for layer in sorted(self._missing.values(), key=lambda layer: -(layer.size or 0)):
                blob = descriptor_of(layer)
                self._set_blob(layer.key, blob)
                yield layer.key, content.file_of(blob, pin.name)

    def _prepare_from(
        self,
        source: Source,
    ) -> Iterator[tuple[str, BlobFile | None]]:
        image = source.resolve()
        if image.config is not None and self._job.config_digest in self._missing:
            yield self._job.config_digest, self._preparer.keep_config(self._job, image.config)
        files = [(layer, layer.file) for layer in image.layers if layer.file and layer.key in self._missing]
        for layer, file in sorted(files, key=lambda pair: -pair[1].size):
            media_type = layer.blob.media_type if layer.blob else media_types.DOCKER_LAYER_GZIP
            blob = LayerBlob(file.digest, file.size, ORIGINAL, media_type)
            self._record(layer.key, blob, compared=layer.compared)
            yield layer.key, replace(file, verifier=DigestVerifier(file.digest, file.size))
        wanted = self._wanted_names(image)
        compared = {layer.key for layer in image.layers if layer.compared}
        known = [blob.uncompressed_size for blob in self._blobs_of_others()]
        for skip_sizes in (frozenset(filter(None, known)), frozenset[int]()):
            if not wanted:
                return
            stalls = SourceStallCheck(self._job.image, self._control, self._progress.note)
            check = partial(self._check_unless_owed, stalls)
            with source.export(set(wanted), skip_sizes=skip_sizes, check_stop=check) as pieces:
                for piece in pieces:
                    self._control.check()
                    made = self._prepare_piece(piece, wanted, compared)
                    if made is not None:
                        yield made
                    if not wanted:
                        return
        raise ImageChanged(
            f"the export of {self._job.image} is missing {len(wanted)} of its layers, including "
            f"{short(min(wanted))}",
            hint="check that the image is complete",
        )

    def _prepare_piece(
        self,
        piece: ExportPiece,
        wanted: dict[str, str],
        compared: Collection[str],
    ) -> tuple[str, BlobFile | None] | None:
        """Return the blob of one piece and remove its name from ``wanted``; None if it is not wanted."""
        if piece.name == self._job.config_digest:
            wanted.pop(piece.name, None)
            return piece.name, self._preparer.keep_config(self._job, piece.stream.read())
        if piece.name is not None and piece.name not in wanted:
            return None
        if piece.kind == "blob" and piece.name is not None:
            return self._keep_blob(piece, piece.name, wanted, compared)
        return self._compress_layer(piece, wanted, compared)

    def _keep_blob(
        self, piece: ExportPiece, digest: str, wanted: dict[str, str], compared: Collection[str]
    ) -> tuple[str, BlobFile]:
        """Return a blob of the image that is kept in the spool as it is."""
        spooled = self._spool.write_blob(
            piece.stream,
            digest=digest,
            size=piece.size,
            media_type=self._media_type(digest),
            on_bytes=self._reporter(piece, "reading"),
            check_stop=self._control.check,
        )
        diff_id = wanted.pop(digest)
        self._record(diff_id, spooled, compared=diff_id in compared)
        self._progress.prepared(self._job.id, digest, spooled.digest, spooled.size)
        return diff_id, self._spooled_file(spooled)

    def _compress_layer(
        self, piece: ExportPiece, wanted: dict[str, str], compared: Collection[str]
    ) -> tuple[str, BlobFile | None] | None:
        """Return the compressed blob of a layer, with None for one that was sent meanwhile; None for a layer
        that is not wanted."""
        begun = self._begun_compression(piece)
        how, stream = (begun, piece.stream) if begun else self._chooser.choose(piece.stream)
        early = self._early_start(piece, how)
        self._arrival = None if early is None else early.unfinished.arrival
        try:
            if early is not None:
                early.start_if_surely_large()
            spooled = self._spool.write_layer(
                stream,
                how=how,
                expected_diff_id=piece.name,
                size=piece.size,
                arrival=self._arrival,
                on_bytes=self._reporter(piece, "compressing", early),
                check_stop=partial(self._check_unless_owed, self._control.check),
            )
            diff_id = spooled.diff_id or ""
            if wanted.pop(diff_id, None) is None:
                self._remember(diff_id, spooled)
                return None
            self._record(diff_id, spooled, compared=diff_id in compared)
        except BaseException as error:
            if early is not None:
                early.unfinished.fail(damaged=isinstance(error, LayerMismatch))
            raise
        blob = self._spooled_file(spooled)
        is_sent = early is not None and early.unfinished.finish(blob)
        self._progress.prepared(
            self._job.id, piece.name or _UNNAMED, spooled.digest, spooled.size, compression=str(how)
        )
        return diff_id, None if is_sent else blob

    def _spooled_file(self, blob: LayerBlob) -> BlobFile:
        return BlobFile(blob.digest, blob.size, self._spool.path(blob.digest))

    def _reporter(
        self, piece: ExportPiece, doing: str, early: EarlyStart | None = None
    ) -> Callable[[int], None]:
        """Return what is to be called with the bytes that were read of a piece."""
        reported = done = 0

        def on_bytes(count: int) -> None:
            nonlocal reported, done
            self._worker.activity.record_movement()
            self._control.record_source_movement()
            done += count
            if done - reported >= _REPORT_EVERY or done == piece.size:
                reported = done
                self._worker.activity.record_progress()
                self._progress.preparing(self._job.id, piece.name or _UNNAMED, done, piece.size, doing)
            if early is not None:
                early.start_if_large(done)

        return on_bytes

    def _check_unless_owed(self, check: Callable[[], None]) -> None:
        """Check whether to stop, but not while a chunk that was begun waits for its bytes."""
        if self._arrival is None or not self._arrival.is_owed:
            check()

    def _begun_compression(self, piece: ExportPiece) -> Compression | None:
        """Return the compression with which an earlier run began to send this layer, so that the bytes are
        the same; None if there is none, or another one is wanted now."""
        if piece.name is None:
            return None
        upload = self._store.uploads.unfinished(self._job.registry, self._job.repository, piece.name)
        return None if upload is None else self._chooser.keep_begun(upload.compression)

    def _early_start(
        self,
        piece: ExportPiece,
        how: Compression,
    ) -> EarlyStart | None:
        """Return how to send the layer's blob while it is compressed; None if that is switched off, the layer
        is small, or its blob is known."""
        if self._send_unfinished is None or piece.name is None or how.kind is Kind.NONE:
            return None
        link = self._worker.registries.get(self._job.registry, self._job.repository).link
        wanted = self._worker.settings.at(self._job.registry).chunk_size
        least = link.first_size(wanted, is_unfinished=True)
        layers = self._store.blobs.of_job(self._job.id)
        known = self._store.known_blobs.of_layers([piece.name])[piece.name]
        is_known = any(layer.digest for layer in layers if layer.key == piece.name) or any(
            compression_kind(blob.media_type) is how.kind for blob in known
        )
        if piece.size < least or is_known:
            return None
        return EarlyStart(
            UnfinishedBlob(piece.name, piece.size, how), piece.size, least, self._send_unfinished
        )

    def _record(self, diff_id: str, blob: LayerBlob, *, compared: bool) -> None:
        """Store the blob. ``compared``: it was compressed already, and unpacked it has this diff ID."""
        if blob.compression != ORIGINAL:
            self._remember(diff_id, blob)
        elif compared:
            self._remember(diff_id, replace(blob, compression=COMPARED))
        self._set_blob(diff_id, blob)

    def _set_blob(self, key: str, blob: LayerBlob | Descriptor) -> None:
        self._store.blobs.set_blob(
            self._job, key, digest=blob.digest, size=blob.size, media_type=blob.media_type
        )

    def _remember(self, diff_id: str, blob: LayerBlob) -> None:
        """Store the blob for later images, too.

        Only for blobs verified here: an image's claims about its blobs count for that image only, or anyone
        could choose the blobs of our layers.
        """
        self._store.known_blobs.remember(replace(blob, diff_id=diff_id))

    def _blobs_of_others(self) -> list[LayerBlob]:
        """Return the known blobs of the job's layers that are not missing, which an export need not read."""
        others = {layer.key for layer in self._store.blobs.of_job(self._job.id)} - set(self._missing)
        return [blob for blobs in self._store.known_blobs.of_layers(others).values() for blob in blobs]

    def _media_type(self, digest: str) -> str:
        layers = self._store.blobs.of_job(self._job.id)
        found = next((layer.media_type for layer in layers if layer.digest == digest), None)
        return found or media_types.DOCKER_LAYER_GZIP

    def _wanted_names(self, image: SourceImage) -> dict[str, str]:
        """Return the names to request from an export, with the keys of their blobs."""
        wanted: dict[str, str] = {}
        if image.config is None and self._job.config_digest in self._missing:
            wanted[self._job.config_digest] = self._job.config_digest
        for layer in image.layers:
            if layer.file is None and layer.key in self._missing:
                wanted[layer.export_name] = layer.key
        return wanted
