"""Report the progress of one blob's upload to the worker and its display."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from pusher.errors import StoreUnreachable
from pusher.registry.http.body import BlobFile
from pusher.registry.upload import profiles
from pusher.retry import Attempts
from pusher.spool.arrival import ArrivalFailed
from pusher.store.records import JobRecord
from pusher.worker.control import Control
from pusher.worker.store_journal import StoreJournal

if TYPE_CHECKING:
    from pusher.worker.blob_sender import BlobSender
    from pusher.worker.upload_turns import UploadTurn

_LOOK_EVERY: Final = 0.1
"""Seconds between two checks whether a lease was renewed."""
_LONG_TURN: Final = 3.0
"""Seconds of waiting for a turn after which it is reported."""
_REPORT_BYTES: Final = 256 * 1024
_REPORT_SECONDS: Final = 1.0
"""Bytes, and seconds, between two progress reports of a chunk."""


class BlobObserver:
    """Reports an upload's progress; acknowledged bytes reset its retries."""

    def __init__(
        self,
        sender: BlobSender,
        job: JobRecord,
        control: Control,
        blob: BlobFile,
        journal: StoreJournal,
        *,
        continues: bool = False,
    ) -> None:
        """Observe an upload; ``continues``: its start was reported before its digest was known."""
        self.attempts = Attempts(sender.worker.settings.retry.step)
        self._sender = sender
        self._worker = sender.worker
        self._job = job
        self._control = control
        self.blob = blob
        self._journal = journal
        self._offset = journal.upload.offset
        self._furthest = max(self._offset, journal.upload.furthest or 0)
        self._started = continues
        self._in_flight = 0
        self._reported = 0
        self._reported_at = 0.0
        self.turn: UploadTurn | None = None
        """Among the uploads to this registry, if they are limited."""
        self.is_needless: Callable[[], bool] = lambda: False
        """Whether the registry has the blob after all: then sending ends, also inside a chunk."""

    def check(self) -> None:
        self._control.check()
        while self._worker.identity.lease_may_have_ended:  # the heartbeat renews it, or finds that it is lost
            self._control.wait(_LOOK_EVERY)
        self._sender.pool.wait_while_surplus(self._check_as_surplus)
        if self.turn is not None:
            self.turn.wait(partial(self._wait_for_turn, self.turn, time.monotonic()))

    def _check_as_surplus(self) -> None:
        if self.turn is not None:
            self.turn.give_way()
        self._control.check()

    def _wait_for_turn(self, turn: UploadTurn, since: float, pause: float) -> None:
        """Wait for other uploads to this registry; report it."""
        if turn.most is None or not turn.has_link:
            self._wait_for_link(since, pause)
            return
        sender, registry, waited = self._sender, self._job.registry, time.monotonic() - since
        uploads = "1 upload" if turn.most == 1 else f"{turn.most} uploads"
        reason = f"{registry} gets {uploads} at a time from all workers"
        if waited >= _LONG_TURN and registry not in sender.turns_reported:
            sender.turns_reported.add(registry)
            self._worker.progress.note(f"{reason} (uploads_per_registry): waiting for a turn")
        if waited >= 1.0 and waited % 1.0 < pause:
            self._worker.progress.waiting(self.blob.digest, 1.0, reason, registry=registry, job=self._job.id)
        self._worker.activity.record_progress()
        self._pause(pause)

    def _wait_for_link(self, since: float, pause: float) -> None:
        """Wait for the large blob that has the link for itself; report it. This is not progress: the worker
        gives up if that blob makes none."""
        sender, registry, waited = self._sender, self._job.registry, time.monotonic() - since
        if registry not in sender.lone_uploads_reported:
            sender.lone_uploads_reported.add(registry)
            self._worker.progress.note(
                f"{registry} keeps nothing of a blob being sent when the link breaks: large blobs are "
                "sent one at a time until the link is stable again"
            )
        if waited >= 1.0 and waited % 1.0 < pause:
            reason = "another blob is sent first, as the link breaks"
            self._worker.progress.waiting(self.blob.digest, 1.0, reason, registry=registry, job=self._job.id)
        self._pause(pause)

    def _pause(self, seconds: float) -> None:
        with self._worker.registries.stalls.pause():
            self._control.wait(seconds)

    def allowance(self, wanted: int) -> int:
        self._stop_without_lease()
        if self.is_needless():
            raise ArrivalFailed
        if self._sender.limiter.rate() is None:
            return wanted
        allowed = self._sender.limiter.take(wanted, self._check_lease_if_cheap)
        if self._offset + self._in_flight >= self._furthest:
            self._worker.activity.record_progress()
        return allowed

    def _check_lease_if_cheap(self) -> None:
        """Stop waiting for bandwidth if the job is to stop, unless that would cost the whole session."""
        if not self._profile.may_restart:
            self._control.check_lease()

    def _stop_without_lease(self) -> None:
        """Stop inside a chunk if another worker may send the blob by now, as the job store could not be
        reached; unless that would cost the whole session. Raises StoreUnreachable."""
        if self._worker.identity.lease_may_have_ended and not self._profile.may_restart:
            raise StoreUnreachable(
                "the job store has been away for longer than the lease of this upload, "
                "which another worker may send by now",
                hint="once the job store is back, it continues where the registry says",
            )

    @property
    def _profile(self) -> profiles.Profile:
        return profiles.PROFILES.get(self._journal.upload.profile or "", profiles.DEFAULT)

    def bytes_at_stake(self) -> int:
        """Return how many bytes of this blob must be sent again if the connection is closed now."""
        session = self._journal.load()
        return 0 if session is None else session.cost_of_break(self._in_flight, self.blob.size)

    def may_restart(self) -> bool:
        """Return whether that is more than what is in flight, as the registry would restart the blob."""
        return self.bytes_at_stake() > self._in_flight

    def report_loss(self) -> None:
        """Show that all of a blob is at risk after a break inside a chunk, where the registry may
        restart it: while its job waits, nothing else shows it."""
        session = self._journal.load()
        if session is not None and session.in_flight and session.profile.may_restart:
            self._worker.progress.blob_acknowledged(self._job.id, self.blob.digest, 0)

    def report_sent(self, in_flight: int) -> None:
        self._worker.activity.record_movement()
        self._control.record_movement()
        self._in_flight = in_flight
        if not self._started:
            self._started = True
            size = None if self.blob.is_unfinished else self.blob.size
            self._worker.progress.blob_started(self._job.id, self.blob.digest, size, self._offset)
        now = time.monotonic()
        if (
            in_flight == 0
            or in_flight - self._reported >= _REPORT_BYTES
            or now - self._reported_at >= _REPORT_SECONDS
        ):
            self._reported, self._reported_at = in_flight, now
            self._worker.progress.blob_sending(self._job.id, self.blob.digest, in_flight)

    def report_acknowledged(self, offset: int) -> None:
        if offset > self._furthest:  # what was lost and is sent again is not progress
            self._furthest = offset
            self.attempts.reset()
            self._worker.activity.record_progress()
        self._offset = offset
        self._worker.progress.blob_acknowledged(self._job.id, self.blob.digest, offset)
        self._worker.registries.links.save(self._job.registry)
