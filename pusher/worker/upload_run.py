"""Send one blob to a registry: acquire its upload, keep the journal, retry, report the progress."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Final, TypedDict

from pusher.errors import (
    ConnectionBroken,
    IntermediaryFault,
    LeaseLost,
    PermissionDenied,
    PusherError,
    Retry,
    Stopped,
)
from pusher.oci.digest import short
from pusher.registry.http.body import BlobDamaged, BlobFile
from pusher.registry.upload.blob_sizes import check_size
from pusher.registry.upload.upload import BlobUpload
from pusher.sources.registry.source import mountable_repositories
from pusher.spool.arrival import ArrivalFailed
from pusher.store.records import JobRecord, UploadRecord
from pusher.units import human_bytes
from pusher.worker.blob_observer import BlobObserver
from pusher.worker.blob_sender import BlobSender
from pusher.worker.control import Control
from pusher.worker.store_journal import StoreJournal
from pusher.worker.unfinished import UnfinishedBlob, is_prefix

_SMALL: Final = 1024 * 1024
"""Bytes of a blob that costs little to send again when the link breaks."""


class LapsedOwners(TypedDict):
    """Owners of which no lease counts, or no expired one."""

    dead_owners: Collection[str]
    expired_owners: Collection[str]


class UploadRun:
    """One upload of a blob by this worker, which has its lease meanwhile."""

    def __init__(self, sender: BlobSender, job: JobRecord, control: Control, blob: BlobFile) -> None:
        self._sender = sender
        self._worker = sender.worker
        self._store = sender.worker.store
        self._job = job
        self._control = control
        self._blob = blob

    def run(self, *, only_locate: bool, believe_head: bool, continues: bool) -> str | None:
        """Send the blob; return how the registry has got it, None if it has not.

        ``only_locate``: read no byte of it, but mount it if that is possible. ``continues``: a part of it was
        sent before its digest was known. Raises the errors of BlobUpload once the retries are used up,
        Stopped, LeaseLost if job or upload belong to another worker by now, and BlobDamaged.
        """
        blob = self._blob
        if only_locate and self._mount_source() is None and not self._is_sent_by_others():
            return None  # HEAD did not find it: without an upload, to save two transactions
        upload, waited = self._acquire()
        if not only_locate:
            upload = self._continue_begun_session(upload)
        journal = self._journal(upload)
        observer = BlobObserver(self._sender, self._job, self._control, blob, journal, continues=continues)
        with self._ending(journal, observer):
            if believe_head and not only_locate and self._mount_source() is None:
                waited |= self._finish_elsewhere(upload)
            # a registry that misses what it said it had may have lied about a mount, too
            may_mount = believe_head and (waited or self._key not in self._sender.mounts_tried)
            if only_locate:
                self._sender.mounts_tried.add(self._key)
            attempt = self._upload(
                journal,
                observer,
                believe_head=believe_head,
                looked=not waited,
                continues=continues,
                may_mount=may_mount,
            )
            if only_locate:
                found = self._retry(attempt.locate, observer)
            else:
                found = self._send(attempt.run, observer)
            if found is not None:
                journal.record_arrival(found)
            return found

    @contextlib.contextmanager
    def _ending(self, journal: StoreJournal, observer: BlobObserver) -> Iterator[None]:
        """Release the upload's lease at the end; discard its session if the blob's file has other bytes."""
        try:
            yield
        except BlobDamaged:
            self._discard_session(journal, "the bytes in its file do not match its digest")
            raise
        finally:
            observer.report_loss()
            self._release(journal)

    def _send(self, step: Callable[[], str | None], observer: BlobObserver) -> str | None:
        """Call ``step``, which sends bytes, in its turn and with retries; return its result."""
        breaks = 0

        def send() -> str | None:
            nonlocal breaks
            try:
                return step()
            except ConnectionBroken:
                breaks += 1
                raise

        self._sender.observers.add(observer)
        try:
            with self._sender.turns.join(self._job.registry, self._needs_link_alone()) as observer.turn:
                return self._retry(send, observer)
        finally:
            self._sender.observers.discard(observer)
            self._record_breaks(observer.blob.digest, breaks)

    def _record_breaks(self, digest: str, count: int) -> None:
        """Record how often the connection broke: a bad link shows nowhere else once all is sent."""
        if count:
            times = "once" if count == 1 else f"{count} times"
            with contextlib.suppress(PusherError):
                self._store.events.add(
                    self._job.id, "connection-breaks", f"{digest}: the connection broke {times} on the way"
                )

    def _needs_link_alone(self) -> Callable[[], bool] | None:
        """Return what tells whether large blobs are sent one at a time; None for a small one."""
        if self._blob.size <= _SMALL:
            return None
        link = self._worker.registries.get(self._job.registry, self._job.repository).link
        return lambda: link.needs_lone_upload

    def _finish_elsewhere(self, upload: UploadRecord) -> bool:
        """Send the rest of this blob to another repository of the registry, where a worker that has stopped
        has sent more of it than ``upload`` has; return whether it can be mounted from there now.

        The job of that repository needs those bytes as well, so that none is in vain without a mount.
        """
        for begun in self._store.uploads.begun_elsewhere(upload):
            taken = self._try_to_acquire(begun.digest, repository=begun.repository)
            if taken is not None and self._finish(taken):
                return True
        return False

    def _finish(self, upload: UploadRecord) -> bool:
        """Continue the session of an upload to its end; return whether the registry has the blob there.

        False if the session is lost, or another repository is closed to this login: also where something in
        front of the registry says so, because the job's own repository may be open.
        """
        journal = self._journal(upload)
        observer = BlobObserver(self._sender, self._job, self._control, self._blob, journal)
        where = f"{upload.registry}/{upload.repository}"
        self._store.events.add(
            self._job.id,
            "session-continued",
            f"{upload.digest}: continuing its upload to {where} at {human_bytes(upload.offset)}; it can be "
            "mounted from there",
        )
        with self._ending(journal, observer):
            try:
                attempt = self._upload(journal, observer, believe_head=False, looked=True)
                found = self._send(partial(_finish_unless_refused, attempt), observer)
            except LeaseLost:
                self._store.jobs.check_lease(self._job)
                return False
            except PusherError as error:
                if error.retry is not Retry.NEVER:
                    raise
                journal.add_note(f"it cannot be continued in {where}: {error.message}")
                return False
            if found is not None:
                journal.record_arrival(found)
            return found is not None

    def send_full_chunks(self, unfinished: UnfinishedBlob) -> None:
        """Send full chunks of a blob until it is complete; the session stays in the store for the rest."""
        blob = unfinished.blob
        upload = self._try_to_acquire(blob.digest, unfinished.compression)
        if upload is None:
            return
        journal = self._journal(upload, unfinished.arrival.prefix_digest)
        observer = BlobObserver(self._sender, self._job, self._control, blob, journal)
        unfinished.on_complete(partial(self._give_digest, journal, observer))
        observer.is_needless = lambda: unfinished.is_needless
        try:
            session = journal.load()
            if session is not None and not unfinished.begins_like(upload, session, self._control.check):
                self._discard_session(journal, "the layer was compressed to other bytes before")
            attempt = self._upload(journal, observer, believe_head=False, looked=True)
            self._send(attempt.run, observer)
            self._check_session(journal, unfinished)
        except (Stopped, BlobDamaged) as stop:
            if isinstance(stop, ArrivalFailed | BlobDamaged):  # its file is gone, whatever the reason
                unfinished.wait_for_end()
            if unfinished.is_damaged:
                self._discard_session(journal, "the layer is damaged")
            raise
        except LeaseLost:
            self._store.jobs.check_lease(self._job)  # else only the upload was lost
        finally:
            self._release(journal)

    def forget_session(self) -> None:
        """Record that the registry has the blob, and with it the end of its session."""
        upload, _ = self._acquire()
        with contextlib.suppress(LeaseLost):
            self._journal(upload).record_arrival("exists")

    def _give_digest(self, journal: StoreJournal, observer: BlobObserver, blob: BlobFile) -> bool:
        """Record the digest of what was unfinished; return False if the blob has another upload."""
        try:
            ours = self._store.uploads.give_digest(journal.upload, blob.digest)
        except LeaseLost:
            return False
        if ours:
            observer.blob = blob
        return ours

    def _check_session(self, journal: StoreJournal, unfinished: UnfinishedBlob) -> None:
        """Discard the session of a blob, complete now, if it cannot end well. Raises LayerTooLarge."""
        session, blob = journal.load(), unfinished.complete
        if session is None:
            return
        if blob is None:
            self._discard_session(journal, "another upload of the same blob is under way")
        elif session.profile.equal_chunks and blob.size % session.chunk_size == 1:
            self._discard_session(journal, "its last chunk would be one byte, which registries refuse")
        else:
            try:
                check_size(blob.digest, blob.size, session.profile, self._job.registry)
            except PusherError as error:
                self._discard_session(journal, error.message)
                raise

    def _continue_begun_session(self, upload: UploadRecord) -> UploadRecord:
        """Take over the session that a stopped worker began while it compressed this layer, if it fits."""
        if upload.location is not None:
            return upload
        job, blob = self._job, self._blob
        for diff_id in self._store.blobs.diff_ids(job.id, blob.digest):
            begun = self._store.uploads.unfinished(job.registry, job.repository, diff_id)
            if begun is None:
                continue
            begun = self._try_to_acquire(begun.digest, begun.compression)
            if begun is None:
                continue
            journal = self._journal(begun)
            session = journal.load()
            if session is not None and is_prefix(blob, begun, session, self._control.check):
                return self._store.uploads.take_session(upload, begun)
            self._discard_session(journal, "the layer was compressed to other bytes before")
            self._store.uploads.release(journal.upload)
        return upload

    def _discard_session(self, journal: StoreJournal, reason: str) -> None:
        """Delete a session that cannot become the blob, so that nothing resumes from it."""
        session = journal.load()
        if session is not None:
            journal.discard_session(reason)
            with contextlib.suppress(PusherError):
                repository = journal.upload.repository
                client = self._worker.registries.client(self._job.registry, repository)
                client.delete_upload(repository, session.location)

    def _journal(
        self,
        upload: UploadRecord,
        prefix_digest: Callable[[int], str | None] = lambda end: None,  # noqa: ARG005
    ) -> StoreJournal:
        return StoreJournal(
            self._store,
            self._worker.registries.links,
            upload,
            self._job.id,
            self._worker.progress.note,
            self._sender.counted,
            self._report_chunk_size,
            prefix_digest,
            0 if self._blob.is_unfinished else self._blob.size,
        )

    def _report_chunk_size(self, digest: str, size: int) -> None:
        """Report a chunk size that differs from the last session's because of the link."""
        registry = self._job.registry
        before = self._sender.chunk_sizes.get(registry)
        fixed = self._worker.settings.at(registry).chunk_size is not None
        if fixed or size == before or self._blob.size <= size:
            return
        self._sender.chunk_sizes[registry] = size
        link = self._worker.registries.get(registry, self._job.repository).link
        why = f"chunks of {human_bytes(size)}: {link.describe(size)}"
        self._store.events.add(self._job.id, "chunk-size", f"{digest}: {why}")
        if before is not None:
            self._worker.progress.note(f"{short(digest)}: {why}")

    def _acquire(self) -> tuple[UploadRecord, bool]:
        """Acquire this blob's upload once no other worker sends it to the registry; return if we waited."""
        waited = False
        while True:
            self._control.check()
            upload = self._try_to_acquire(self._blob.digest)
            if upload is not None:
                return upload, waited
            waited = True
            self._worker.activity.record_progress()
            pause = self._worker.settings.retry.blob_in_use
            self._worker.progress.waiting(
                self._blob.digest, pause, "another worker is sending it", job=self._job.id
            )
            with self._worker.registries.stalls.pause():
                self._control.wait(pause)

    def _try_to_acquire(
        self, digest: str, compression: str | None = None, *, repository: str | None = None
    ) -> UploadRecord | None:
        """Acquire an upload, to the job's repository by default; None while another worker has it."""
        acquire = partial(
            self._store.uploads.acquire,
            self._job.registry,
            repository or self._job.repository,
            digest,
            owner=self._worker.identity.owner,
            lease=self._worker.identity.lease,
            compression=compression,
        )
        return acquire() or acquire(**self._find_lapsed_owners())

    def _is_sent_by_others(self) -> bool:
        """Return whether another worker sends this blob to the registry."""
        is_leased = partial(
            self._store.uploads.is_leased_by_others,
            self._job.registry,
            self._blob.digest,
            owner=self._worker.identity.owner,
        )
        return is_leased() and is_leased(**self._find_lapsed_owners())

    def _find_lapsed_owners(self) -> LapsedOwners:
        """Look for owners whose leases do not count; only for a blob that is leased, as it takes time."""
        identity = self._worker.identity
        return {
            "dead_owners": identity.find_dead_owners(self._store),
            "expired_owners": identity.find_expired_owners(self._store),
        }

    def _mount_source(self) -> str | None:
        """Return another repository of the registry that should have the blob; None if there is none."""
        job = self._job
        holders = [
            *mountable_repositories(job.source, job.registry),
            *self._store.uploads.holders(job.registry, self._blob.digest),
        ]
        return next((name for name in holders if name != job.repository), None)

    @property
    def _key(self) -> tuple[str, str, str]:
        return self._job.registry, self._job.repository, self._blob.digest

    def _release(self, journal: StoreJournal) -> None:
        """Release the lease, unless recording the blob's arrival did."""
        if journal.upload.lease_owner is not None:
            with contextlib.suppress(LeaseLost):
                self._store.uploads.release(journal.upload)

    def _upload(
        self,
        journal: StoreJournal,
        observer: BlobObserver,
        *,
        believe_head: bool,
        looked: bool,
        may_mount: bool = False,
        continues: bool = False,
    ) -> BlobUpload:
        registry, repository = self._job.registry, journal.upload.repository
        settings = self._worker.settings.at(registry)
        connection = self._worker.registries.get(registry, repository)
        return BlobUpload(
            connection.client,
            repository,
            self._blob,
            journal,
            observer,
            connection.link,
            chunk_size=settings.chunk_size,
            mount_from=self._mount_source() if may_mount else None,
            forced=settings.profile,
            believe_head=believe_head,
            looked=looked,
            continues=continues,
        )

    def _retry(self, step: Callable[[], str | None], observer: BlobObserver) -> str | None:
        return self._sender.retry(step, observer.attempts, self._job, self._control, self._blob.digest)


def _finish_unless_refused(attempt: BlobUpload) -> str | None:
    """Finish the session of an attempt; raise PermissionDenied also where an intermediary refuses that."""
    try:
        return attempt.finish_session()
    except IntermediaryFault as fault:
        if isinstance(fault.meaning, PermissionDenied):
            raise fault.meaning from fault
        raise
