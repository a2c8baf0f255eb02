"""Sending one blob so that nothing acknowledged is ever sent twice.

``BlobUpload.run`` looks where the blob stands, goes on from there and closes. It raises what a pause can mend
(RegistryUnreachable, ConnectionBroken, RegistryBusy, RegistryFault); called again, even after a reboot, it
goes on. A reset and a power cut are one case: the journal says what was under way, the registry what it has.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from pusher.errors import ConnectionBroken, CredentialsRejected, PermissionDenied, PusherError, RegistryFault
from pusher.registry.answers import is_final, read_message, refusal
from pusher.registry.client import RegistryClient
from pusher.registry.http.answer import Answer
from pusher.registry.http.body import BlobFile, Body, Watch
from pusher.registry.intermediaries import is_chunk_accepted
from pusher.registry.upload import break_probe, chunk_sizes, profiles
from pusher.registry.upload.body_limit import SmallBodies
from pusher.registry.upload.chunk_plan import ChunkPlan
from pusher.registry.upload.closing import PAUSE, BodyRefused, CloseRefused, Closing
from pusher.registry.upload.opening import Opening
from pusher.registry.upload.profiles import KIB
from pusher.registry.upload.session import Journal, Session, outgrown, reported_offset, why_lost
from pusher.registry.upload.uplink import LinkFacts

_MOST_FRUITLESS: Final = 4
"""Sessions lost in one pass without getting further than before."""
_ABSENT: Final = 10.0  # seconds for which a HEAD that found nothing counts


class BlobUpload:
    """The upload of one blob to one repository; ``run`` may be called until it returns."""

    def __init__(
        self,
        client: RegistryClient,
        repository: str,
        blob: BlobFile,
        journal: Journal,
        watch: Watch,
        link: LinkFacts,
        *,
        chunk_size: int | None = None,
        mount_from: str | None = None,
        forced: str | None = None,
        believe_head: bool = True,
        looked: bool = False,
    ) -> None:
        """``chunk_size`` and ``forced``, a profile's name, are what the user asked for."""
        self._client = client
        self._repository = repository
        self._blob = blob
        self._journal = journal
        self._watch = watch
        self._link = link
        self._wanted_chunk = chunk_size
        self._believe_head = believe_head
        self._absent_until = time.monotonic() + _ABSENT if looked else 0.0
        self._opening = Opening(
            client,
            repository,
            blob,
            journal,
            link,
            wanted_chunk=chunk_size,
            mount_from=mount_from,
            forced=forced,
        )
        self._closing = Closing(client, repository, blob, journal, watch)
        self._broken_at: int | None = None  # bytes that left before the connection last broke inside a chunk
        self._small_bodies = SmallBodies()
        self._stuck = 0  # chunks sent in a row that gained nothing
        self._explained = False
        self._put_off = False  # the last chunk was answered with "later"
        self._plan = ChunkPlan(blob.size, link, chunk_size)
        self._apart = False  # a connection for every chunk, since the link broke
        self._fruitless = 0  # sessions lost in this pass since one got further than all before
        self._furthest = 0
        self._refused: PusherError | None = None

    def locate(self) -> str | None:
        """Whether the blob need not be sent at all: ``exists``, ``mounted``, or None. Reads no byte of it.

        Where an upload is under way, or mounting it opened one, its session stays in the journal.
        """
        if self._journal.load() is not None:
            return None
        if time.monotonic() >= self._absent_until:
            if self._is_there():
                return "exists"
            self._absent_until = time.monotonic() + _ABSENT
        if self._opening.mount_from is not None and self._open() is None:
            self._absent_until = 0.0
            return "mounted"
        return None

    def run(self) -> str:
        """Bring the blob to the registry; returns ``exists``, ``mounted`` or ``uploaded``.

        Raises what the client raises, LayerTooLarge, ChunkTooLarge, DigestRejected, BlobDamaged, and
        InvalidOption for a profile that does not exist.
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
                if self._closing.is_there():
                    return "uploaded"
                self._closing.give_it_time()
                session, doubtful = self._settle(session), False
            elif doubtful or session.in_flight:
                session, doubtful = self._settle(session), False
            elif self._plan.is_last(session):
                closed = self._close(session)
                if closed is session:
                    return "uploaded"
                session = closed
            elif larger := self._plan.larger(session):
                session = self._start_over(session, larger)
            else:
                session = self._send_chunk(session)

    def _is_there(self) -> bool:
        return self._believe_head and self._closing.is_there()

    # --- the steps ----------------------------------------------------------------------------------------

    def _open(self) -> Session | None:
        """A new session, or None if the blob was mounted instead."""
        if self._fruitless >= _MOST_FRUITLESS:
            raise self._refused or RegistryFault(
                f"{self._client.registry} keeps losing its upload sessions",
                hint="the fault is on the registry's side; pusher waits and goes on",
            )
        session = self._opening.open()
        self._stuck = 0
        return session

    def _send_chunk(self, session: Session) -> Session | None:
        length = chunk_sizes.next_length(
            session.offset, self._blob.size, self._plan.next_size(session), session.profile
        )
        self._blob.wait(session.offset + length, self._watch.check)
        started = time.monotonic()
        session = replace(session, in_flight=length)
        self._journal.sending(session)
        body = Body(self._blob, session.offset, length, self._watch)
        apart = self._apart = self._apart or self._link.cuts or self._link.breaks > 0
        self._client.closes_connections = apart
        try:
            answer = self._client.send_chunk(self._repository, session.location, body, session.offset)
        except PusherError as error:
            self._journal.spent(body.transmitted)
            self._plan.growth.failed()
            if body.sent == 0:  # offline, say: the registry has nothing of it
                self._journal.acknowledged(replace(session, in_flight=0), 0)
            if isinstance(error, ConnectionBroken):
                self._broke(body.sent, length)
                if apart and session.profile.breaks_with_chunk and length > session.chunk_size:
                    self._plan.growth.dare_less(length)
            self._put_off = isinstance(error, RegistryFault)
            raise
        finally:
            self._watch.sending(0)
        if is_chunk_accepted(answer):
            now = time.monotonic()
            self._plan.growth.passed(length, now - started)
            self._link.passed(length, now - started, None if body.ended_at is None else now - body.ended_at)
            return self._accepted(session, answer, body.transmitted)
        self._journal.spent(body.transmitted)
        self._plan.growth.failed()
        if answer.ok:  # it acknowledges nothing: the registry's word on the session counts
            return self._settle(session)
        if is_final(answer):
            raise refusal(answer, doing="sending a chunk")
        if answer.status == 413:
            self._small_bodies.demand_smaller(answer, length, session.offset, doing="sending a chunk")
            begun = session.offset > 0 or length > session.chunk_size
            if not begun or session.profile.equal_chunks:
                return self._shrink(session, length)
            self._opening.refuse_above(max(min(session.chunk_size, length - 1), length // 2))
            return self._settle(session)
        self._put_off = answer.status in PAUSE - {500}
        if answer.status in PAUSE or answer.status == 403:
            raise refusal(answer, doing="sending a chunk")
        return self._chunk_refused(session, answer)

    def _accepted(self, session: Session, answer: Answer, sent: int) -> Session | None:
        """A chunk was answered with 2xx: 202 by the specification, 201 by ECR."""
        self._opening.chunk_taken()
        before = session.location
        session = replace(session, location=self._client.location_of(answer, before) or before)
        expected = session.offset + session.in_flight
        if not session.profile.tells_offset or reported_offset(answer) in (None, expected):
            return (on := self._at(session, expected, sent=sent)) and self._looked_at(on, before)
        self._journal.spent(sent)
        return self._settle(session, accepted=True)

    def _looked_at(self, session: Session, before: str) -> Session:
        """After the first chunk: what becomes of one that breaks off, where no answer has shown it yet."""
        if not session.profile.break_unclear or session.offset == self._blob.size:
            return session
        profile = break_probe.look_back(self._client, self._repository, session, before)
        if profile is session.profile:
            return session
        self._opening.learn_version(profile)
        session = replace(session, profile=profile)
        self._journal.refined(session)
        return session

    def _chunk_refused(self, session: Session, answer: Answer) -> Session | None:
        """A chunk was answered with 4xx: go on where the answer says, ask, or do without chunks."""
        self._refused = refusal(answer, doing="sending a chunk")
        self._broken_at = None  # the link carried it
        offset, location = session.told(answer), self._client.location_of(answer, session.location)
        located = location is not None or session.profile.resends
        if answer.status == 416 and located and offset and session.may_hold(offset):
            return self._at(replace(session, location=location or session.location), offset)
        if session.offset == 0 and self._opening.chunk_refused(session, answer):
            return self._lost(session, f"chunks are refused ({answer.status}); going on with one request")
        if not session.profile.tells_offset:
            return self._lost(session, self._refused.message)
        return self._settle(session)

    def _settle(self, session: Session, *, accepted: bool = False) -> Session | None:
        """Ask where the session stands (GET, end-13); None if it is lost.

        ``accepted``: the chunk in flight was answered with 2xx; without a usable answer our own count holds.
        """
        if not session.profile.tells_offset:
            return self._settle_unasked(session)
        answer: Answer | None
        try:
            answer = self._client.get_upload_status(self._repository, session.location)
        except (CredentialsRejected, PermissionDenied):
            answer = None
        if answer is not None and answer.status in PAUSE:
            raise refusal(answer, doing="asking for the state of an upload")
        if answer is not None and answer.ok:
            offset = session.told(answer)
            location = self._client.location_of(answer, session.location) or session.location
            if accepted and offset is not None and offset <= max(session.offset, session.in_flight):
                offset = session.offset + session.in_flight  # a Range that stands still or is the chunk's own
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
        lives = answer is None or answer.status != 404 or "UNSUPPORTED" in read_message(answer).codes
        if session.in_flight == 0 and lives:
            return self._at(session, session.offset)  # nothing was in doubt: our own count holds
        may_send_again = session.offset > 0 or not session.profile.appends_at_start
        if (answer is None or answer.status == 403) and self._stuck < 2 and may_send_again:
            self._plan.again = session.in_flight  # a login that may not pull, say: sending it again tells
            return self._at(session, session.offset)
        if session.closing and self._closing.is_there():
            return session  # it was closed between the two looks
        return self._lost(session, why_lost(answer), found=not outgrown(answer))

    def _settle_unasked(self, session: Session) -> Session | None:
        """The registry does not say what it holds: our own count holds where nothing is in doubt."""
        if session.in_flight == 0 or session.profile.resends:
            return self._at(session, session.offset)
        if session.goes_whole(self._blob.size):
            return self._lost(session, "a blob goes to this registry in one request and cannot be resumed")
        return self._lost(session, why_lost(None))

    def _at(self, session: Session, offset: int, *, sent: int = 0) -> Session | None:
        """The registry holds ``offset`` bytes: remember it and go on from there."""
        gained = offset - session.offset
        if gained and 0 < gained < session.in_flight:
            self._opening.learn_version(profiles.after_doubt(session.profile, found=True, grown=True))
        stuck = session.in_flight > 0 and gained == 0
        session = replace(session, offset=offset, in_flight=0, closing=False)
        self._journal.acknowledged(session, sent)
        self._watch.acknowledged(offset)
        if not stuck:
            self._stuck, self._broken_at, self._plan.again = 0, None, 0
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
        if self._blob.size - session.offset < chunk_sizes.LEAST:  # which says nothing of the link
            return session
        tried = self._plan.next_size(session)
        size = self._link.retreat(tried, session.limits, self._broken_at)
        if size == tried:
            if not (self._explained or session.profile.whole):
                self._explained = True
                self._journal.tell(break_probe.nothing_lasts(self._client.registry, session))
            return session
        if session.offset and not session.profile.equal_chunks:
            self._stuck, self._broken_at = 0, None
            return session
        return self._lost(session, f"the link breaks within chunks of {tried} bytes; going on with {size}")

    def _close(self, session: Session) -> Session | None:
        """The closing PUT. The same session: the blob is there; else the one to go on with."""
        self._blob.wait(self._blob.size, self._watch.check)
        started = time.monotonic()
        try:
            self._closing.put(session)
        except ConnectionBroken:
            self._broke(self._closing.broke_after, self._blob.size - session.offset)
            raise
        except BodyRefused as refused:
            rest = self._blob.size - session.offset
            self._small_bodies.demand_smaller(refused.answer, rest, session.offset, doing="closing an upload")
            return self._shrink(session, rest or session.chunk_size)
        except CloseRefused as refused:
            self._refused = refused.error
            return self._lost(session, refused.error.message)
        self._opening.got_through(session)
        if rest := self._blob.size - session.offset:
            self._link.passed(rest, time.monotonic() - started)
        self._link.got_through()
        return session

    # --- setbacks -----------------------------------------------------------------------------------------

    def _lost(self, session: Session, reason: str, *, found: bool = True) -> Session | None:
        """Give the session up, for the blob to start again in a new one; always None.

        Raises BlobDamaged, and DigestRejected after several whole uploads in vain.
        """
        self._fruitless += 1
        if session.in_flight and not found:
            profile = profiles.after_doubt(session.profile, found=False, grown=False)
            self._opening.learn_version(profile)
            if self._wanted_chunk and profile.breaks_with_chunk and self._broken_at:  # else the link adapts
                self._link.retreat(session.chunk_size, session.limits, session.chunk_size)
        self._journal.lost(reason)
        self._watch.acknowledged(0)
        if self._closing.failure is not None:
            self._opening.close_failed(session, refused=self._closing.refused)
        self._closing.session_lost()
        return None

    def _broke(self, sent: int, length: int) -> None:
        """The connection broke while a body of ``length`` bytes was on its way, after ``sent`` had left."""
        if sent:
            self._broken_at = min(sent, self._broken_at or sent)
            self._link.broke(sent, length)

    def _shrink(self, session: Session, length: int) -> Session | None:
        """413: a front refuses bodies of ``length`` bytes; go on with half. It answers before the registry
        sees a byte, and chunks have no size before the first one: an empty session can be kept."""
        smaller = self._opening.smaller(session, length)
        if smaller is None:
            return self._lost(session, f"bodies of {length} bytes are refused (413); going on with chunks")
        if smaller.offset == 0:
            self._journal.opened(smaller)
            return smaller
        self._fruitless -= 1
        return self._lost(
            session, f"bodies of {length} bytes are refused (413); going on with {smaller.chunk_size}"
        )

    def _start_over(self, session: Session, larger: int) -> Session | None:
        self._plan.give_up(session)
        self._fruitless -= 1
        return self._lost(
            session,
            f"chunks of {session.chunk_size // KIB} KiB take too long at this registry, and have one size "
            f"for a whole upload; going on with {larger // KIB} KiB",
        )
