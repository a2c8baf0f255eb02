"""Bring one blob of a job to a registry: look for it there, and send it if it is missing."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from pusher.dataclass import dataclass
from pusher.errors import LeaseLost, PusherError
from pusher.registry.client import RegistryClient
from pusher.registry.http.body import BlobDamaged, BlobFile
from pusher.retry import Attempts, retrying
from pusher.spool.arrival import ArrivalFailed
from pusher.store.records import BlobState, JobRecord
from pusher.worker.control import Control
from pusher.worker.pool import BlobPool
from pusher.worker.rate import RateLimiter
from pusher.worker.upload_turns import UploadTurns
from pusher.worker.worker import Worker

if TYPE_CHECKING:
    from pusher.worker.blob_observer import BlobObserver
    from pusher.worker.unfinished import UnfinishedBlob
    from pusher.worker.upload_run import UploadRun

T = TypeVar("T")

_ABSENT: Final = 30.0
"""Seconds for which a HEAD that found no blob counts."""
_SMALL: Final = 1024 * 1024
"""Bytes below which a resend is not worth a confirmation."""


@dataclass(frozen=True)
class BlobSender:
    """Sends blobs for any job of this worker. Thread-safe."""

    worker: Worker
    pool: BlobPool
    limiter: RateLimiter
    turns: UploadTurns
    counted: dict[int, int] = field(default_factory=dict)
    """By upload id, the bytes in flight that this process has counted as sent."""
    chunk_sizes: dict[str, int] = field(default_factory=dict)
    """By registry, in bytes, of the session opened last."""
    observers: set[BlobObserver] = field(default_factory=set)
    """Of the blobs that are being sent; one may go to two registries at a time."""
    turns_reported: set[str] = field(default_factory=set)
    """The registries of which it was reported that uploads wait for a turn."""
    lone_uploads_reported: set[str] = field(default_factory=set)
    """The registries of which it was reported that large blobs are sent one at a time."""
    mounts_tried: set[tuple[str, str, str]] = field(default_factory=set)
    """By registry, repository and digest: a look for the blob asked for it to be mounted already."""
    _absent_until: dict[tuple[str, str, str], float] = field(default_factory=dict)
    """By the same: until when (``time.monotonic``) a HEAD need not be repeated."""
    _looking: dict[tuple[str, str, str], threading.Lock] = field(default_factory=dict)
    """By the same: held while a HEAD is under way."""

    def bytes_at_stake(self) -> int:
        """Return how many bytes must be sent again if every connection is closed now: those of interrupted
        chunks, or the whole layer at a registry that restarts it. 0: stopping costs nothing.

        Takes no lock and reads no store, so that a signal handler may call it.
        """
        return sum(observer.bytes_at_stake() for observer in list(self.observers))

    def bytes_worth_reporting(self) -> int:
        """Return ``bytes_at_stake``, 0 if it is only part of a small chunk."""
        observers = list(self.observers)
        cost = sum(observer.bytes_at_stake() for observer in observers)
        return cost if cost >= _SMALL or any(observer.may_restart() for observer in observers) else 0

    def locate(self, job: JobRecord, control: Control, blob: BlobFile) -> str | None:
        """Return ``exists`` or ``mounted`` if the blob need not be sent, else None; reads no byte of it.

        Raises the errors of BlobUpload once the retries here are used up, Stopped and LeaseLost.
        """
        return self._bring(job, control, blob, only_locate=True)

    def send(
        self, job: JobRecord, control: Control, blob: BlobFile, *, believe_head: bool = True
    ) -> str | None:
        """Send the blob unless the registry has it; return how. Raises like ``locate``, and BlobDamaged."""
        return self._bring(job, control, blob, believe_head=believe_head)

    def send_unfinished(self, job: JobRecord, control: Control, unfinished: UnfinishedBlob) -> str | None:
        """Send a layer's blob while it is being compressed, and the rest once it is complete; return how.

        Return None if it is not sent from here any more: it will not be complete, or someone else sends it.
        Raises like ``send``.
        """
        if not unfinished.begin():
            return None
        try:
            self._upload_run(job, control, unfinished.blob).send_full_chunks(unfinished)
        except (ArrivalFailed, BlobDamaged):
            pass  # its file is gone, the complete blob is read again, or the registry has it already
        finally:
            unfinished.stop_sending()
        if unfinished.complete is None:
            return None
        return self._bring(job, control, unfinished.complete, continues=True)

    def _bring(
        self,
        job: JobRecord,
        control: Control,
        blob: BlobFile,
        *,
        only_locate: bool = False,
        believe_head: bool = True,
        continues: bool = False,
    ) -> str | None:
        client = self.worker.registries.get(job.registry, job.repository).client
        look = partial(self._has_blob, client, job, blob)
        while True:
            if believe_head and self.retry(
                look, Attempts(self.worker.settings.retry.step), job, control, blob.digest
            ):
                self._forget_session(job, control, blob)
                return self._finish(job, blob, BlobState.EXISTS)
            try:
                found = self._upload_run(job, control, blob).run(
                    only_locate=only_locate, believe_head=believe_head, continues=continues
                )
                return None if found is None else self._finish(job, blob, BlobState(found))
            except LeaseLost:
                self.worker.store.jobs.check_lease(job)  # raises unless only the upload was lost

    def _upload_run(self, job: JobRecord, control: Control, blob: BlobFile) -> UploadRun:
        from pusher.worker.upload_run import UploadRun  # not for a push with nothing to send

        return UploadRun(self, job, control, blob)

    def look_ahead(self, job: JobRecord, unfinished: UnfinishedBlob, blob: BlobFile) -> None:
        """Ask whether the registry has a blob, complete now, while the last of its chunks that were sent
        before is under way, so that the next one need not wait for the answer. If it has, that chunk ends."""
        with contextlib.suppress(PusherError):  # who sends the rest asks again
            if unfinished.is_being_sent:
                client = self.worker.registries.client(job.registry, job.repository)
                unfinished.is_needless = self._has_blob(client, job, blob)

    def _has_blob(self, client: RegistryClient, job: JobRecord, blob: BlobFile) -> bool:
        """Return whether the registry has the blob; a recent HEAD that did not find it is not repeated."""
        key = job.registry, job.repository, blob.digest
        with self._looking.setdefault(key, threading.Lock()):
            if time.monotonic() < self._absent_until.get(key, 0.0):
                return False
            found = client.blob_exists(job.repository, blob.digest, blob.size)
            if not found:
                self._absent_until[key] = time.monotonic() + _ABSENT
            return found

    def _forget_session(self, job: JobRecord, control: Control, blob: BlobFile) -> None:
        """Forget the session and lease of a worker that died after the registry had closed the upload."""
        layers = self.worker.store.blobs.of_job(job.id)
        if any(layer.digest == blob.digest and layer.state == BlobState.UPLOADING for layer in layers):
            self._upload_run(job, control, blob).forget_session()

    def _finish(self, job: JobRecord, blob: BlobFile, how: BlobState) -> str:
        key = job.registry, job.repository, blob.digest
        self._absent_until.pop(key, None)
        self.mounts_tried.discard(key)
        self._looking.pop(key, None)
        self.worker.store.blobs.set_done(job, blob.digest, how)
        if how is not BlobState.EXISTS:  # every attempt finds that again
            self.worker.activity.record_progress()
        self.worker.progress.blob_done(job.id, blob.digest, blob.size, how)
        return str(how)

    def retry(
        self, step: Callable[[], T], attempts: Attempts, job: JobRecord, control: Control, digest: str
    ) -> T:
        """Call ``step`` until it returns; raise its last error once the attempts are used up."""

        def attempt() -> T:
            try:
                return step()
            except PusherError:
                self.worker.registries.links.save(job.registry)
                raise

        def wait(pause: float, error: PusherError) -> None:
            if self.worker.activity.seconds_idle >= self.worker.settings.give_up_after:
                raise error
            self.worker.registries.troubles.record_pause(job.registry, error, pause)
            self.worker.progress.waiting(
                digest, pause, error.message, fault=error.code, registry=job.registry, job=job.id
            )
            with self.worker.registries.stalls.pause():
                control.wait(pause)

        return retrying(attempt, attempts, wait)
