"""Push the manifests of one job, once the registry has its blobs; the tag is set last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pusher.errors import ImageUnsupported, PusherError
from pusher.oci import media_types
from pusher.oci.document import Document
from pusher.oci.manifest import Manifest, build_manifest
from pusher.retry import Attempts, retrying
from pusher.store.records import JobRecord
from pusher.worker.compression import ZSTD_NOTE
from pusher.worker.control import Control
from pusher.worker.documents import (
    DocumentPush,
    descriptor_of,
    final_digests,
    finish_drafts,
    load_documents,
)
from pusher.worker.preparation import BlobPreparer
from pusher.worker.tags import take_tag

if TYPE_CHECKING:
    from pusher.worker.docker_blobs import PushedImage


class ManifestPush:
    """Makes and sends the manifests of one attempt at one job."""

    def __init__(self, preparer: BlobPreparer, job: JobRecord, control: Control) -> None:
        self._preparer = preparer
        self._worker = preparer.worker
        self._store = preparer.worker.store
        self._job = job
        self._control = control
        self.documents = final_digests(job)
        """Digests of the manifests that are known."""

    def put(self, pushed: PushedImage | None) -> str:
        """Send the manifests once the registry has every blob: an index after its manifests, the tag last.

        Returns the digest at the tag. ``pushed``: the image that is at the tag, if it has the same layers.
        """
        stored = load_documents(self._store, self._job)
        *children, root = stored or self._finish_documents(pushed)
        self.documents |= {child.digest for child in children}
        for child in children:
            self._put(child, child.digest)
        digest = self._put(root, self._job.tag or root.digest)
        layers = self._store.blobs.of_job(self._job.id)
        if not stored and any(layer.media_type == media_types.OCI_LAYER_ZSTD for layer in layers):
            self._preparer.report_compression(self._job, ZSTD_NOTE, frozenset({ZSTD_NOTE}))
        return digest

    def _put(self, document: Document, reference: str) -> str:
        client = self._worker.registries.get(self._job.registry, self._job.repository).client
        delivery = DocumentPush(
            client,
            self._job,
            document,
            reference,
            self._store.jobs.add_bytes_sent,
            documents=self.documents,
            sent=self.digests,
            looks=self._worker.settings.retry.not_shown,
        )

        def wait(pause: float, error: PusherError) -> None:
            self._worker.progress.waiting(
                "manifest",
                pause,
                error.message,
                fault=error.code,
                registry=self._job.registry,
                job=self._job.id,
            )
            self._worker.registries.troubles.record_pause(self._job.registry, error, pause)
            self._control.wait(pause)
            self._take_turn(reference)

        self._take_turn(reference)
        retrying(delivery.put_and_confirm, Attempts(self._worker.settings.retry.step), wait)
        return document.digest

    def _take_turn(self, reference: str) -> None:
        """Check before each PUT that the job may continue. Raises Stopped, LeaseLost, TagNotYet, TagHeld."""
        self._control.check()
        if reference == self._job.tag:
            take_tag(self._store, self._worker.identity, self._job)
        else:
            self._store.jobs.check_lease(self._job)

    def _finish_documents(self, pushed: PushedImage | None) -> list[Document]:
        """Return the manifests made from the blobs, the root last."""
        blobs = {layer.key: descriptor_of(layer) for layer in self._store.blobs.of_job(self._job.id)}
        return finish_drafts(self._store, self._job, blobs) or [self._manifest(pushed)]

    def _manifest(self, pushed: PushedImage | None) -> Manifest:
        """Return the manifest made from the blobs, or an equivalent one at the tag."""
        config, *layers = self._store.blobs.of_job(self._job.id)
        for layer in layers:
            if layer.media_type not in media_types.TO_OCI:
                raise ImageUnsupported(
                    f"layer {layer.diff_id} is {layer.media_type}, and its image has no manifest of its own",
                    hint="save the image again with docker save or podman save",
                )
        described = [descriptor_of(layer) for layer in layers]
        if pushed is not None and pushed.has_content(descriptor_of(config), described):
            return pushed.manifest
        return build_manifest(descriptor_of(config), described)

    def digests(self) -> set[str]:
        """Return the digests of everything that this job pushes."""
        blobs = {layer.digest for layer in self._store.blobs.of_job(self._job.id) if layer.digest}
        return blobs | self.documents
