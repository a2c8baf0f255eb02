"""Fetching the blobs of an image that lies in another registry: several at once, the biggest first.

A big one is sent on while it comes in, where that leaves a thread for what is whole already.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

from pusher.errors import CredentialsMissing, PusherError, Retry, SourceError
from pusher.oci import media_types
from pusher.oci.digest import short
from pusher.progress.base import Progress
from pusher.retry import Attempts, retrying
from pusher.sources.pins import RegistryPin
from pusher.sources.registry.blob_download import BlobDownload
from pusher.sources.registry.source import without_login
from pusher.spool.arrival import Arrival
from pusher.spool.partial import PartialBlob
from pusher.spool.spool import ORIGINAL, Spool, SpooledBlob
from pusher.store.records import JobRecord, LayerRecord
from pusher.worker.control import Activity, Control
from pusher.worker.registries import Registries

_AT_ONCE: Final = 3
_BIG: Final = 16 * 1024 * 1024
"""Bytes from which on a blob is sent before it is whole."""
_TELL_EVERY: Final = 1024 * 1024


@dataclass(frozen=True)
class Fetched:
    """The blob of a layer, whole in the spool or, with an ``arrival``, on its way there."""

    diff_id: str
    blob: SpooledBlob
    arrival: Arrival | None = None


@dataclass(frozen=True)
class Downloads:
    """Brings blobs of other registries into the spool. Thread-safe."""

    spool: Spool
    registries: Registries
    progress: Progress
    activity: Activity
    followers: int
    """Blobs that may be sent before they are whole, at a time: each holds one of the threads that send."""

    def blobs(
        self, job: JobRecord, pin: RegistryPin, control: Control, missing: Mapping[str, LayerRecord]
    ) -> Iterator[Fetched]:
        """Each layer in ``missing`` as it is whole in the spool; a big one also when it begins to come.

        What fails does not end the others, unless nothing can mend it. Raises what ``BlobDownload`` does once
        the retries here are used up, DiskFull, Stopped, LeaseLost. What was fetched until then stays.
        """
        waiting = sorted(missing.values(), key=lambda layer: -(layer.size or 0))
        running: dict[Future[SpooledBlob], tuple[LayerRecord, Arrival | None]] = {}
        failed: BaseException | None = None
        leave = Control(control)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch") as pool:
            try:
                while running or (waiting and failed is None):
                    while (
                        waiting
                        and failed is None
                        and self._may_start(waiting[0], [layer for layer, _ in running.values()])
                    ):
                        layer = waiting.pop(0)
                        followed = sum(arrival is not None for _, arrival in running.values())
                        arrival = self._arrival(layer) if followed < self.followers else None
                        running[pool.submit(self._fetch, job, pin, leave, layer, arrival)] = layer, arrival
                        if arrival is not None:
                            yield Fetched(layer.diff_id, _spooled(layer), arrival)
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        layer, _ = running.pop(future)
                        error = future.exception()
                        if error is None:
                            yield Fetched(layer.diff_id, future.result())
                        elif failed is None:
                            failed = error
                            if not isinstance(error, PusherError) or error.retry is Retry.NEVER:
                                leave.stop()
            finally:
                leave.stop()
        if failed is not None:
            raise failed

    def _may_start(self, layer: LayerRecord, running: Collection[LayerRecord]) -> bool:
        """Not where the disk would take none of several to its end, and each of them alone."""
        if not running:
            return True
        left = sum((each.size or 0) - self.spool.fetched(each.digest or "") for each in (layer, *running))
        return len(running) < _AT_ONCE and left <= self.spool.room()

    def _arrival(self, layer: LayerRecord) -> Arrival | None:
        blob = _spooled(layer)
        return self.spool.arrival(blob.digest, blob.size) if blob.size >= _BIG else None

    def _fetch(
        self,
        job: JobRecord,
        pin: RegistryPin,
        control: Control,
        layer: LayerRecord,
        arrival: Arrival | None,
    ) -> SpooledBlob:
        blob = _spooled(layer)
        try:
            while not self.spool.has(blob.digest, blob.size):
                control.check()
                with self.spool.fetching(blob.digest, blob.size, check_stop=control.check) as partial:
                    if partial is not None:
                        _Fetch(self, job, pin, control, layer.diff_id, blob, partial, arrival).run()
                        partial.commit(self.spool.path(blob.digest))
                        break
                self.activity.touch()
                pause = self.registries.retry.blob_in_use
                self.progress.waiting(short(blob.digest), pause, "another worker is fetching it")
                control.wait(pause)
            self.progress.prepared(job.id, layer.diff_id, blob.digest, blob.size)
            if arrival is not None:
                arrival.end(whole=True)
            return blob
        finally:
            if arrival is not None:
                arrival.end(whole=False)


def _spooled(layer: LayerRecord) -> SpooledBlob:
    """What a layer's blob will be in the spool."""
    if layer.digest is None or layer.size is None:
        raise SourceError(f"the blob of layer {layer.diff_id} is not known")
    media_type = layer.media_type or media_types.DOCKER_LAYER_GZIP
    return SpooledBlob(layer.digest, layer.size, ORIGINAL, media_type)


class _Fetch:
    """One blob on its way: retries, and word of it to whoever looks on."""

    def __init__(
        self,
        downloads: Downloads,
        job: JobRecord,
        pin: RegistryPin,
        control: Control,
        diff_id: str,
        blob: SpooledBlob,
        partial: PartialBlob,
        arrival: Arrival | None,
    ) -> None:
        self._downloads = downloads
        self._job = job
        self._control = control
        self._registry, self._repository = pin.registry, pin.repository
        self._diff_id = diff_id
        self._digest = blob.digest
        self._size = blob.size
        self._partial = partial
        self._arrival = arrival
        self._attempts = Attempts(downloads.registries.retry.step)
        self._download: BlobDownload | None = None
        self._furthest = self._told = partial.size

    def run(self) -> None:
        """Fetch it to its end."""
        self._tell()
        try:
            retrying(self._step, self._attempts, self._wait)
        except CredentialsMissing as error:
            raise without_login(error, self._registry, self._job.registry) from error

    def _step(self) -> None:
        if self._download is None:
            self._download = BlobDownload(
                self._downloads.registries.get(self._registry, self._repository).client,
                self._repository,
                self._digest,
                self._size,
                self._partial,
                on_bytes=self._moved,
                note=self._downloads.progress.note,
            )
        self._download.run()

    def _wait(self, pause: float, error: PusherError) -> None:
        self._downloads.progress.waiting(short(self._digest), pause, error.message)
        self._control.wait(pause)

    def _moved(self) -> None:
        self._downloads.activity.stir()
        self._control.stir_source()
        self._control.check()
        self._tell_followers()
        if self._partial.size > self._furthest:  # what is fetched a second time is no progress
            self._furthest = self._partial.size
            self._attempts.reset()
            self._downloads.activity.touch()
        if abs(self._partial.size - self._told) >= _TELL_EVERY:
            self._tell()

    def _tell(self) -> None:
        self._tell_followers()
        self._told = self._partial.size
        self._downloads.progress.preparing(self._job.id, self._diff_id, self._told, self._size, "fetching")

    def _tell_followers(self) -> None:
        if self._arrival is not None:
            self._arrival.holds(self._partial.held)
