"""Keep the journal of an upload in the job store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pusher.oci.digest import short
from pusher.registry.upload import profiles
from pusher.registry.upload.chunk_sizes import Limits
from pusher.registry.upload.session import Session
from pusher.store.records import UploadRecord, UploadState
from pusher.store.store import Store
from pusher.worker.resent import describe_losses
from pusher.worker.uplinks import LinkEstimates

_EXPLAINED: Final = {3, 6, 12, 24, 48}
"""Losses of an upload after which it is explained what they cost; beyond those every 48th."""


class StoreJournal:
    """Stores the steps of one upload, whose lease is held, in one transaction each.

    ``counted``: by upload id, the bytes in flight that this process has counted as sent. Bytes that arrived
    beyond them were sent by a worker that died before it could count. ``on_opened`` is called with the digest
    and the chunk size of every new session. ``prefix_digest`` returns the hash of the first bytes of an
    unfinished blob. ``size`` in bytes: of a complete one.
    """

    def __init__(
        self,
        store: Store,
        links: LinkEstimates,
        upload: UploadRecord,
        job_id: int,
        note: Callable[[str], None],
        counted: dict[int, int],
        on_opened: Callable[[str, int], None] = lambda digest, size: None,  # noqa: ARG005
        prefix_digest: Callable[[int], str | None] = lambda end: None,  # noqa: ARG005
        size: int = 0,
    ) -> None:
        self._store = store
        self._links = links
        self.upload = upload
        self._job_id = job_id
        self._note = note
        self._counted = counted
        self._on_opened = on_opened
        self._prefix_digest = prefix_digest
        self._size = size
        self._acquired = upload
        self._accepted: int | None = None

    def load(self) -> Session | None:
        u = self.upload
        if u.state not in (UploadState.OPEN, UploadState.CLOSING) or u.location is None or not u.chunk_size:
            return None
        return Session(
            location=u.location,
            chunk_size=u.chunk_size,
            limits=Limits(u.min_chunk or 1, u.max_chunk),
            profile=profiles.stored_profile(u.profile),
            offset=u.offset,
            in_flight=u.in_flight,
            closing=u.state == UploadState.CLOSING,
            furthest=u.furthest or 0,
            unrecorded=self._unrecorded(),
        )

    def _unrecorded(self) -> int:
        """Return how many bytes an earlier worker may have sent beyond those recorded: up to all, as a server
        that fails over may lose what was written last. Of an unfinished blob they are not known to fit."""
        u = self.upload
        if u is not self._acquired or not self._store.may_lose_writes:
            return 0
        return max(0, self._size - u.offset - u.in_flight)

    def record_session(self, session: Session) -> None:
        self._count_wasted(self._counted.pop(self.upload.id, 0))
        self.upload = self._store.uploads.record_session(
            self.upload,
            location=session.location,
            chunk_size=session.chunk_size,
            min_chunk=session.limits.smallest,
            max_chunk=session.limits.largest,
            profile=session.profile.name,
            restarts=session.profile.may_restart,
        )
        if not session.profile.whole:
            self._on_opened(self.upload.digest, session.chunk_size)

    def record_profile(self, session: Session) -> None:
        self.upload = self._store.uploads.record_profile(
            self.upload, profile=session.profile.name, restarts=session.profile.may_restart
        )

    def record_chunk(self, session: Session) -> None:
        prefix = self._prefix_digest(session.offset + session.in_flight)
        self.upload = self._store.uploads.record_chunk(self.upload, session.in_flight, prefix)
        self._counted[self.upload.id] = 0

    def record_prefix(self, end: int) -> None:
        prefix = self._prefix_digest(end)
        if prefix is not None:
            self.upload = self._store.uploads.record_prefix(self.upload, end, prefix)

    def withdraw_chunk(self, session: Session) -> None:  # noqa: ARG002
        self._counted.pop(self.upload.id, None)
        self.upload = self._store.uploads.record_chunk(self.upload, 0)

    def record_offset(self, session: Session, sent: int) -> None:
        arrived = session.offset - self.upload.offset
        counted = self._counted.pop(self.upload.id, 0)
        sent += max(0, arrived - sent - counted)
        self.upload = self._store.uploads.record_offset(
            self.upload,
            location=session.location,
            offset=session.offset,
            job_id=self._job_id,
            sent=sent,
            wasted=counted + sent - arrived,
        )

    def count_sent(self, sent: int) -> None:
        if sent:
            self._store.blobs.add_sent(self._job_id, self.upload.digest, sent)
            self._counted[self.upload.id] = self._counted.get(self.upload.id, 0) + sent

    def record_arrival(self, how: str) -> None:
        """Record that the registry has the blob (``uploaded``, ``mounted``, ``exists``); if from our session,
        then the bytes in flight, too."""
        ours = how == "uploaded" or self.upload.state == UploadState.CLOSING
        counted, arrived = self._counted.pop(self.upload.id, 0), self.upload.in_flight
        if ours:
            sent = max(0, arrived - counted) if self._accepted is None else self._accepted
            wasted = max(0, counted + sent - arrived)
        else:
            sent, wasted = 0, self.upload.offset + counted
        self.upload = self._store.uploads.record_present(
            self.upload, session_left=not ours, job_id=self._job_id, sent=sent, wasted=wasted
        )

    def count_accepted(self, sent: int) -> None:
        self._accepted = sent

    def record_closing(self, session: Session) -> None:
        self.upload = self._store.uploads.record_closing(self.upload, session.in_flight)
        self._counted[self.upload.id] = 0

    def record_loss(self, reason: str) -> None:
        restarts = bool(self.upload.restarts)
        self._end_session("session-lost", reason)
        self._note(f"{short(self.upload.digest)}: restarts: {reason}")
        losses = self.upload.losses or 0
        if losses in _EXPLAINED or (losses and losses % max(_EXPLAINED) == 0):
            self.add_note(describe_losses(self._store, self._job_id, self.upload, restarts=restarts))

    def discard_session(self, reason: str) -> None:
        """Record that we give the session up, because it cannot become the blob."""
        self._end_session("session-discarded", reason, is_discarded=True)
        self._note(f"{short(self.upload.digest)}: discarded what was sent: {reason}")

    def _end_session(self, event: str, reason: str, *, is_discarded: bool = False) -> None:
        self._store.events.add(self._job_id, event, f"{self.upload.digest}: {reason}")
        wasted = self.upload.offset + self._counted.pop(self.upload.id, 0)
        self.upload = self._store.uploads.record_loss(
            self.upload, job_id=self._job_id, wasted=wasted, is_discarded=is_discarded
        )

    def record_facts(self, *, profile: str | None = None, max_chunk: int | None = None) -> None:
        self._links.learn(self.upload.registry, profile=profile, max_chunk=max_chunk)

    def add_note(self, text: str) -> None:
        self._store.events.add(self._job_id, "note", f"{self.upload.digest}: {text}")
        self._note(f"{short(self.upload.digest)}: {text}")

    def _count_wasted(self, count: int) -> None:
        if count:
            self._store.blobs.add_sent(self._job_id, self.upload.digest, 0, count)
