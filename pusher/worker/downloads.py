"""Fetching the blobs of an image that lies in another registry: several at once, the biggest first."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

from pusher.errors import CredentialsMissing, PusherError, Retry, SourceError
from pusher.oci import media_types
from pusher.oci.digest import short
from pusher.progress.base import Progress
from pusher.registry.download import BlobDownload
from pusher.spool.partial import PartialBlob
from pusher.spool.spool import ORIGINAL, Spool, SpooledBlob
from pusher.store.records import JobRecord, LayerRecord
from pusher.worker.control import Activity, Control
from pusher.worker.registries import Registries
from pusher.worker.remote import without_login
from pusher.worker.retry import Backoff

_AT_ONCE: Final = 3
_TELL_EVERY: Final = 1024 * 1024
_IN_USE_PAUSE: Final = 1.0
"""Seconds between looks at a blob that another worker fetches."""


@dataclass(frozen=True)
class Downloads:
    """Brings blobs of other registries into the spool. Thread-safe."""

    spool: Spool
    registries: Registries
    progress: Progress
    activity: Activity

    def blobs(
        self, job: JobRecord, control: Control, missing: Mapping[str, LayerRecord]
    ) -> Iterator[tuple[str, SpooledBlob]]:
        """Diff ID and blob of each layer in ``missing`` as it is whole in the spool.

        What fails does not end the others, unless nothing can mend it. Raises what ``BlobDownload`` does once
        the retries here are used up, DiskFull, Stopped, LeaseLost. What was fetched until then stays.
        """
        waiting = sorted(missing.values(), key=lambda layer: -(layer.size or 0))
        running: dict[Future[SpooledBlob], LayerRecord] = {}
        failed: BaseException | None = None
        leave = Control(control)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch") as pool:
            try:
                while running or (waiting and failed is None):
                    while waiting and failed is None and self._may_start(waiting[0], running.values()):
                        layer = waiting.pop(0)
                        running[pool.submit(self._fetch, job, leave, layer)] = layer
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        layer = running.pop(future)
                        error = future.exception()
                        if error is None:
                            yield layer.diff_id, future.result()
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

    def _fetch(self, job: JobRecord, control: Control, layer: LayerRecord) -> SpooledBlob:
        if layer.digest is None or layer.size is None:
            raise SourceError(f"the blob of layer {layer.diff_id} is not known")
        media_type = layer.media_type or media_types.DOCKER_LAYER_GZIP
        while not self.spool.has(layer.digest, layer.size):
            control.check()
            with self.spool.fetching(layer.digest, layer.size, check_stop=control.check) as partial:
                if partial is not None:
                    _Fetch(self, job, control, layer.diff_id, layer.digest, layer.size, partial).run()
                    partial.commit(self.spool.path(layer.digest))
                    break
            self.activity.touch()
            self.progress.waiting(short(layer.digest), _IN_USE_PAUSE, "another worker is fetching it")
            control.wait(_IN_USE_PAUSE)
        self.progress.prepared(job.id, layer.diff_id, layer.digest, layer.size)
        return SpooledBlob(layer.digest, layer.size, ORIGINAL, media_type)


class _Fetch:
    """One blob on its way: retries, and word of it to whoever looks on."""

    def __init__(
        self,
        downloads: Downloads,
        job: JobRecord,
        control: Control,
        diff_id: str,
        digest: str,
        size: int,
        partial: PartialBlob,
    ) -> None:
        self._downloads = downloads
        self._job = job
        self._control = control
        self._diff_id = diff_id
        self._digest = digest
        self._size = size
        self._partial = partial
        self._backoff = Backoff()
        self._furthest = self._told = partial.size

    def run(self) -> None:
        """Fetch it to its end."""
        registry, repository = str(self._job.source["registry"]), str(self._job.source["repository"])
        self._tell()
        download: BlobDownload | None = None
        while True:
            try:
                if download is None:
                    client = self._downloads.registries.get(registry, repository).client
                    download = BlobDownload(
                        client,
                        repository,
                        self._digest,
                        self._size,
                        self._partial,
                        on_bytes=self._moved,
                        note=self._downloads.progress.note,
                    )
                return download.run()
            except CredentialsMissing as error:
                raise without_login(error, registry, self._job.registry) from error
            except PusherError as error:
                pause = self._backoff.pause(error)
                if pause is None:
                    raise
                self._downloads.progress.waiting(short(self._digest), pause, error.message)
                self._control.wait(pause)

    def _moved(self) -> None:
        self._control.check()
        if self._partial.size > self._furthest:  # what is fetched a second time is no progress
            self._furthest = self._partial.size
            self._backoff.reset()
            self._downloads.activity.touch()
        if abs(self._partial.size - self._told) >= _TELL_EVERY:
            self._tell()

    def _tell(self) -> None:
        self._told = self._partial.size
        self._downloads.progress.preparing(self._job.id, self._diff_id, self._told, self._size, "fetching")
