"""Download blobs of an image in another registry into the spool: several at once, the largest first.

A large blob is sent while it still arrives, if a thread is left for complete ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Final

from pusher.dataclass import dataclass
from pusher.errors import CredentialsMissing, PusherError, Retry
from pusher.oci.manifest import Descriptor
from pusher.sources.registry.source import RegistrySource, add_login_hint
from pusher.spool.arrival import BlobArrival
from pusher.spool.partial import PartialBlob
from pusher.store.records import JobBlob, JobRecord
from pusher.worker.control import Control
from pusher.worker.documents import descriptor_of
from pusher.worker.worker import Worker

_AT_ONCE: Final = 3
"""Blobs larger than ``_SMALL`` that are fetched at a time."""
_MOST_AT_ONCE: Final = 6
"""Blobs of any size that are."""
_SMALL: Final = 1024 * 1024
"""Bytes of a blob up to which it takes responses rather than the link."""
_BIG: Final = 16 * 1024 * 1024
"""Bytes from which on a blob is sent before it is complete."""
_REPORT_EVERY: Final = 1024 * 1024
"""Bytes."""

Looks = Mapping[str, Future[str | None]]
"""By the keys of layers, requests whether the destination has their blobs; the result is how, or None."""


@dataclass(frozen=True)
class Downloads:
    """Fetches blobs of other registries into the spool. Thread-safe."""

    worker: Worker
    most_early: Callable[[], int]
    """Incomplete blobs sent at a time: each takes one of the threads that send."""

    def fetch(
        self,
        source: RegistrySource,
        job: JobRecord,
        control: Control,
        missing: Mapping[str, JobBlob],
        looks: Looks,
    ) -> Iterator[tuple[JobBlob, BlobArrival | None]]:
        """Yield each blob in ``missing`` once it is complete in the spool; a large one also when it begins to
        arrive, then with its ``BlobArrival``. A blob that turns out not to be missing is yielded at once.

        ``looks``: those that were not answered yet. A failure does not end the others unless no retry can
        help. Raises the errors of ``RegistrySource.fetch`` and of the looks, DiskFull, Stopped, LeaseLost.
        Complete blobs stay in the spool.
        """
        waiting = sorted(missing.values(), key=lambda layer: -(layer.size or 0))
        running: dict[Future[None], tuple[JobBlob, BlobArrival | None]] = {}
        failed: BaseException | None = None
        leave = Control(control)
        with ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="fetch") as pool:
            try:
                while running or (waiting and failed is None):
                    while (
                        waiting
                        and failed is None
                        and not _open_looks(waiting[0], looks)
                        and self._may_start(waiting[0], [layer for layer, _ in running.values()])
                    ):
                        layer = waiting.pop(0)
                        if is_located(layer, looks):
                            yield layer, None
                            continue
                        followed = sum(arrival is not None for _, arrival in running.values())
                        arrival = self._new_arrival(layer) if followed < self.most_early() else None
                        running[pool.submit(self._fetch_blob, source, job, leave, layer, arrival)] = (
                            layer,
                            arrival,
                        )
                        if arrival is not None:
                            yield layer, arrival
                    looking: list[Future[Any]] = _open_looks(waiting[0], looks) if waiting else []
                    ended = wait([*running, *looking], return_when=FIRST_COMPLETED).done
                    for future in [each for each in running if each in ended]:
                        layer, _ = running.pop(future)
                        error = future.exception()
                        if error is None:
                            yield layer, None
                        elif failed is None:
                            failed = error
                            if not isinstance(error, PusherError) or error.retry is Retry.NEVER:
                                leave.stop()
            finally:
                leave.stop()
        if failed is not None:
            raise failed

    def _may_start(self, layer: JobBlob, running: Collection[JobBlob]) -> bool:
        """Return whether to start one more download: not if the disk has no room for all that run."""
        if not running:
            return True
        most = _AT_ONCE if (layer.size or 0) > _SMALL else _MOST_AT_ONCE
        left = sum(
            (each.size or 0) - self.worker.spool.fetched_size(each.digest or "") for each in (layer, *running)
        )
        return len(running) < most and left <= self.worker.spool.room()

    def _new_arrival(self, layer: JobBlob) -> BlobArrival | None:
        blob = descriptor_of(layer)
        return self.worker.spool.new_arrival(blob.digest, blob.size) if blob.size >= _BIG else None

    def _fetch_blob(
        self,
        source: RegistrySource,
        job: JobRecord,
        control: Control,
        layer: JobBlob,
        arrival: BlobArrival | None,
    ) -> None:
        blob = descriptor_of(layer)
        try:
            while not self.worker.spool.has(blob.digest, blob.size):
                control.check()
                with self.worker.spool.open_partial(
                    blob.digest, blob.size, check_stop=control.check
                ) as partial:
                    if partial is not None:
                        _BlobFetch(self.worker, source, job, control, layer.key, blob, partial, arrival).run()
                        partial.commit(self.worker.spool.path(blob.digest))
                        break
                self.worker.activity.record_progress()
                pause = self.worker.settings.retry.blob_in_use
                self.worker.progress.waiting(blob.digest, pause, "another worker is fetching it", job=job.id)
                control.wait(pause)
            self.worker.progress.prepared(job.id, layer.key, blob.digest, blob.size)
            if arrival is not None:
                arrival.finish(whole=True)
        finally:
            if arrival is not None:
                arrival.finish(whole=False)


def is_located(layer: JobBlob, looks: Looks) -> bool:
    """Return whether the destination has a blob whose look has ended. Raises the look's errors."""
    return layer.key in looks and looks[layer.key].result() is not None


def _open_looks(layer: JobBlob, looks: Looks) -> list[Future[str | None]]:
    """Return the look for a blob, if it has not ended."""
    return [looks[layer.key]] if layer.key in looks and not looks[layer.key].done() else []


class _BlobFetch:
    """The download of one blob, with retries and progress."""

    def __init__(
        self,
        worker: Worker,
        source: RegistrySource,
        job: JobRecord,
        control: Control,
        diff_id: str,
        blob: Descriptor,
        partial: PartialBlob,
        arrival: BlobArrival | None,
    ) -> None:
        self._worker = worker
        self._source = source
        self._job = job
        self._control = control
        self._diff_id = diff_id
        self._blob = blob
        self._partial = partial
        self._arrival = arrival
        self._reported = partial.size

    def run(self) -> None:
        """Download the blob completely."""
        self._report()
        try:
            self._source.fetch(
                self._blob.digest,
                self._blob.size,
                self._partial,
                on_bytes=self._on_bytes,
                on_retry=self._on_retry,
                note=self._worker.progress.note,
            )
        except CredentialsMissing as error:
            registry = self._source.reference.registry
            raise add_login_hint(error, registry, self._job.registry) from error

    def _on_retry(self, pause: float, error: PusherError) -> None:
        self._worker.progress.waiting(
            self._blob.digest,
            pause,
            error.message,
            fault=error.code,
            registry=self._source.reference.registry,
            job=self._job.id,
        )
        self._control.wait(pause)

    def _on_bytes(self, is_progress: bool) -> None:
        self._worker.activity.record_movement()
        self._control.record_source_movement()
        self._control.check()
        self._report_arrival()
        if is_progress:
            self._worker.activity.record_progress()
        if abs(self._partial.size - self._reported) >= _REPORT_EVERY:
            self._report()

    def _report(self) -> None:
        self._report_arrival()
        self._reported = self._partial.size
        self._worker.progress.preparing(
            self._job.id, self._diff_id, self._reported, self._blob.size, "fetching"
        )

    def _report_arrival(self) -> None:
        if self._arrival is not None:
            self._arrival.set_held(self._partial.held)
