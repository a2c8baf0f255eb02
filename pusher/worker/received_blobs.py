"""Send the blobs of an image that a client still sends to ``pusher serve``, as they come."""

from __future__ import annotations

import time
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pusher.errors import PusherError, Retry
from pusher.oci.digest import algorithm_of, hex_of
from pusher.registry.http.body import BlobDamaged, BlobFile
from pusher.store.records import DONE_STATES, JobBlob, JobRecord, StoredError
from pusher.worker import preflight
from pusher.worker.control import Control
from pusher.worker.error_rank import most_important

if TYPE_CHECKING:
    from pusher.worker.blob_sender import BlobSender

_LOOK: Final = 0.25
"""Seconds between checks for more blobs."""
_QUIET: Final = 1.0
"""Seconds without a blob to send after which the job leaves its worker."""


class ReceivedBlobs:
    """The blobs of one job without a manifest, while a worker has it."""

    def __init__(self, sender: BlobSender, job: JobRecord, control: Control) -> None:
        self._sender = sender
        self._store = sender.worker.store
        self._job = job
        self._folder = Path(str(job.source["folder"]))
        self._control = control
        self._sending: dict[str, Future[str | None]] = {}
        self._missing: set[str] = set()

    def send(self) -> JobRecord | None:
        """Send blobs until the manifest comes, and return the job, which has it now; or until there is
        nothing to send, and return None: the job is released.

        After an error that a retry does not fix, no more blobs are sent: the push of the manifest reports it.
        When it returns or raises, nothing of this job is being sent any more. Raises Stopped, LeaseLost,
        StoreError, and the PusherError that makes the job wait.
        """
        try:
            return self._send_until_manifest()
        except Exception:
            self._control.stop()
            raise
        finally:
            for future in self._sending.values():
                future.exception()  # waits; the push of the manifest tries again what failed

    def _send_until_manifest(self) -> JobRecord | None:
        quiet_since = time.monotonic()
        while True:
            self._control.check()
            job = self._store.jobs.get(self._job.id)
            if job.has_manifest:
                return job
            self._store.jobs.check_lease(self._job)
            refusal = self._start_sending()
            if not all(future.done() for future in self._sending.values()):
                quiet_since = time.monotonic()
            elif refusal is not None or time.monotonic() - quiet_since >= _QUIET:
                if self._store.received_jobs.release(self._job, refusal, missing=self._missing):
                    return None
                continue
            self._control.wait(_LOOK)

    def _start_sending(self) -> StoredError | None:
        """Queue the blobs that came since the last time; return an error after which nothing more is sent.

        Raises the PusherError of an upload that is worth another try.
        """
        try:
            errors = [one.exception() for one in self._sending.values() if one.done()]
            if any(errors):
                raise most_important(error for error in errors if error is not None)
            new = [
                file
                for blob in self._store.blobs.of_job(self._job.id)
                if blob.digest not in self._sending and (file := self._file_of(blob)) is not None
            ]
            preflight.refuse_too_large(self._sender.worker, self._job, [[file] for file in new])
            for file in new:
                self._submit(file)
        except BlobDamaged as error:
            return StoredError("source", f"the received blob {error} was changed on disk", "push it again")
        except PusherError as error:
            if error.retry is not Retry.NEVER:
                raise
            return StoredError(error.code, error.message, error.hint)
        return None

    def _file_of(self, blob: JobBlob) -> BlobFile | None:
        """Return the file of a blob that is to be sent; None if there is none."""
        if blob.state in DONE_STATES or blob.digest is None or blob.size is None:
            return None
        path = self._folder / algorithm_of(blob.digest) / hex_of(blob.digest)
        if path.exists():
            return BlobFile(blob.digest, blob.size, path)
        self._missing.add(blob.digest)
        return None

    def _submit(self, blob: BlobFile) -> None:
        rank = (-self._job.priority, self._job.id, -blob.size)
        send = partial(self._sender.send, self._job, self._control, blob)
        self._sending[blob.digest] = self._sender.pool.submit((self._job.registry, blob.digest), rank, send)
