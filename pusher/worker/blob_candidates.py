"""Find the blobs that a layer of a job may have: its own, known ones, those of the image at the tag."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from pusher.oci.layer_blob import LayerBlob
from pusher.registry.http.body import BlobFile
from pusher.store.records import JobBlob, JobRecord
from pusher.worker.compression import RequestedCompression
from pusher.worker.worker import Worker

if TYPE_CHECKING:
    from pusher.worker.docker_blobs import PushedImage


class BlobCandidates:
    """The blobs that the layers of one job may have."""

    def __init__(self, worker: Worker, job: JobRecord, requested: RequestedCompression) -> None:
        self._worker = worker
        self._store = worker.store
        self._spool = worker.spool
        self._job = job
        self._requested = requested
        self.pushed: PushedImage | None = None
        """The image at the job's tag, if it has the same layers."""

    def layers(self) -> list[JobBlob]:
        """Return the job's layers; those never compressed here get the blobs that Docker made of them, if the
        image at our tag has these."""
        layers = self._store.blobs.of_job(self._job.id)
        unnamed = {layer.key for layer in layers if layer.digest is None}
        unknown = {diff_id for diff_id, known in self.known(unnamed).items() if not known}
        if not unknown or self.pushed is not None:
            return layers
        from pusher.sources.pins import pin_from_json
        from pusher.worker.docker_blobs import find_pushed_image

        self.pushed = find_pushed_image(
            self._worker.registries.client(self._job.registry, self._job.repository),
            self._job.repository,
            self._job.tag,
            pin_from_json(self._job.source),
            unknown,
            self._worker.settings.docker_root,
        )
        if self.pushed is None:
            return layers
        for diff_id, blob in self.pushed.blobs.items():
            if self._requested.accepts(blob.media_type):
                self._store.blobs.set_blob(
                    self._job, diff_id, digest=blob.digest, size=blob.size, media_type=blob.media_type
                )
        return self._store.blobs.of_job(self._job.id)

    def known(self, diff_ids: Collection[str]) -> dict[str, list[LayerBlob]]:
        """Return the known blobs that can be used for these layers, the newest first."""
        known = self._store.known_blobs.of_layers(diff_ids)
        return {diff_id: self._requested.usable_blobs(diff_id, blobs) for diff_id, blobs in known.items()}

    def of_layer(self, layer: JobBlob, known: Iterable[LayerBlob]) -> list[BlobFile]:
        """Return the blobs that can be used for a layer: its own, or any known one."""
        if layer.digest is not None and layer.size is not None:
            digests = [(layer.digest, layer.size)]
        else:
            digests = [(blob.digest, blob.size) for blob in known]
        return [BlobFile(digest, size, self._spool.path(digest)) for digest, size in digests]

    def on_disk(self, blobs: Iterable[BlobFile]) -> BlobFile | None:
        """Return the first of the blobs that the spool has."""
        return next((blob for blob in blobs if self._spool.has(blob.digest, blob.size)), None)

    def choose(self, layer: JobBlob, blob: BlobFile, known: Iterable[LayerBlob]) -> None:
        """Record that the layer gets this blob, if it is a known one."""
        chosen = next((each for each in known if each.digest == blob.digest), None)
        if layer.digest is None and chosen is not None:
            self._store.blobs.set_blob(
                self._job, layer.key, digest=chosen.digest, size=chosen.size, media_type=chosen.media_type
            )
