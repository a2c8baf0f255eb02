"""Send one blob of a job to a registry: lease, journal, retries, progress."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from pusher.config import Settings
from pusher.errors import LeaseLost, PusherError, Stopped
from pusher.oci.digest import short
from pusher.progress.base import Progress
from pusher.progress.format import human_bytes
from pusher.registry.client import RegistryClient
from pusher.registry.http.body import BlobDamaged, BlobFile
from pusher.registry.upload.blob_sizes import check_size
from pusher.registry.upload.upload import BlobUpload
from pusher.retry import Attempts, retrying
from pusher.sources.registry.source import mountable_repositories
from pusher.spool.arrival import ArrivalFailed
from pusher.store.records import BlobState, JobRecord, UploadRecord
from pusher.store.store import Store
from pusher.worker.blob_observer import BlobObserver
from pusher.worker.control import Activity, Control
from pusher.worker.liveness import WorkerIdentity
from pusher.worker.pool import BlobPool
from pusher.worker.rate import RateLimiter
from pusher.worker.registries import Registries
from pusher.worker.store_journal import StoreJournal
from pusher.worker.unfinished import UnfinishedBlob, is_prefix

T = TypeVar("T")

_ABSENT: Final = 30.0
"""Seconds for which a HEAD that found no blob counts."""
_SMALL: Final = 1024 * 1024
"""Bytes below which a resend is not worth a confirmation."""


@dataclass(frozen=True)
class BlobSender:
    """Sends blobs for any job of this worker. Thread-safe."""

    store: Store
    settings: Settings
    registries: Registries
    identity: WorkerIdentity
    progress: Progress
    activity: Activity
    limiter: RateLimiter
    pool: BlobPool
    counted: dict[int, int] = field(default_factory=dict)
    chunk_sizes: dict[str, int] = field(default_factory=dict)
    """By registry, in bytes, of the session opened last."""
    observers: dict[str, BlobObserver] = field(default_factory=dict)
    """By digest, of the blobs that are being sent."""
    absent_until: dict[tuple[str, str, str], float] = field(default_factory=dict)
    """By registry, repository and digest: until when (``time.monotonic``) a HEAD need not be repeated."""

    def bytes_at_stake(self) -> int:
        """Return how many bytes must be sent again if every connection is closed now: those of interrupted
        chunks, or the whole layer at a registry that restarts it. 0: stopping costs nothing.

        Takes no lock and reads no store, so that a signal handler may call it.
        """
        return sum(observer.bytes_at_stake() for observer in list(self.observers.values()))

    def bytes_worth_reporting(self) -> int:
        """Return ``bytes_at_stake``, 0 if it is only part of a small chunk."""
        observers = list(self.observers.values())
        cost = sum(observer.bytes_at_stake() for observer in observers)
        return cost if cost >= _SMALL or any(observer.may_restart() for observer in observers) else 0

    def locate(self, job: JobRecord, control: Control, blob: BlobFile) -> str | None:
        """Return ``exists`` or ``mounted`` if the blob need not be sent, else None; reads no byte of it.

        Raises the errors of BlobUpload once the retries here are used up, Stopped and LeaseLost.
        """
        return self._run(job, control, blob, BlobUpload.locate, believe_head=True)

    def send(
        self, job: JobRecord, control: Control, blob: BlobFile, *, believe_head: bool = True
    ) -> str | None:
        """Send the blob unless the registry has it; return how. Raises like ``locate``, and BlobDamaged."""
        return self._run(job, control, blob, BlobUpload.run, believe_head=believe_head)

    def send_unfinished(self, job: JobRecord, control: Control, unfinished: UnfinishedBlob) -> str | None:
        """Send a layer's blob while it is being compressed, and the rest once it is complete; return how.

        Return None if it is not sent from here any more: it will not be complete, or someone else sends it.
        Raises like ``send``.
        """
        if not unfinished.begin():
            return None
        try:
            self._send_full_chunks(job, control, unfinished)
        except (ArrivalFailed, BlobDamaged):
            pass  # its file is gone: the compressor failed, or the complete blob is read again
        finally:
            unfinished.stop_sending()
        if unfinished.complete is None:
            return None
        return self._run(job, control, unfinished.complete, BlobUpload.run, believe_head=True, continues=True)

    def _send_full_chunks(self, job: JobRecord, control: Control, unfinished: UnfinishedBlob) -> None:
        """Send full chunks until the blob is complete; the session stays in the store for the rest."""
        blob = unfinished.blob
        upload = self._try_to_acquire(job, blob.digest, unfinished.compression)
        if upload is None:
            return
        journal = self._journal(job, blob, upload, unfinished.arrival.prefix_digest)
        observer = BlobObserver(self, job, control, blob, journal)
        unfinished.on_complete(partial(self._give_digest, journal, observer))
        self.observers[blob.digest] = observer
        try:
            session = journal.load()
            if session is not None and not unfinished.begins_like(upload, session, control.check):
                self._discard_session(job, journal, "the layer was compressed to other bytes before")
            attempt = self._upload(job, blob, journal, observer, believe_head=False, looked=True)
            self._retry(attempt.run, observer.attempts, job, control, blob.digest)
            self._check_session(job, journal, unfinished)
        except (Stopped, BlobDamaged) as stop:
            if isinstance(stop, ArrivalFailed | BlobDamaged):  # its file is gone, whatever the reason
                unfinished.wait_for_end()
            if unfinished.is_damaged:
                self._discard_session(job, journal, "the layer is damaged")
            raise
        except LeaseLost:
            self.store.jobs.check_lease(job)  # else only the upload was lost
        finally:
            self.observers.pop(blob.digest, None)
            with contextlib.suppress(LeaseLost):
                self.store.uploads.release(journal.upload)

    def _give_digest(self, journal: StoreJournal, observer: BlobObserver, blob: BlobFile) -> bool:
        """Record the digest of what was unfinished; return False if the blob has another upload."""
        try:
            ours = self.store.uploads.give_digest(journal.upload, blob.digest)
        except LeaseLost:
            return False
        if ours:
            observer.blob = blob
        return ours

    def _check_session(self, job: JobRecord, journal: StoreJournal, unfinished: UnfinishedBlob) -> None:
        """Discard the session of a blob, complete now, if it cannot end well. Raises LayerTooLarge."""
        session, blob = journal.load(), unfinished.complete
        if session is None:
            return
        if blob is None:
            self._discard_session(job, journal, "another upload of the same blob is under way")
        elif session.profile.equal_chunks and blob.size % session.chunk_size == 1:
            self._discard_session(job, journal, "its last chunk would be one byte, which registries refuse")
        else:
            try:
                check_size(blob.digest, blob.size, session.profile, job.registry)
            except PusherError as error:
                self._discard_session(job, journal, error.message)
                raise

    def _continue_begun_session(
        self, job: JobRecord, control: Control, blob: BlobFile, upload: UploadRecord
    ) -> UploadRecord:
        """Take over the session that a stopped worker began while it compressed this layer, if it fits."""
        if upload.location is not None:
            return upload
        layers = self.store.blobs.of_job(job.id)
        for diff_id in {layer.diff_id for layer in layers if layer.digest == blob.digest and layer.diff_id}:
            begun = self.store.uploads.unfinished(job.registry, job.repository, diff_id)
            if begun is None:
                continue
            begun = self._try_to_acquire(job, begun.digest, begun.compression)
            if begun is None:
                continue
            journal = self._journal(job, blob, begun)
            session = journal.load()
            if session is not None and is_prefix(blob, begun, session, control.check):
                return self.store.uploads.take_session(upload, begun)
            self._discard_session(job, journal, "the layer was compressed to other bytes before")
            self.store.uploads.release(journal.upload)
        return upload

    def _run(
        self,
        job: JobRecord,
        control: Control,
        blob: BlobFile,
        step: Callable[[BlobUpload], str | None],
        *,
        believe_head: bool,
        continues: bool = False,
    ) -> str | None:
        client = self.registries.get(job.registry, job.repository).client
        look = partial(self._has_blob, client, job, blob)
        while True:
            if believe_head and self._retry(
                look, Attempts(self.settings.retry.step), job, control, blob.digest
            ):
                self._forget_session(job, control, blob)
                return self._finish(job, blob, BlobState.EXISTS)
            upload, waited = self._acquire(job, control, blob.digest)
            if step is BlobUpload.run:
                upload = self._continue_begun_session(job, control, blob, upload)
            journal = self._journal(job, blob, upload)
            observer = BlobObserver(self, job, control, blob, journal, continues=continues)
            attempt = self._upload(
                job,
                blob,
                journal,
                observer,
                believe_head=believe_head,
                looked=not waited,
                continues=continues,
            )
            self.observers[blob.digest] = observer
            try:
                found = self._retry(partial(step, attempt), observer.attempts, job, control, blob.digest)
                if found is None:
                    return None
                journal.record_arrival(found)
                return self._finish(job, blob, BlobState(found))
            except LeaseLost:
                self.store.jobs.check_lease(job)  # the job is not ours: leave; else only the upload was lost
            except BlobDamaged:
                self._discard_session(job, journal, "the file that it is read from was changed")
                raise
            finally:
                self.observers.pop(blob.digest, None)
                observer.report_loss()
                with contextlib.suppress(LeaseLost):
                    self.store.uploads.release(journal.upload)

    def _has_blob(self, client: RegistryClient, job: JobRecord, blob: BlobFile) -> bool:
        """Return whether the registry has the blob; a recent HEAD that did not find it is not repeated."""
        key = job.registry, job.repository, blob.digest
        if time.monotonic() < self.absent_until.get(key, 0.0):
            return False
        found = client.blob_exists(job.repository, blob.digest, blob.size)
        if not found:
            self.absent_until[key] = time.monotonic() + _ABSENT
        return found

    def _discard_session(self, job: JobRecord, journal: StoreJournal, reason: str) -> None:
        """Delete a session that cannot become the blob, so that nothing resumes from it."""
        session = journal.load()
        if session is not None:
            journal.record_loss(reason)
            with contextlib.suppress(PusherError):
                client = self.registries.get(job.registry, job.repository).client
                client.delete_upload(job.repository, session.location)

    def _forget_session(self, job: JobRecord, control: Control, blob: BlobFile) -> None:
        """Forget the session and lease of a worker that died after the registry had closed the upload."""
        layers = self.store.blobs.of_job(job.id)
        if any(layer.digest == blob.digest and layer.state == BlobState.UPLOADING for layer in layers):
            upload, _ = self._acquire(job, control, blob.digest)
            with contextlib.suppress(LeaseLost):
                self._journal(job, blob, upload).record_arrival("exists")

    def _journal(
        self,
        job: JobRecord,
        blob: BlobFile,
        upload: UploadRecord,
        prefix_digest: Callable[[int], str | None] = lambda end: None,  # noqa: ARG005
    ) -> StoreJournal:
        return StoreJournal(
            self.store,
            self.registries.links,
            upload,
            job.id,
            self.progress.note,
            self.counted,
            partial(self._report_chunk_size, job, blob),
            prefix_digest,
        )

    def _report_chunk_size(self, job: JobRecord, blob: BlobFile, digest: str, size: int) -> None:
        """Report a chunk size that differs from the last session's because of the link."""
        before = self.chunk_sizes.get(job.registry)
        fixed = self.settings.at(job.registry).chunk_size is not None
        if fixed or size == before or blob.size <= size:
            return
        self.chunk_sizes[job.registry] = size
        link = self.registries.get(job.registry, job.repository).link
        why = f"chunks of {human_bytes(size)}: {link.describe(size)}"
        self.store.events.add(job.id, "chunk-size", f"{digest}: {why}")
        if before is not None:
            self.progress.note(f"{short(digest)}: {why}")

    def _finish(self, job: JobRecord, blob: BlobFile, how: BlobState) -> str:
        self.absent_until.pop((job.registry, job.repository, blob.digest), None)
        self.store.blobs.set_done(job, blob.digest, how)
        if how is not BlobState.EXISTS:  # every attempt finds that again
            self.activity.record_progress()
        self.progress.blob_done(job.id, blob.digest, blob.size, how)
        return str(how)

    def _acquire(self, job: JobRecord, control: Control, digest: str) -> tuple[UploadRecord, bool]:
        """Acquire this blob's upload once no other worker sends it to the registry; return if we waited."""
        waited = False
        while True:
            control.check()
            upload = self._try_to_acquire(job, digest)
            if upload is not None:
                return upload, waited
            waited = True
            self.activity.record_progress()
            pause = self.settings.retry.blob_in_use
            self.progress.waiting(short(digest), pause, "another worker is sending it")
            with self.registries.stalls.pause():
                control.wait(pause)

    def _try_to_acquire(
        self, job: JobRecord, digest: str, compression: str | None = None
    ) -> UploadRecord | None:
        """Acquire an upload; None while another worker has it."""
        return self.store.uploads.acquire(
            job.registry,
            job.repository,
            digest,
            owner=self.identity.owner,
            lease=self.identity.lease,
            dead_owners=self.identity.find_dead_owners(self.store),
            spared=self.identity.find_doubtful_owners(self.store),
            compression=compression,
        )

    def _upload(
        self,
        job: JobRecord,
        blob: BlobFile,
        journal: StoreJournal,
        observer: BlobObserver,
        *,
        believe_head: bool,
        looked: bool,
        continues: bool = False,
    ) -> BlobUpload:
        connection = self.registries.get(job.registry, job.repository)
        holders = [
            *mountable_repositories(job.source, job.registry),
            *self.store.uploads.holders(job.registry, blob.digest),
        ]
        return BlobUpload(
            connection.client,
            job.repository,
            blob,
            journal,
            observer,
            connection.link,
            chunk_size=self.settings.at(job.registry).chunk_size,
            mount_from=next(
                # a registry that misses what it said it had may have lied about a mount, too
                (name for name in holders if name != job.repository and believe_head),
                None,
            ),
            forced=self.settings.at(job.registry).profile,
            believe_head=believe_head,
            looked=looked,
            continues=continues,
        )

    def _retry(
        self, step: Callable[[], T], attempts: Attempts, job: JobRecord, control: Control, digest: str
    ) -> T:
        def attempt() -> T:
            try:
                return step()
            except PusherError:
                self.registries.links.save(job.registry)
                raise

        def wait(pause: float, error: PusherError) -> None:
            if self.activity.seconds_idle >= self.settings.give_up_after:
                raise error
            self.progress.waiting(
                short(digest), pause, error.message, fault=error.code, registry=job.registry
            )
            with self.registries.stalls.pause():
                control.wait(pause)

        return retrying(attempt, attempts, wait)
