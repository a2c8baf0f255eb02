"""Push one job: find blobs that the registry has, make and send the others, then the manifest."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from pusher.errors import DiskFull, SourceError
from pusher.oci.layer_blob import LayerBlob
from pusher.registry.client import BlobsUnknown
from pusher.registry.http.body import BlobFile
from pusher.sources.pins import RegistryPin
from pusher.spool.claims import Claims
from pusher.store.records import DONE_STATES, JobBlob, JobRecord
from pusher.units import human_bytes
from pusher.worker.blob_candidates import BlobCandidates
from pusher.worker.blob_sender import BlobSender
from pusher.worker.cleanup import evict_blobs
from pusher.worker.compression import RequestedCompression
from pusher.worker.control import Control
from pusher.worker.documents import blobs_missing_error
from pusher.worker.error_rank import most_important
from pusher.worker.job_uploads import JobUploads
from pusher.worker.manifest_push import ManifestPush
from pusher.worker.preparation import BlobPreparer

_MAX_DAMAGED: Final = 2
_MAX_MISSES: Final = 2


class JobPush:
    """One attempt at one job."""

    def __init__(self, sender: BlobSender, preparer: BlobPreparer, job: JobRecord, control: Control) -> None:
        self._sender = sender
        self._preparer = preparer
        self._worker = sender.worker
        self._store = sender.worker.store
        self._spool = sender.worker.spool
        self._job = job
        self._requested = RequestedCompression.for_job(job.options, sender.worker.settings)
        self._control = control
        self._candidates = BlobCandidates(self._worker, job, self._requested)
        self._uploads = JobUploads(sender, job, control)
        self._looks: dict[str, Future[str | None]] = {}
        self._distrusted: frozenset[str] = frozenset()
        self._misses = 0
        self._manifests = ManifestPush(preparer, job, control)
        self._opened = ExitStack()
        """What blobs are read from while they are sent."""

    def run(self) -> str:
        """Push the image; return its manifest's digest.

        Raises Stopped, LeaseLost, and the PusherError of the failure; progress until then is stored. When it
        returns or raises, nothing of this job is being sent any more.
        """
        if self._requested.is_explicit and self._manifests.documents:
            self._worker.progress.note(
                f"{self._job.image} has a manifest of its own and is sent as it is, "
                f"not as {self._requested.name}"
            )
        try:
            self._begin_check()
            self._bring_blobs()
            while True:
                try:
                    return self._manifests.put(self._candidates.pushed)
                except BlobsUnknown as unknown:
                    if not self._distrust(unknown.digests):
                        raise blobs_missing_error(unknown) from unknown
                self._bring_blobs()
        except Exception as error:
            self._control.stop()
            raise most_important([error, *self._uploads.errors()]) from error
        finally:
            self._opened.close()

    def _begin_check(self) -> None:
        """Check login, certificate and sizes while the first layer is read; nothing is sent before that."""
        layers = self._store.blobs.of_job(self._job.id)
        known = self._candidates.known([layer.key for layer in layers if layer.digest is None])
        self._uploads.begin_check(
            [self._candidates.of_layer(layer, known.get(layer.key, [])) for layer in layers]
        )

    def _bring_blobs(self) -> None:
        """Ensure that the registry has every blob of the image, config included."""
        for _ in range(_MAX_DAMAGED):
            missing = self._send_what_is_known()
            while missing:
                try:
                    self._prepare(missing)
                    break
                except DiskFull as full:
                    missing = self._make_room(missing, full)
            self._record_in_spool()
            damaged = self._uploads.finish()
            if not damaged:
                return
            for digest in damaged:
                self._spool.remove(digest)
        raise SourceError(
            f"the bytes of {damaged[0]} change while they are sent",
            hint="check the disk, and that nothing writes to the image while it is pushed",
        )

    def _record_in_spool(self) -> None:
        """Record that the shared spool has what this job needs, once it has: if this machine is lost, another
        one continues."""
        machine = self._worker.identity.machine
        if machine is None or machine.spool is None or self._job.machine != machine.id or self._job.spool:
            return
        layers = [each for each in self._store.blobs.of_job(self._job.id) if not each.is_config]
        if all(
            layer.state in DONE_STATES
            or (layer.digest is not None and self._spool.has(layer.digest, layer.size))
            for layer in layers
        ):
            self._store.jobs.record_in_spool(self._job, machine.spool)

    def _send_what_is_known(self) -> dict[str, JobBlob]:
        """Send blobs on disk, look for the rest at the registry; return those in neither place.

        Of an image in a registry it returns with the first, and all that are still looked for (``_looks``).
        """
        self._uploads.clear()
        self._looks = {}
        layers = self._candidates.layers()
        distinct = {layer.key: layer for layer in layers}
        unnamed = [layer.key for layer in layers if layer.digest is None]
        known = self._candidates.known(unnamed)
        looking: list[tuple[JobBlob, Future[str | None]]] = []
        missing: dict[str, JobBlob] = {}
        for layer in sorted(distinct.values(), key=lambda layer: -(layer.size or 0)):
            blobs = self._candidates.of_layer(layer, known.get(layer.key, []))
            on_disk = self._candidates.on_disk(blobs)
            if layer.is_config and (config := self._write_config()) is not None:
                self._send(config)
            elif on_disk is not None:
                self._candidates.choose(layer, on_disk, known.get(layer.key, []))
                self._send(on_disk)
            elif blobs and layer.digest not in self._distrusted:
                look = partial(self._locate, layer, blobs, known.get(layer.key, []))
                looking.append((layer, self._uploads.look(blobs[0], look)))
            else:
                missing[layer.key] = layer
        for index, (layer, future) in enumerate(looking):
            if future.result() is not None:
                continue
            missing[layer.key] = layer
            if self._job.source["kind"] == RegistryPin.kind:  # its blobs are fetched one by one
                self._looks = {each.key: look for each, look in looking[index + 1 :]}
                missing |= {each.key: each for each, _ in looking[index + 1 :]}
                break
        return missing

    def _write_config(self) -> BlobFile | None:
        """Write the config to the spool as ``BlobPreparer`` does, after making room if need be."""
        try:
            return self._preparer.config_blob(self._job)
        except DiskFull as full:
            self._make_room({}, full)
            return self._preparer.config_blob(self._job)

    def _drop_located(self, missing: dict[str, JobBlob]) -> None:
        """Remove the blobs that the registry has turned out to have."""
        for key, look in self._looks.items():
            if look.done() and look.result() is not None:
                missing.pop(key, None)

    def _locate(self, layer: JobBlob, blobs: Iterable[BlobFile], known: Iterable[LayerBlob]) -> str | None:
        for blob in blobs:
            self._candidates.choose(layer, blob, known)
            if found := self._sender.locate(self._job, self._control, blob):
                return found
            if layer.state in DONE_STATES:
                self._store.blobs.clear_done(self._job, [blob.digest])
        return None

    def _prepare(self, missing: dict[str, JobBlob]) -> None:
        """Make and send the missing blobs; remove the ones done from ``missing``.

        A layer is compressed once for all jobs that need it: one that another job compresses, here or in a
        worker with the same spool, is taken from disk once it is complete.
        """
        self._require_source()
        begun: set[str] = set()
        claims = Claims(self._spool.root)
        self._control.on_source = claims.touch
        while missing:
            with self._preparer.turn.take(self._control), claims:
                ours = claims.take(missing)
                self._take_what_others_made(missing)
                wanted = {diff_id: layer for diff_id, layer in missing.items() if diff_id in ours}
                if wanted:
                    early = None if self._worker.settings.no_early else self._uploads.send_unfinished
                    for diff_id, blob in self._preparer.prepare(
                        self._job, self._control, wanted, self._opened, early, self._looks
                    ):
                        if diff_id not in begun and blob is not None:
                            self._send(blob)
                        begun.add(diff_id)
                        if blob is None or blob.arrival is None:
                            claims.release(diff_id)
                            wanted.pop(diff_id, None)
                            missing.pop(diff_id, None)
            if missing and not wanted:
                self._worker.activity.record_progress()
                layer = next(iter(missing))
                pause = self._worker.settings.retry.layer_in_use
                self._worker.progress.waiting(layer, pause, "another job is compressing it", job=self._job.id)
                self._control.wait(pause)
                self._drop_located(missing)

    def _require_source(self) -> None:
        """Raise SourceError if the image is on another machine, and only blobs of it are in the spool."""
        machine, path = self._worker.identity.machine, str(self._job.source.get("path", ""))
        is_ours = machine is None or self._job.machine in (None, machine.id)
        if not is_ours and not Path(path).is_relative_to(self._spool.root):
            raise SourceError(f"the spool lacks blobs of {self._job.image}, which is on another machine")

    def _take_what_others_made(self, missing: dict[str, JobBlob]) -> None:
        """Send blobs that are on disk by now; remove them from ``missing``."""
        known = self._candidates.known(missing)
        for diff_id, layer in list(missing.items()):
            blobs = self._candidates.of_layer(layer, known[diff_id])
            on_disk = self._candidates.on_disk(blobs)
            if on_disk is not None and not layer.is_config:
                self._candidates.choose(layer, on_disk, known[diff_id])
                self._send(on_disk)
                del missing[diff_id]

    def _make_room(self, missing: dict[str, JobBlob], full: DiskFull) -> dict[str, JobBlob]:
        """Wait for the uploads and remove blobs no longer needed; raise ``full`` if that frees nothing."""
        note = self._worker.progress.note
        if not self._uploads.is_idle:
            note(f"{full.message}; waiting for uploads to free space")
        self._uploads.wait_until_idle()
        done = {
            layer.digest for layer in self._store.blobs.of_job(self._job.id) if layer.state in DONE_STATES
        }
        on_disk = set(filter(None, done))
        before = self._spool.usage()
        for digest in on_disk - self._store.blobs.needed_digests(on_disk):
            self._spool.remove(digest)
        evict_blobs(self._store, self._spool, 0)
        freed = before - self._spool.usage()
        if freed <= 0:
            raise full
        note(f"{full.message}; removed {human_bytes(freed)} of blobs that no job needs any more")
        return missing

    def _send(self, blob: BlobFile) -> None:
        self._uploads.send(blob, believe_head=blob.digest not in self._distrusted)

    def _distrust(self, digests: Collection[str]) -> bool:
        """Send blobs whatever HEAD says, as the registry lacks some that it reported; the second time all of
        them (some registries name only the first missing one). Return False if that was done already."""
        ours = self._manifests.digests() - self._manifests.documents
        self._misses += 1
        if self._misses > _MAX_MISSES or self._distrusted >= ours:
            return False
        if digests and self._manifests.documents.issuperset(digests):
            return True  # every manifest is put again
        named = ours & set(digests) if self._misses == 1 else ours
        self._distrusted = frozenset(named or ours)
        self._store.blobs.clear_done(self._job, self._distrusted)
        self._store.uploads.forget_present(self._job.registry, self._job.repository, self._distrusted)
        self._store.events.add(
            self._job.id,
            "blobs-unknown",
            f"the registry is missing {len(self._distrusted)} blobs that it reported to have; sending them "
            "again",
        )
        return True
