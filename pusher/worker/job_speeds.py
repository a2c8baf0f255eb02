"""Measure how fast each job is sent, and store it for other processes: ``pusher status`` shows it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import field
from typing import Any, Final

from pusher.dataclass import dataclass
from pusher.oci.digest import provisional_digest
from pusher.progress.base import Progress
from pusher.progress.estimate import Estimator
from pusher.progress.sent_bytes import SentBytes
from pusher.store.store import Store
from pusher.worker.periodic import calling_every

_STORE_EVERY: Final = 2.0
"""Seconds between two times that the speeds are stored."""
_LOOK_EVERY: Final = 0.25
"""Seconds after which a chunk that was stored as in flight, and has arrived, is not any more: the job store
counts it as done by then."""


@dataclass(kw_only=True)
class _Sending(SentBytes):
    """A blob that is being sent."""

    stored: int = 0
    """Its bytes in flight, as of the last time they were stored."""


@dataclass
class _JobSpeed:
    estimator: Estimator
    blobs: dict[str, _Sending] = field(default_factory=dict)


class JobSpeeds:
    """A worker's progress that also measures the speed of each job. Thread-safe."""

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: dict[int, _JobSpeed] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._progress, name)

    @contextlib.contextmanager
    def recording(self, store: Store, owner: str) -> Iterator[None]:
        """Store the speeds of the jobs of this owner every few seconds until the context ends."""
        stored: dict[int, tuple[int, int]] = {}
        due = 0.0

        def record() -> None:
            nonlocal stored, due
            if time.monotonic() >= due:
                due = time.monotonic() + _STORE_EVERY
                now = self.measure()
            else:
                now = self._without_arrived(stored)
            changed = {job_id: speed for job_id, speed in now.items() if stored.get(job_id) != speed}
            store.jobs.record_speeds(owner, changed)
            stored = now

        with calling_every(_LOOK_EVERY, record, name="speeds"):
            yield

    def measure(self) -> dict[int, tuple[int, int]]:
        """Return each job's bytes per second, and the bytes of its chunks in flight that were sent."""
        with self._lock:
            now, found = self._clock(), {}
            for job_id, job in self._jobs.items():
                for blob in job.blobs.values():
                    blob.stored = blob.in_flight
                in_flight = sum(blob.in_flight for blob in job.blobs.values())
                found[job_id] = round(job.estimator.speed(now) or 0), in_flight
            return found

    def _without_arrived(self, stored: dict[int, tuple[int, int]]) -> dict[int, tuple[int, int]]:
        """Return what was stored, without the bytes that are not in flight any more."""
        with self._lock:
            return {
                job_id: (speed, sum(blob.stored for blob in self._jobs[job_id].blobs.values()))
                for job_id, (speed, _) in stored.items()
                if job_id in self._jobs
            }

    def job_started(self, job_id: int, image: str, destination: str) -> None:
        """A job was claimed."""
        with self._lock:
            self._jobs.setdefault(job_id, _JobSpeed(Estimator(self._clock())))
        self._progress.job_started(job_id, image, destination)

    def job_ended(self, job_id: int, state: str, message: str, *, resumes: bool = True) -> None:
        """A job ended in this worker."""
        with self._lock:
            self._jobs.pop(job_id, None)
        self._progress.job_ended(job_id, state, message, resumes=resumes)

    def prepared(
        self, job_id: int, diff_id: str, digest: str, size: int, compression: str | None = None
    ) -> None:
        """A layer that is being sent has its digest now."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None and (blob := job.blobs.pop(provisional_digest(diff_id), None)) is not None:
                job.blobs[digest] = blob
        self._progress.prepared(job_id, diff_id, digest, size, compression)

    def blob_started(self, job_id: int, digest: str, size: int | None, offset: int) -> None:
        """An upload starts, or resumes."""
        with self._lock:
            if (job := self._jobs.get(job_id)) is not None:
                if not job.blobs:
                    job.estimator.resume(self._clock())
                job.blobs[digest] = _Sending(offset=offset)
        self._progress.blob_started(job_id, digest, size, offset)

    def blob_sending(self, job_id: int, digest: str, in_flight: int) -> None:
        """Bytes of the current chunk were sent, or lost."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None and (blob := job.blobs.get(digest)) is not None:
                job.estimator.add(blob.record_sending(in_flight), self._clock())
                blob.stored = min(blob.stored, in_flight)
        self._progress.blob_sending(job_id, digest, in_flight)

    def blob_acknowledged(self, job_id: int, digest: str, offset: int) -> None:
        """The registry has so many bytes."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None and (blob := job.blobs.get(digest)) is not None:
                job.estimator.add(blob.record_acknowledged(offset), self._clock())
                blob.stored = 0
        self._progress.blob_acknowledged(job_id, digest, offset)

    def blob_done(self, job_id: int, digest: str, size: int, how: str) -> None:
        """A blob is at the registry."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None and (blob := job.blobs.pop(digest, None)) is not None and how == "uploaded":
                job.estimator.add(blob.record_acknowledged(size), self._clock())
        self._progress.blob_done(job_id, digest, size, how)
