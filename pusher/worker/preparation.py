"""Prepare the blobs of a job that are not on disk yet: its config, and its layers from the source."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import field
from typing import TYPE_CHECKING

from pusher.dataclass import dataclass
from pusher.errors import LayerMismatch
from pusher.oci import media_types
from pusher.oci.digest import of_bytes
from pusher.registry.http.body import BlobFile
from pusher.sources.pins import RegistryPin, pin_from_json
from pusher.sources.registry.source import RegistrySource
from pusher.store.records import BlobState, JobBlob, JobRecord
from pusher.worker.control import Control
from pusher.worker.documents import descriptor_of
from pusher.worker.stall_notices import SourceTurn
from pusher.worker.worker import Worker

if TYPE_CHECKING:
    from pusher.worker.downloads import Looks
    from pusher.worker.unfinished import UnfinishedBlob


@dataclass(frozen=True)
class BlobPreparer:
    """Prepares the blobs of a job that are not on disk yet."""

    worker: Worker
    count_early: Callable[[], int]
    """Returns how many incomplete downloads may be sent at a time: each takes a thread that sends."""
    turn: SourceTurn = field(default_factory=SourceTurn)
    """Held while a job reads its source: compression uses all processors for one layer already."""
    _reported: set[tuple[str, str]] = field(default_factory=set)
    """The compressions that were reported, each with its registry, and the texts: of thirty jobs most have
    the same."""

    def report_compression(self, job: JobRecord, summary: str | None, chosen: frozenset[str]) -> None:
        """Report how the layers of a job were compressed, unless that was reported before."""
        choices = {(job.registry, choice) for choice in chosen}
        if summary and not choices <= self._reported and ("", summary) not in self._reported:
            self.worker.progress.note(summary)
            self._reported.update(choices, [("", summary)])

    def config_blob(self, job: JobRecord) -> BlobFile | None:
        """Return the blob of the image's config if its bytes are known without an export, else None."""
        content = self.worker.store.documents.get(job.config_digest)
        return None if content is None else self.keep_config(job, content)

    def prepare(
        self,
        job: JobRecord,
        control: Control,
        missing: Mapping[str, JobBlob],
        opened: ExitStack,
        send_unfinished: Callable[[UnfinishedBlob], None] | None,
        looks: Looks,
    ) -> Iterator[tuple[str, BlobFile | None]]:
        """Yield the key of each blob in ``missing`` with the blob as soon as it is ready.

        A blob that can be sent before it is complete is yielded twice, first with its ``arrival``. Of a layer
        that is large and being compressed, ``send_unfinished`` gets the blob, if that is allowed; None is
        yielded for one that it sends to its end, and for one that ``looks`` finds at the destination after
        all. ``missing`` may shrink meanwhile. ``opened`` gets what must stay open until the blobs are sent.
        Raises SourceError, DiskFull, Stopped, LeaseLost; for an image in a registry also as ``Downloads``.
        """
        pin = pin_from_json(job.source)
        if isinstance(pin, RegistryPin):
            yield from self._download(pin, job, control, missing, looks)
        else:
            from pusher.worker.preparation_run import PreparationRun  # imports the compressors

            yield from PreparationRun(self, pin, job, control, missing, opened, send_unfinished).blobs()

    def _download(
        self,
        pin: RegistryPin,
        job: JobRecord,
        control: Control,
        missing: Mapping[str, JobBlob],
        looks: Looks,
    ) -> Iterator[tuple[str, BlobFile | None]]:
        from pusher.worker.downloads import Downloads, is_located

        worker = self.worker
        downloads = Downloads(worker, self.count_early)
        source = RegistrySource.from_pin(pin, worker.registries.client, retry=worker.settings.retry)
        for found, arrival in downloads.fetch(source, job, control, missing, looks):
            if is_located(found, looks):
                yield found.key, None
                continue
            blob = descriptor_of(found)
            if arrival is None and found.state is BlobState.PENDING:
                worker.store.blobs.set_blob(
                    job, found.key, digest=blob.digest, size=blob.size, media_type=blob.media_type
                )
            path = worker.spool.path(blob.digest)
            yield found.key, BlobFile(blob.digest, blob.size, path, arrival=arrival)

    def keep_config(self, job: JobRecord, content: bytes) -> BlobFile:
        """Write the config to the spool, and to the store, which saves the export on a later push.

        Raises LayerMismatch if its digest is not the image's.
        """
        digest, size = job.config_digest, len(content)
        store, spool = self.worker.store, self.worker.spool
        if (found := of_bytes(content, digest)) != digest:
            raise LayerMismatch(
                f"the image lists a config with digest {digest}, its source has {found}",
                hint="the source is damaged: save or pull the image again",
            )
        if not spool.has(digest, size):
            spool.write_blob(
                io.BytesIO(content), digest=digest, size=size, media_type=media_types.DOCKER_CONFIG
            )
        store.documents.put(digest, content)
        store.blobs.set_blob(job, digest, digest=digest, size=size, media_type=media_types.DOCKER_CONFIG)
        return BlobFile(digest, size, spool.path(digest))
