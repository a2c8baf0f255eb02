"""The upload protocol's journal kept in the job store."""

from __future__ import annotations

from collections.abc import Callable

from pusher.oci.digest import short
from pusher.registry import profiles
from pusher.registry.chunks import Limits
from pusher.registry.session import Session
from pusher.store.records import UploadRecord, UploadState
from pusher.store.store import Store


class StoreJournal:
    """Writes what happens to one upload, whose lease is held, in one transaction a step.

    ``counted``: by upload id, the bytes in flight that this process has counted as sent. What arrived beyond
    them was sent by a worker that died before it could count. ``told``: the digest and the size of the chunks
    of every session that is opened.
    """

    def __init__(
        self,
        store: Store,
        upload: UploadRecord,
        job_id: int,
        note: Callable[[str], None],
        counted: dict[int, int],
        told: Callable[[str, int], None] = lambda digest, size: None,  # noqa: ARG005
    ) -> None:
        self._store = store
        self.upload = upload
        self._job_id = job_id
        self._note = note
        self._counted = counted
        self._told = told

    def load(self) -> Session | None:
        u = self.upload
        if u.state not in (UploadState.OPEN, UploadState.CLOSING) or u.location is None or not u.chunk_size:
            return None
        return Session(
            location=u.location,
            chunk_size=u.chunk_size,
            limits=Limits(u.min_chunk or 1, u.max_chunk),
            profile=profiles.remembered(u.profile),
            offset=u.offset,
            in_flight=u.in_flight,
            closing=u.state == UploadState.CLOSING,
        )

    def opened(self, session: Session) -> None:
        self.upload = self._store.uploads.opened(
            self.upload,
            location=session.location,
            chunk_size=session.chunk_size,
            min_chunk=session.limits.smallest,
            max_chunk=session.limits.largest,
            profile=session.profile.name,
        )
        if not session.profile.whole:
            self._told(self.upload.digest, session.chunk_size)

    def sending(self, session: Session) -> None:
        self.upload = self._store.uploads.intend(self.upload, session.in_flight)
        self._counted[self.upload.id] = 0

    def acknowledged(self, session: Session, sent: int) -> None:
        arrived = session.offset - self.upload.offset
        sent += max(0, arrived - sent - self._counted.pop(self.upload.id, 0))
        self.upload = self._store.uploads.acknowledged(
            self.upload, location=session.location, offset=session.offset, job_id=self._job_id, sent=sent
        )

    def spent(self, sent: int) -> None:
        if sent:
            self._store.layers.add_sent(self._job_id, self.upload.digest, sent)
            self._counted[self.upload.id] = self._counted.get(self.upload.id, 0) + sent

    def arrived(self) -> None:
        """The whole blob is there: so is what was in flight."""
        self.spent(max(0, self.upload.in_flight - self._counted.pop(self.upload.id, 0)))
        self.upload = self._store.uploads.present(self.upload)
        self._counted.pop(self.upload.id, None)

    def closing(self, session: Session) -> None:
        self.upload = self._store.uploads.closing(self.upload, session.in_flight)
        self._counted[self.upload.id] = 0

    def lost(self, reason: str) -> None:
        self._store.events.add(self._job_id, "session-lost", f"{self.upload.digest}: {reason}")
        self.upload = self._store.uploads.lost(self.upload)
        self._note(f"{short(self.upload.digest)}: starts again: {reason}")

    def learned(self, *, profile: str | None = None, max_chunk: int | None = None) -> None:
        changes = {"profile": profile, "max_chunk": max_chunk}
        known = {name: value for name, value in changes.items() if value is not None}
        self._store.facts.update(self.upload.registry, **known)
