"""Run the uploads of one job in the worker's threads, after a check of its registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Final

from pusher.registry.http.body import BlobDamaged, BlobFile
from pusher.spool.arrival import ArrivalFailed
from pusher.store.records import JobRecord
from pusher.worker import preflight
from pusher.worker.blob_sender import BlobSender
from pusher.worker.control import Control
from pusher.worker.damaged_files import refuse_damaged_file
from pusher.worker.error_rank import most_important
from pusher.worker.job_failures import JobFailures

if TYPE_CHECKING:
    from pusher.worker.unfinished import UnfinishedBlob

_SMALL: Final = 1024 * 1024
"""Bytes of a blob up to which it takes responses rather than the link."""


class JobUploads:
    """The uploads of one attempt at one job, and requests about its blobs. Nothing is sent before the check
    has passed."""

    def __init__(self, sender: BlobSender, job: JobRecord, control: Control) -> None:
        self._sender = sender
        self._job = job
        self._control = control
        self._failures = JobFailures(control, sender.worker.settings.retry)
        self._check: Future[str | None] | None = None
        self._tasks: list[Future[str | None]] = []
        self._damaged: set[str] = set()
        """Digests that the bytes of a file did not have when they were sent."""

    def begin_check(self, candidates: Iterable[Sequence[BlobFile]]) -> None:
        """Check login, certificate and sizes while the first layer is read. ``candidates``: for each layer
        the blobs it may have."""

        def check() -> None:
            preflight.check(self._sender.worker, self._job, candidates)

        self._check = self._sender.pool.submit(
            (self._job.registry, "check", self._job.id), self._rank(), check, is_quick=True
        )
        self._failures.watch(self._check)

    def send(self, blob: BlobFile, *, believe_head: bool) -> None:
        """Send a blob, unless HEAD says that the registry has it and is believed."""
        send = partial(self._sender.send, self._job, self._control, blob, believe_head=believe_head)
        check = partial(refuse_damaged_file, blob, self._job, self._control.check)

        def send_intact() -> str | None:
            if blob.digest in self._damaged:
                check()
            try:
                return send()
            except BlobDamaged:
                check()
                raise

        self._submit(blob, send_intact, is_quick=blob.size <= _SMALL)

    def send_unfinished(self, unfinished: UnfinishedBlob) -> None:
        """Send what is compressed of a layer so far, and the rest as it comes."""
        pool, registry = self._sender.pool, self._job.registry
        send = partial(self._sender.send_unfinished, self._job, self._control, unfinished)
        task = self._submit(unfinished.blob, send, is_quick=False)

        def continue_as(blob: BlobFile) -> bool:
            if not pool.change_key(task, (registry, blob.digest)):
                return False
            look = partial(self._sender.look_ahead, self._job, unfinished, blob)
            self._tasks.append(
                pool.submit((registry, "HEAD", blob.digest), self._rank(-blob.size), look, is_quick=True)
            )
            return True

        unfinished.on_complete(continue_as)

    def look(self, blob: BlobFile, locate: Callable[[], str | None]) -> Future[str | None]:
        """Call ``locate``, which sends no bytes, in the turn of a blob."""
        return self._submit(blob, locate, is_quick=True)

    def _submit(
        self, blob: BlobFile, work: Callable[[], str | None], *, is_quick: bool
    ) -> Future[str | None]:
        def unless_offline() -> str | None:
            if self._check is not None:
                self._check.result()
            self._failures.raise_if_offline()
            return work()

        task = self._sender.pool.submit(
            (self._job.registry, blob.digest),
            self._rank(-blob.size),
            unless_offline,
            is_quick=is_quick,
            after=self._check,
        )
        self._failures.watch(task)
        self._tasks.append(task)
        return task

    def _rank(self, *within_job: int) -> tuple[int, ...]:
        return (-self._job.priority, self._job.id, *within_job)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being sent."""
        return all(task.done() for task in self._tasks)

    def finish(self) -> list[str]:
        """Wait until nothing is being sent; return the digests of blobs that are damaged on disk.

        Raises the most important of the other errors.
        """
        errors = [error for task in self._tasks if (error := task.exception()) is not None]
        damaged = [str(error) for error in errors if isinstance(error, BlobDamaged)]
        if len(damaged) < len(errors):
            raise most_important(error for error in errors if not isinstance(error, BlobDamaged))
        self._damaged.update(damaged)
        return damaged

    def wait_until_idle(self) -> None:
        """Wait until nothing is being sent; forget the uploads whose files were given up."""
        self._tasks = [task for task in self._tasks if not isinstance(task.exception(), ArrivalFailed)]

    def clear(self) -> None:
        """Forget the uploads that have ended."""
        self._tasks.clear()

    def errors(self) -> list[BaseException | None]:
        """Wait until nothing is being sent; return the errors of the check and the uploads."""
        tasks = self._tasks if self._check is None else [self._check, *self._tasks]
        return [task.exception() for task in tasks]
