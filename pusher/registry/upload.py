"""Sending one blob so that nothing acknowledged is ever sent twice.

``BlobUpload.run`` looks where the blob stands, goes on from there and closes. It raises what a pause can mend
(RegistryUnreachable, ConnectionBroken, RegistryBusy, RegistryFault); called again, in this process or after
a reboot, it does the same thing again. So a reset, a time-out and a power cut are one case: the journal says
what was acknowledged and what was under way, the registry says what it has.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from pusher.errors import (
    ChunkTooLarge,
    ConnectionBroken,
    CredentialsRejected,
    DigestRejected,
    LayerTooLarge,
    PusherError,
    RegistryBusy,
    RegistryFault,
    RegistryStalled,
)
from pusher.registry import chunks, profiles
from pusher.registry.answers import read_message, refusal
from pusher.registry.body import Blob, BlobDamaged, Body, Watch
from pusher.registry.client import RegistryClient
from pusher.registry.link import LinkFacts
from pusher.registry.session import Journal, Session, outgrown, reported_offset, why_lost
from pusher.registry.transport import Answer

_TIRED: Final = frozenset({504, 524})
"""A front that waited long enough; the registry may be at work all the same."""
_PAUSE: Final = _TIRED | {408, 429, 500, 502, 503, 520, 521, 522, 523}
"""Answers after which the same request may succeed later (52x are Cloudflare's)."""
_MOST_LOOKS: Final = 3
_LOOK_PAUSE: Final = 5.0
"""Looks for a blob, and seconds between them, while the registry may still be putting it together."""
_MOST_FRUITLESS: Final = 4
"""Sessions lost in one pass without getting further than before."""
_MOST_FAILED_CLOSES: Final = 3
"""Whole uploads whose closing PUT fails before the registry is taken to refuse the blob."""


class BlobUpload:
    """The upload of one blob to one repository; ``run`` may be called until it returns."""

    def __init__(
        self,
        client: RegistryClient,
        repository: str,
        blob: Blob,
        journal: Journal,
        watch: Watch,
        link: LinkFacts,
        *,
        chunk_size: int | None = None,
        mount_from: str | None = None,
        believe_head: bool = True,
        looked: bool = False,
    ) -> None:
        self._client = client
        self._repository = repository
        self._blob = blob
        self._journal = journal
        self._watch = watch
        self._link = link
        self._wanted_chunk = chunk_size
        self._mount_from = mount_from
        self._believe_head = believe_head
        self._looked = looked  # the caller's HEAD has just said no
        self._broken_at: int | None = None  # bytes that left before the connection last broke inside a chunk
        self._stuck = 0  # chunks sent in a row that gained nothing
        self._put_off = False  # the last chunk was answered with "later"
        self._stride = chunks.Stride()
        self._closed_again = False
        self._looks_left = 0  # for a blob that the registry may still be putting together
        self._failed_closes = 0
        self._fruitless = 0  # sessions lost in this pass since one got further than all before
        self._furthest = 0
        self._refused: PusherError | None = None

    def locate(self) -> str | None:
        """Whether the blob need not be sent at all: ``exists``, ``mounted``, or None. Reads no byte of it.

        Where an upload is under way, or mounting it opened one, its session stays in the journal.
        """
        if self._journal.load() is not None:
            return None
        looked, self._looked = self._looked, False
        if not looked and self._is_there():
            return "exists"
        if self._mount_from is not None and self._open() is None:
            return "mounted"
        return None

    def run(self) -> str:
        """Bring the blob to the registry; returns ``exists``, ``mounted`` or ``uploaded``.

        Raises what the client raises, LayerTooLarge, ChunkTooLarge, DigestRejected and BlobDamaged.
        """
        if (found := self.locate()) is not None:
            return found
        session = self._journal.load()
        doubtful = session is not None
        self._fruitless = self._furthest = 0
        while True:
            self._watch.check()
            if session is None:
                if self._fruitless and self._is_there():
                    return "exists"
                session, doubtful = self._open(), False
                if session is None:
                    return "mounted"
            elif session.closing:
                if self._client.blob_exists(self._repository, self._blob.digest):
                    return "uploaded"
                self._give_it_time()
                session = self._settle(replace(session, closing=False))
            elif doubtful or session.in_flight:
                session, doubtful = self._settle(session), False
            elif session.offset == self._blob.size or (session.offset == 0 and self._fits(session)):
                if self._close(session):
                    return "uploaded"
                session = None
            else:
                session = self._send_chunk(session)

    def _is_there(self) -> bool:
        return self._believe_head and self._client.blob_exists(self._repository, self._blob.digest)

    # --- the steps ----------------------------------------------------------------------------------------

    def _open(self) -> Session | None:
        """A new session, or None if the blob was mounted instead."""
        if self._fruitless >= _MOST_FRUITLESS:
            raise self._refused or RegistryFault(
                f"{self._client.registry} keeps losing its upload sessions",
                hint="the fault is on the registry's side; pusher waits and goes on",
            )
        mount_from, self._mount_from = self._mount_from, None
        opened = self._client.open_upload(
            self._repository, mount=self._blob.digest if mount_from else None, source=mount_from
        )
        if opened.location is None:
            return None
        profile = profiles.detect(opened.location, opened.headers, self._link.profile)
        if profile.max_blob is not None and self._blob.size > profile.max_blob:
            self._client.delete_upload(self._repository, opened.location)
            raise LayerTooLarge(
                f"the blob {self._blob.digest} has {self._blob.size} bytes, and {profile.title} "
                f"at {self._client.registry} stores at most {profile.max_blob} bytes a blob",
                hint="build the image so that this layer's files are spread over several layers",
            )
        limits = chunks.announced(opened.headers, profile, self._link.max_chunk)
        wanted = self._link.first_size(self._wanted_chunk)
        size = chunks.chunk_size(self._blob.size, wanted, limits, profile)
        session = Session(opened.location, size, limits, profile)
        self._journal.opened(session)
        self._closed_again = False
        self._stuck = 0
        return session

    def _send_chunk(self, session: Session) -> Session | None:
        length = chunks.next_length(
            session.offset, self._blob.size, self._next_size(session), session.profile
        )
        started = time.monotonic()
        session = replace(session, in_flight=length)
        self._journal.sending(session)
        body = Body(self._blob, session.offset, length, self._watch)
        try:
            answer = self._client.send_chunk(self._repository, session.location, body, session.offset)
        except PusherError as error:
            self._journal.spent(body.sent)
            self._stride.failed()
            if isinstance(error, ConnectionBroken):
                self._broke(body.sent)
            raise
        finally:
            self._watch.sending(0)
        if answer.ok:
            self._stride.passed(time.monotonic() - started)
            self._link.passed(length, time.monotonic() - started)
            return self._accepted(session, answer, body.sent)
        self._journal.spent(body.sent)
        self._stride.failed()
        if answer.status == 413 and length > session.chunk_size:
            self._refuse_above(max(session.chunk_size, length // 2))
            return self._settle(session)
        if answer.status == 413:
            return self._shrink(session, length)
        self._put_off = answer.status in _PAUSE - {500}
        if answer.status in _PAUSE or answer.status == 403:
            raise refusal(answer, doing="sending a chunk")
        self._refused = refusal(answer, doing="sending a chunk")
        self._broken_at = None  # the link carried it
        offset, location = reported_offset(answer), self._client.location_of(answer)
        if answer.status == 416 and location and offset is not None and session.may_hold(offset):
            return self._at(replace(session, location=location), offset)
        return self._settle(session)

    def _accepted(self, session: Session, answer: Answer, sent: int) -> Session | None:
        """A chunk was answered with 2xx: 202 by the specification, 201 by ECR."""
        session = replace(session, location=self._client.location_of(answer) or session.location)
        expected = session.offset + session.in_flight
        if reported_offset(answer) in (None, expected):
            return self._at(session, expected, sent=sent)
        self._journal.spent(sent)
        return self._settle(session, accepted=True)

    def _settle(self, session: Session, *, accepted: bool = False) -> Session | None:
        """Ask where the session stands (GET, end-13); None if it is lost.

        ``accepted``: the chunk in flight was answered with 2xx; without a usable answer our own count holds.
        """
        answer: Answer | None
        try:
            answer = self._client.upload_status(self._repository, session.location)
        except CredentialsRejected:
            answer = None
        if answer is not None and answer.status in _PAUSE:
            raise refusal(answer, doing="asking for the state of an upload")
        if answer is not None and answer.ok:
            offset = reported_offset(answer)
            location = self._client.location_of(answer) or session.location
            if offset is not None and not session.may_hold(offset):
                return self._lost(
                    session,
                    f"the registry says it holds {offset} bytes, which cannot be "
                    f"({session.offset} acknowledged, {session.in_flight} in flight)",
                )
            if offset is not None:
                return self._at(replace(session, location=location), offset)
        if accepted:
            return self._at(session, session.offset + session.in_flight)
        if session.in_flight == 0 and (answer is None or answer.status != 404):
            return self._at(session, session.offset)  # nothing was in doubt: our own count holds
        if (answer is None or answer.status == 403) and self._stuck < 2:
            # a login that may push and not pull, or a wrong one: sending the chunk again tells
            return self._at(session, session.offset)
        return self._lost(session, why_lost(answer), found=not outgrown(answer))

    def _at(self, session: Session, offset: int, *, sent: int = 0) -> Session | None:
        """The registry holds ``offset`` bytes: remember it and go on from there."""
        gained = offset - session.offset
        if gained and 0 < gained < session.in_flight:
            self._learn(profiles.after_doubt(session.profile, found=True, grown=True))
        stuck = session.in_flight > 0 and gained == 0
        session = replace(session, offset=offset, in_flight=0)
        self._journal.acknowledged(session, sent)
        self._watch.acknowledged(offset)
        if not stuck:
            self._stuck, self._broken_at = 0, None
            if offset > self._furthest:
                self._furthest, self._fruitless = offset, 0
            return session
        if self._put_off:  # by a front or a busy registry: that says nothing of the session
            self._put_off = False
            return session
        self._stuck += 1
        return self._unstick(session)

    def _unstick(self, session: Session) -> Session | None:
        """A chunk gained nothing. Again and again, it is too big for the link, or the session is ill."""
        # what is acknowledged is worth more tries, above all where the registry itself answers (500)
        patience = 2 if session.offset == 0 else 4 if self._broken_at is not None else 8
        if self._stuck < patience:
            return session
        if self._broken_at is None:
            return self._lost(session, f"the registry took none of {self._stuck} chunks sent to it")
        size = self._link.broke(session, self._broken_at)
        if size == session.chunk_size:
            return session
        return self._lost(
            session, f"the link breaks within chunks of {session.chunk_size} bytes; going on with {size}"
        )

    def _close(self, session: Session) -> bool:
        """The closing PUT: empty after chunks, else with the whole blob. Whether the blob is there now; if
        not, the session is lost."""
        whole = session.offset < self._blob.size
        session = replace(session, in_flight=self._blob.size if whole else 0, closing=True)
        self._journal.closing(session)
        body = Body(self._blob, 0, self._blob.size, self._watch) if whole else None
        try:
            answer = self._client.close_upload(self._repository, session.location, self._blob.digest, body)
        except PusherError as error:
            self._journal.spent(body.sent if body else 0)
            if isinstance(error, RegistryStalled):
                self._looks_left = _MOST_LOOKS
            elif isinstance(error, ConnectionBroken) and body is not None:
                self._broke(body.sent)
            raise
        finally:
            self._watch.sending(0)
        if body is not None and answer.ok:
            self._journal.acknowledged(replace(session, offset=self._blob.size, in_flight=0), body.sent)
        elif body is not None:
            self._journal.spent(body.sent)
        if answer.status == 413:
            self._shrink(session, self._blob.size if whole else session.chunk_size)
            return False
        if answer.ok:
            self._link.got_through()
        return answer.ok or self._close_failed(session, answer)

    def _give_it_time(self) -> None:
        """Registries copy gigabytes after the closing PUT: do not send it all again while they are at it."""
        if self._looks_left:
            self._looks_left -= 1
            raise RegistryBusy(
                f"{self._client.registry} has not put the blob together yet", retry_after=_LOOK_PAUSE
            )

    def _close_failed(self, session: Session, answer: Answer) -> bool:
        """Anything may have happened: blob there, session dead, or a front in the way.

        Sending no byte again is tried first. A session whose second closing PUT fails as well is dead,
        whatever its status says (serverless-registry, src/registry/r2.ts).
        """
        error = refusal(answer, doing="closing an upload")
        wrong_digest = "DIGEST_INVALID" in read_message(answer).codes
        if answer.status in (401, 403) or isinstance(error, RegistryBusy):
            raise error  # nothing was tried: the session is as good as before
        if not self._closed_again and answer.status in _PAUSE and not wrong_digest:
            self._closed_again = True
            self._looks_left = _MOST_LOOKS if answer.status in _TIRED else 0
            raise error
        if self._client.blob_exists(self._repository, self._blob.digest):
            return True
        self._failed_closes += 1
        self._refused = error
        if not self._blob.intact():
            self._lost(session, "the blob on disk is damaged")
            raise BlobDamaged(self._blob.digest)
        if self._failed_closes >= _MOST_FAILED_CLOSES:
            self._lost(session, error.message)
            raise DigestRejected(
                f"{self._client.registry} could not put the blob {self._blob.digest} together in "
                f"{self._failed_closes} uploads: {error.message}",
                hint="the bytes sent were verified here; the registry or a proxy in front of it is at fault",
            )
        self._lost(session, error.message)
        return False

    # --- setbacks -----------------------------------------------------------------------------------------

    def _lost(self, session: Session, reason: str, *, found: bool = True) -> Session | None:
        """Give the session up, for the blob to start again in a new one; always None."""
        self._fruitless += 1
        if session.in_flight and not found:
            profile = profiles.after_doubt(session.profile, found=False, grown=False)
            self._learn(profile)
            if profile.breaks_with_chunk and self._broken_at is not None:
                self._link.broke(session, session.chunk_size)
        self._journal.lost(reason)
        self._watch.acknowledged(0)
        return None

    def _broke(self, sent: int) -> None:
        """The connection broke while a body was on its way, after ``sent`` bytes had left."""
        if sent:
            self._broken_at = min(sent, self._broken_at or sent)
            self._client.one_request_a_connection = True

    def _shrink(self, session: Session, length: int) -> Session | None:
        """413: a front refuses bodies of ``length`` bytes; remember it and start again with half."""
        size = chunks.smaller(length, session.limits, at_most=self._link.max_chunk or length)
        if size is None:
            raise ChunkTooLarge(
                f"something in front of {self._client.registry} refuses bodies of {length} bytes (413), "
                "and the registry takes no smaller chunks",
                hint="raise the body limit of the proxy in front of the registry",
            )
        self._refuse_above(size)
        self._fruitless -= 1
        return self._lost(session, f"bodies of {length} bytes are refused (413); going on with {size}")

    def _refuse_above(self, size: int) -> None:
        """Remember that a front refused more than ``size`` bytes."""
        self._link.max_chunk = size
        self._journal.learned(max_chunk=size)

    def _next_size(self, session: Session) -> int:
        """Bytes of a full chunk now; what the user asked for and what a bad link carries does not grow."""
        if self._wanted_chunk is not None or self._client.one_request_a_connection:
            return session.chunk_size
        limits = replace(session.limits, largest=self._link.max_chunk or session.limits.largest)
        return self._stride.size(session.chunk_size, limits, session.profile)

    def _learn(self, profile: profiles.Profile) -> None:
        if profile.name != self._link.profile and profile.name in ("distribution-2", "distribution-3"):
            self._link.profile = profile.name
            self._journal.learned(profile=profile.name)

    def _fits(self, session: Session) -> bool:
        return self._blob.size <= session.chunk_size
