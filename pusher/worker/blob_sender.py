"""Send one blob of a job to a registry: lease, journal, retries, progress."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from pusher.config import Settings
from pusher.errors import LeaseLost, PusherError
from pusher.oci.digest import short
from pusher.progress.base import Progress
from pusher.progress.format import human_bytes
from pusher.registry.client import RegistryClient
from pusher.registry.http.body import BlobDamaged, BlobFile
from pusher.registry.upload import profiles
from pusher.registry.upload.upload import BlobUpload
from pusher.retry import Attempts, retrying
from pusher.sources.registry.source import mountable_repositories
from pusher.store.records import BlobState, JobRecord, UploadRecord
from pusher.store.store import Store
from pusher.worker.control import Activity, Control
from pusher.worker.liveness import WorkerIdentity
from pusher.worker.rate import RateLimiter
from pusher.worker.registries import Registries
from pusher.worker.store_journal import StoreJournal

T = TypeVar("T")

_REPORT_BYTES: Final = 256 * 1024
_REPORT_SECONDS: Final = 1.0
"""Bytes, and seconds, between two progress reports of a chunk."""
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
    limiter: RateLimiter | None = None
    counted: dict[int, int] = field(default_factory=dict)
    chunk_sizes: dict[str, int] = field(default_factory=dict)
    """By registry, in bytes, of the session opened last."""
    observers: dict[str, _BlobObserver] = field(default_factory=dict)
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

    def _run(
        self,
        job: JobRecord,
        control: Control,
        blob: BlobFile,
        step: Callable[[BlobUpload], str | None],
        *,
        believe_head: bool,
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
            journal = self._journal(job, blob, upload)
            observer = _BlobObserver(self, job, control, blob, journal)
            attempt = self._upload(job, blob, journal, observer, believe_head=believe_head, looked=not waited)
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
                self._discard_session(job, journal)
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

    def _discard_session(self, job: JobRecord, journal: StoreJournal) -> None:
        """Delete a session whose bytes are not the blob's, so that nothing resumes from them."""
        session = journal.load()
        if session is not None:
            journal.record_loss("the file that it is read from was changed")
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

    def _journal(self, job: JobRecord, blob: BlobFile, upload: UploadRecord) -> StoreJournal:
        return StoreJournal(
            self.store,
            self.registries.links,
            upload,
            job.id,
            self.progress.note,
            self.counted,
            partial(self._report_chunk_size, job, blob),
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
            upload = self.store.uploads.acquire(
                job.registry,
                job.repository,
                digest,
                owner=self.identity.owner,
                lease=self.identity.lease,
                dead_owners=self.identity.find_dead_owners(self.store),
                spared=self.identity.find_doubtful_owners(self.store),
            )
            if upload is not None:
                return upload, waited
            waited = True
            self.activity.record_progress()
            pause = self.settings.retry.blob_in_use
            self.progress.waiting(short(digest), pause, "another worker is sending it")
            with self.registries.stalls.pause():
                control.wait(pause)

    def _upload(
        self,
        job: JobRecord,
        blob: BlobFile,
        journal: StoreJournal,
        observer: _BlobObserver,
        *,
        believe_head: bool,
        looked: bool,
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
            self.progress.waiting(short(digest), pause, error.message)
            with self.registries.stalls.pause():
                control.wait(pause)

        return retrying(attempt, attempts, wait)


class _BlobObserver:
    """Reports an upload's progress; acknowledged bytes reset its retries."""

    def __init__(
        self, sender: BlobSender, job: JobRecord, control: Control, blob: BlobFile, journal: StoreJournal
    ) -> None:
        self.attempts = Attempts(sender.settings.retry.step)
        self._sender = sender
        self._job = job
        self._control = control
        self._blob = blob
        self._journal = journal
        self._offset = journal.upload.offset
        self._furthest = max(self._offset, journal.upload.furthest or 0)
        self._started = False
        self._in_flight = 0
        self._reported = 0
        self._reported_at = 0.0

    def check(self) -> None:
        self._control.check()

    def allowance(self, wanted: int) -> int:
        if self._sender.limiter is None:
            return wanted
        allowed = self._sender.limiter.take(wanted, self._check_lease_if_cheap)
        if self._offset + self._in_flight >= self._furthest:
            self._sender.activity.record_progress()
        return allowed

    def _check_lease_if_cheap(self) -> None:
        """Stop waiting for bandwidth if the job is to stop, unless that would cost the whole session."""
        profile = profiles.PROFILES.get(self._journal.upload.profile or "", profiles.DEFAULT)
        if not profile.may_restart:
            self._control.check_lease()

    def bytes_at_stake(self) -> int:
        """Return how many bytes of this blob must be sent again if the connection is closed now."""
        session = self._journal.load()
        return 0 if session is None else session.cost_of_break(self._in_flight, self._blob.size)

    def may_restart(self) -> bool:
        """Return whether that is more than what is in flight, as the registry would restart the blob."""
        return self.bytes_at_stake() > self._in_flight

    def report_loss(self) -> None:
        """Show that all of a blob is at risk after a break inside a chunk, where the registry may
        restart it: while its job waits, nothing else shows it."""
        session = self._journal.load()
        if session is not None and session.in_flight and session.profile.may_restart:
            self._sender.progress.blob_acknowledged(self._blob.digest, 0)

    def report_sent(self, in_flight: int) -> None:
        self._sender.activity.record_movement()
        self._control.record_movement()
        self._in_flight = in_flight
        if not self._started:
            self._started = True
            self._sender.progress.blob_started(self._job.id, self._blob.digest, self._blob.size, self._offset)
        now = time.monotonic()
        if (
            in_flight == 0
            or in_flight - self._reported >= _REPORT_BYTES
            or now - self._reported_at >= _REPORT_SECONDS
        ):
            self._reported, self._reported_at = in_flight, now
            self._sender.progress.blob_sending(self._blob.digest, in_flight)

    def report_acknowledged(self, offset: int) -> None:
        if offset > self._furthest:  # what was lost and is sent again is no progress
            self._furthest = offset
            self.attempts.reset()
            self._sender.activity.record_progress()
        self._offset = offset
        self._sender.progress.blob_acknowledged(self._blob.digest, offset)
        self._sender.registries.links.save(self._job.registry)
