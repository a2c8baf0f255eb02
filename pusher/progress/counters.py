"""Count the progress of a run, for a display; print nothing."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from pusher.dataclass import dataclass
from pusher.oci.digest import diff_id_in, is_digest, provisional_digest, short
from pusher.progress.estimate import Estimator
from pusher.progress.format import rfc3339
from pusher.progress.sent_bytes import SentBytes

_KEPT: Final = 1000
"""Events kept while no display reads them, e.g. because its output broke."""
_RESUMED: Final = {"waiting", "receiving"}
"""States in which a run takes a job up again."""
_DONE: Final = {"compressing": "compressed", "reading": "read", "fetching": "fetched"}


@dataclass(frozen=True)
class Event:
    """Something that happened. ``kind`` and the names in ``fields`` are those of the JSON lines."""

    kind: str
    fields: dict[str, object]


@dataclass
class BlobProgress(SentBytes):
    """A blob of a job at work; sizes and offsets in bytes, speed in bytes per second."""

    job_id: int
    digest: str
    """A ``provisional_digest`` while the layer is being compressed."""
    size: int | None
    """None until then."""
    active: bool = False
    done: bool = False
    speed: float | None = None

    @property
    def least_size(self) -> int:
        """Return the size, or the bytes sent so far while it is not known."""
        return self.offset + self.in_flight if self.size is None else self.size

    @property
    def remaining(self) -> int:
        """Return the bytes that are not sent yet, as far as they are known."""
        return max(0, self.least_size - self.offset - self.in_flight)


@dataclass
class Preparing:
    """A layer being compressed (uncompressed bytes; ``total`` is None where it is not known) or fetched."""

    job_id: int
    diff_id: str
    done: int
    total: int | None
    speed: float | None = None
    doing: str = "compressing"


@dataclass(frozen=True)
class Waiting:
    """A pause of ``seconds``, which ends at ``until``."""

    what: str
    seconds: float
    until: datetime
    reason: str


@dataclass(frozen=True)
class Snapshot:
    """The state of a run at one time: unfinished jobs and their blobs."""

    jobs: int
    blobs: tuple[BlobProgress, ...]
    preparing: tuple[Preparing, ...]
    waiting: tuple[Waiting, ...]
    speed: float | None

    @property
    def active(self) -> tuple[BlobProgress, ...]:
        """Return the blobs that are being sent, in the order of their start."""
        return tuple(blob for blob in self.blobs if blob.active)

    @property
    def total(self) -> int:
        """Return the bytes of all blobs, as far as they are known."""
        return sum(blob.least_size for blob in self.blobs)

    @property
    def is_total_known(self) -> bool:
        """Return whether no blob will add to the total."""
        return not self.preparing and all(blob.size is not None for blob in self.blobs)

    @property
    def done(self) -> int:
        """Return the bytes that the registry acknowledged or had."""
        return sum(blob.offset for blob in self.blobs)

    @property
    def sent(self) -> int:
        """Return the bytes that are done or in flight."""
        return self.done + sum(blob.in_flight for blob in self.active)

    @property
    def eta(self) -> float | None:
        """Return the seconds until the known blobs are sent at the current speed; None while one that is
        being sent has no known size."""
        if any(blob.size is None for blob in self.blobs):
            return None
        return eta(sum(blob.remaining for blob in self.blobs), self.speed)


def blob_fields(digest: str) -> dict[str, object]:
    """Return the digest as a field, or the layer's diff ID while there is no digest."""
    diff_id = diff_id_in(digest)
    return {"digest": digest} if diff_id is None else {"digest": None, "diff_id": diff_id}


def eta(remaining: int, speed: float | None) -> float | None:
    """Return the seconds for ``remaining`` bytes; None while the speed is unknown or zero, and after the last
    byte: the time that a registry takes to assemble a blob is unknown."""
    return remaining / speed if speed and remaining else None


@dataclass
class _Wait:
    what: str
    ends: float
    until: datetime
    reason: str


_Blob: TypeAlias = tuple[str, str]
"""Registry and digest: two jobs may send a blob to two registries."""
_WaitKey: TypeAlias = tuple[int | None, str]
"""Job and blob, or what else is waited for: two jobs may wait for one blob."""


@dataclass
class _Speeds:
    total: Estimator
    blobs: dict[_Blob, Estimator] = field(default_factory=dict)
    preparing: dict[str, Estimator] = field(default_factory=dict)


class Counters:
    """The ``Progress`` that workers call; a display calls ``snapshot`` and ``drain`` from its own thread."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=_KEPT)
        self._jobs: set[int] = set()
        self._resting: set[int] = set()
        self._registries: dict[int, str] = {}
        self._blobs: dict[_Blob, BlobProgress] = {}
        self._preparing: dict[str, Preparing] = {}
        self._waiting: dict[_WaitKey, _Wait] = {}
        self._speeds = _Speeds(Estimator(clock()))

    def drain(self) -> list[Event]:
        """Return the events since the last call."""
        with self._lock:
            events = list(self._events)
            self._events.clear()
            return events

    def snapshot(self) -> Snapshot:
        """Return copies, which the display can use without a lock."""
        with self._lock:
            now = self._clock()
            self._waiting = {key: wait for key, wait in self._waiting.items() if wait.ends > now}
            speeds = self._speeds
            return Snapshot(
                jobs=len(self._jobs),
                blobs=tuple(
                    replace(blob, speed=speeds.blobs[key].speed(now) if key in speeds.blobs else None)
                    for key, blob in self._blobs.items()
                    if blob.job_id not in self._resting or _key_of_job(blob.job_id) in self._waiting
                ),
                preparing=tuple(
                    replace(p, speed=speeds.preparing[d].speed(now)) for d, p in self._preparing.items()
                ),
                waiting=tuple(
                    Waiting(w.what, w.ends - now, w.until, w.reason) for w in self._waiting.values()
                ),
                speed=speeds.total.speed(now),
            )

    def job_started(self, job_id: int, image: str, destination: str) -> None:
        with self._lock:
            if not self._jobs:
                self._speeds = _Speeds(Estimator(self._clock()))
            self._jobs.add(job_id)
            self._resting.discard(job_id)
            self._waiting.pop(_key_of_job(job_id), None)
            again = job_id in self._registries
            self._registries[job_id] = destination.partition("/")[0]
            self._event("job-started", job=job_id, image=image, destination=destination, again=again)

    def job_ended(self, job_id: int, state: str, message: str, *, resumes: bool = True) -> None:
        with self._lock:
            self._jobs.discard(job_id)
            for key in [key for key, blob in self._blobs.items() if blob.job_id == job_id]:
                self._speeds.blobs.pop(key, None)
                if state == "waiting":  # its progress stays visible
                    self._blobs[key] = replace(self._blobs[key], active=False, in_flight=0)
                else:
                    del self._blobs[key]
            if state == "waiting":
                self._resting.add(job_id)
            for diff_id in [d for d, layer in self._preparing.items() if layer.job_id == job_id]:
                self._stop_preparing(diff_id)
            self._waiting = {key: wait for key, wait in self._waiting.items() if key[0] != job_id}
            resumes = resumes and state in _RESUMED
            self._event("job-ended", job=job_id, state=state, message=message, resumes=resumes)

    def preparing(
        self, job_id: int, diff_id: str, done: int, total: int | None, doing: str = "compressing"
    ) -> None:
        with self._lock:
            now = self._clock()
            before = self._preparing.get(diff_id)
            if before is None:
                self._speeds.preparing[diff_id] = Estimator(now)
                self._event("layer-preparing", job=job_id, diff_id=diff_id, size=total, doing=doing)
            self._speeds.preparing[diff_id].add(max(0, done - (before.done if before else 0)), now)
            self._preparing[diff_id] = Preparing(job_id, diff_id, done, total, doing=doing)

    def prepared(
        self, job_id: int, diff_id: str, digest: str, size: int, compression: str | None = None
    ) -> None:
        with self._lock:
            doing = self._preparing[diff_id].doing if diff_id in self._preparing else "compressing"
            self._stop_preparing(diff_id)
            before, key = self._key(job_id, provisional_digest(diff_id)), self._key(job_id, digest)
            begun, speed = self._blobs.pop(before, None), self._speeds.blobs.pop(before, None)
            if begun is not None and begun.active and key not in self._blobs:
                self._blobs[key] = replace(begun, digest=digest, size=size)
                if speed is not None:
                    self._speeds.blobs[key] = speed
            self._blobs.setdefault(key, BlobProgress(job_id, digest, size))
            made = {"digest": digest, "size": size, "how": _DONE[doing], "compression": compression}
            self._event("layer-prepared", job=job_id, diff_id=diff_id, **made)

    def blob_started(self, job_id: int, digest: str, size: int | None, offset: int) -> None:
        with self._lock:
            if not any(blob.active for blob in self._blobs.values()):  # one that is tried again is
                self._speeds.total.resume(self._clock())
            key = self._key(job_id, digest)
            self._blobs.pop(key, None)
            self._blobs[key] = BlobProgress(job_id, digest, size, offset=offset, active=True)
            self._speeds.blobs[key] = Estimator(self._clock())
            self._waiting.pop(_key_of_wait(job_id, digest), None)
            self._event("blob-started", job=job_id, **blob_fields(digest), size=size, offset=offset)

    def blob_sending(self, job_id: int, digest: str, in_flight: int) -> None:
        with self._lock:
            key = self._key(job_id, digest)
            if blob := self._blobs.get(key):
                self._count_sent(key, blob.record_sending(in_flight))

    def blob_acknowledged(self, job_id: int, digest: str, offset: int) -> None:
        with self._lock:
            key = self._key(job_id, digest)
            if blob := self._blobs.get(key):
                self._count_sent(key, blob.record_acknowledged(offset))
                self._waiting.pop(_key_of_wait(job_id, digest), None)
                self._waiting.pop((None, "network"), None)
                self._event("blob-acknowledged", job=blob.job_id, **blob_fields(digest), offset=offset)

    def blob_done(self, job_id: int, digest: str, size: int, how: str) -> None:
        with self._lock:
            key = self._key(job_id, digest)
            before = self._blobs.pop(key, None)
            self._speeds.blobs.pop(key, None)
            self._waiting.pop(_key_of_wait(job_id, digest), None)
            if before is not None and before.active and how == "uploaded":
                self._speeds.total.add(before.record_acknowledged(size), self._clock())
            self._blobs[key] = BlobProgress(job_id, digest, size, offset=size, done=True)
            self._event("blob-done", job=job_id, digest=digest, size=size, how=how)

    def waiting(
        self,
        what: str,
        seconds: float,
        reason: str,
        *,
        fault: str = "",  # noqa: ARG002
        registry: str = "",  # noqa: ARG002
        job: int | None = None,
    ) -> None:
        with self._lock:
            until, key = self._wall() + timedelta(seconds=seconds), _key_of_wait(job, what)
            what = short(what) if is_digest(key[1]) else what
            self._waiting[key] = _Wait(what, self._clock() + seconds, until, reason)
            fields = {} if job is None else {"job": job}
            self._event(
                "waiting", what=what, seconds=round(seconds, 1), until=rfc3339(until), reason=reason, **fields
            )

    def note(self, message: str) -> None:
        with self._lock:
            self._event("note", message=message)

    def log(self, line: str) -> None:
        """Add a line of the log, for a display that must not be overwritten."""
        with self._lock:
            self._event("log", line=line)

    def _key(self, job_id: int, digest: str) -> _Blob:
        return self._registries.get(job_id, ""), digest

    def _event(self, kind: str, **fields: object) -> None:
        self._events.append(Event(kind, fields))

    def _count_sent(self, blob: _Blob, count: int) -> None:
        """Count bytes that were sent for the speed of the blob and of the whole push."""
        if count:
            now = self._clock()
            self._speeds.total.add(count, now)
            if estimator := self._speeds.blobs.get(blob):
                estimator.add(count, now)

    def _stop_preparing(self, diff_id: str) -> None:
        self._preparing.pop(diff_id, None)
        self._speeds.preparing.pop(diff_id, None)


def _key_of_wait(job_id: int | None, what: str) -> _WaitKey:
    return job_id, diff_id_in(what) or what


def _key_of_job(job_id: int) -> _WaitKey:
    return None, f"job {job_id}"
