"""Upload one blob without ever sending an acknowledged byte twice.

``BlobUpload.run`` is a state machine; its table is in ``states.py``. It raises errors that are worth a retry
(RegistryUnreachable, ConnectionBroken, RegistryBusy, RegistryFault); called again, even after a reboot, it
continues. A connection reset and a power cut are the same case: the journal has the last request, the
registry has the offset.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from pusher.errors import (
    ConnectionBroken,
    PusherError,
    RegistryFault,
)
from pusher.registry.answers import refusal
from pusher.registry.client import RegistryClient
from pusher.registry.http.answer import Answer
from pusher.registry.http.body import BlobFile, UploadObserver
from pusher.registry.upload import break_probe, chunk_sizes, profiles
from pusher.registry.upload.body_limit import SizeRefusals
from pusher.registry.upload.chunk_plan import ChunkPlan
from pusher.registry.upload.closing import BodyTooLarge, CloseRefused, SessionCloser
from pusher.registry.upload.opening import SessionOpener
from pusher.registry.upload.sending import SENDING, ChunkSender, SentChunk
from pusher.registry.upload.session import Journal, Session, reported_offset
from pusher.registry.upload.setbacks import Setbacks, Stuck
from pusher.registry.upload.states import Ask, Close, Done, Lost, Open, Send, State
from pusher.registry.upload.status import request_status
from pusher.registry.upload.uplink import LinkEstimate
from pusher.registry.upload.verdicts import PAUSE, ChunkAnswer, Unusable
from pusher.units import human_bytes

_ABSENT: Final = 10.0  # seconds for which a HEAD that found nothing counts


class BlobUpload:
    """The upload of one blob to one repository; call ``run`` until it returns."""

    def __init__(
        self,
        client: RegistryClient,
        repository: str,
        blob: BlobFile,
        journal: Journal,
        observer: UploadObserver,
        link: LinkEstimate,
        *,
        chunk_size: int | None = None,
        mount_from: str | None = None,
        forced: str | None = None,
        believe_head: bool = True,
        looked: bool = False,
        continues: bool = False,
    ) -> None:
        """Prepare the upload; ``chunk_size`` and ``forced``, a profile's name, are set by the user.

        ``looked``: the registry was just asked and has no such blob. ``continues``: so was its session, so
        that the journal's offset needs no status request if nothing is in flight.
        """
        self._client = client
        self._repository = repository
        self._blob = blob
        self._journal = journal
        self._observer = observer
        self._link = link
        self._believe_head = believe_head
        self._continues = continues
        self._absent_until = time.monotonic() + _ABSENT if looked else 0.0
        self._opening = SessionOpener(
            client,
            repository,
            blob,
            journal,
            link,
            wanted_chunk=chunk_size,
            mount_from=mount_from,
            forced=forced,
        )
        self._closing = SessionCloser(client, repository, blob, journal, observer)
        self._plan = ChunkPlan(blob.size, link, chunk_size, is_limit=blob.is_unfinished, arrival=blob.arrival)
        self._setbacks = Setbacks(link)
        self._size_refusals = SizeRefusals()
        self._refused: PusherError | None = None
        self._sending = ChunkSender(
            *(client, repository, blob, journal, observer, link, self._plan, self._setbacks)
        )

    def locate(self) -> str | None:
        """Return ``exists`` or ``mounted`` if the blob need not be sent, else None. Reads no byte of it.

        The session of an upload that was under way, or that mounting opened, stays in the journal.
        """
        session = self._journal.load()
        if session is not None:
            return "mounted" if self._is_mounted_instead(session) else None
        if time.monotonic() >= self._absent_until:
            if self._is_there():
                return "exists"
            self._absent_until = time.monotonic() + _ABSENT
        if self._opening.mount_from is not None and isinstance(self._open(), Done):
            self._absent_until = 0.0
            return "mounted"
        return None

    def _is_mounted_instead(self, session: Session) -> bool:
        """Return whether the blob was mounted, so that the rest need not be sent.

        Another job may have brought it to the registry since its session was opened.
        """
        has_all = session.closing or session.offset == self._blob.size
        if self._opening.mount_from is None or has_all or self._blob.is_unfinished:
            return False
        return self._opening.mount()

    def run(self) -> str | None:
        """Upload the blob unless the registry has it; return ``exists``, ``mounted`` or ``uploaded``.

        Return None for an unfinished blob, once it is complete: an upload of the complete blob continues with
        the session in the journal.

        Raises what the client raises, LayerTooLarge, ChunkTooLarge, DigestRejected, BlobDamaged, and
        InvalidOption for a profile that does not exist.
        """
        if (found := self.locate()) is not None:
            return found
        self._setbacks.begin_pass()
        session = self._journal.load()
        state: State = Open() if session is None else Ask(session)
        if session is not None and self._continues and not session.in_flight and not session.closing:
            state = self._plan.next_state(session)
        self._continues = False
        while not isinstance(state, Done):
            state = self._step(state)
        return state.how

    def finish_session(self) -> str | None:
        """Continue the session in the journal to its end; return None, and open no other, if it is lost.

        Return and raise what ``run`` does.
        """
        self._setbacks.begin_pass()
        session = self._journal.load()
        state: State = Open() if session is None else Ask(session)
        while not isinstance(state, Done):
            if isinstance(state, Open):
                return None
            state = self._step(state)
        return state.how

    def _step(self, state: State) -> State:
        """Run one state and return the next one."""
        if isinstance(state, Lost):
            return self._forget(state)
        self._observer.check()
        match state:
            case Open():
                return self._open_unless_there()
            case Send(session):
                return self._send(session)
            case Ask(session, accepted):
                return self._ask(session, accepted=accepted)
            case Close(session):
                return self._close(session)
            case Done():
                return state

    def _is_there(self) -> bool:
        return self._believe_head and self._closing.has_blob()

    # --- OPEN ---------------------------------------------------------------------------------------------

    def _open_unless_there(self) -> State:
        """Open a session, unless another client has uploaded the blob since sessions were lost."""
        if self._setbacks.has_lost_sessions and self._is_there():
            return Done("exists")
        return self._open()

    def _open(self) -> State:
        if self._setbacks.is_hopeless:
            raise self._refused or RegistryFault(
                f"{self._client.registry} keeps losing its upload sessions",
                hint="the fault is at the registry; pusher waits and tries again",
            )
        session = self._opening.open()
        self._setbacks.begin_session()
        return Done("mounted") if session is None else self._plan.first_state(session)

    # --- SEND ---------------------------------------------------------------------------------------------

    def _send(self, session: Session) -> State:
        """Send the next chunk and handle the response."""
        outcome = self._sending.send(session)
        if not isinstance(outcome, SentChunk):
            return outcome
        session, answer = outcome.session, outcome.answer
        match outcome.meaning:
            case ChunkAnswer.ACCEPTED:
                return self._accept(session, answer, outcome.transmitted)
            case ChunkAnswer.SILENT:
                return Ask(session)
            case ChunkAnswer.TOO_LARGE:
                return self._send_less(session, answer)
            case ChunkAnswer.REFUSED:
                self._setbacks.postponed = False
                return self._refuse_chunk(session, answer)
            case ChunkAnswer.LATER:
                self._setbacks.postponed = answer.status in PAUSE - {500}
        raise refusal(answer, doing=SENDING)

    def _accept(self, session: Session, answer: Answer, sent: int) -> State:
        """Continue after a 2xx response to a chunk: 202 by the specification, 201 from ECR."""
        self._opening.record_accepted_chunk()
        before = session.location
        session = replace(session, location=self._client.location_of(answer, before) or before)
        expected = session.offset + session.in_flight
        if session.profile.reports_offset and reported_offset(answer) not in (None, expected):
            self._journal.count_sent(sent)
            return Ask(session, accepted=True)
        session = self._gain(self._acknowledge(session, expected, sent))
        return self._plan.next_state(self._probe(session, before))

    def _probe(self, session: Session, before: str) -> Session:
        """Find out after the first chunk what the registry keeps of an interrupted one, unless known."""
        left = self._blob.size - session.offset
        if not session.profile.break_unclear or left <= self._plan.next_size(session):
            return session  # with one more chunk to send it is not worth a round trip
        profile = break_probe.find_profile(self._client, self._repository, session, before, self._link, left)
        if profile is session.profile:
            return session
        self._opening.learn_version(profile)
        session = replace(session, profile=profile)
        self._journal.record_profile(session)
        return session

    def _send_less(self, session: Session, answer: Answer) -> State:
        """Continue with smaller bodies after a 413."""
        length = session.in_flight
        self._size_refusals.check(answer, length, session.offset, doing=SENDING)
        begun = session.offset > 0 or length > session.chunk_size
        if not begun or session.profile.equal_chunks:
            return self._shrink(session, length)
        self._opening.record_size_refusal(max(min(session.chunk_size, length - 1), length // 2))
        return Ask(session)

    def _refuse_chunk(self, session: Session, answer: Answer) -> State:
        """Continue after a 4xx response to a chunk: at its offset, by a status request, or in one PUT."""
        self._refused = refusal(answer, doing=SENDING)
        self._setbacks.broken_at = None  # the link carried it
        offset, location = session.offset_in(answer), self._client.location_of(answer, session.location)
        located = location is not None or session.profile.resends
        if answer.status == 416 and located and offset and session.may_hold(offset):
            return self._resume(replace(session, location=location or session.location), offset)
        if session.offset == 0 and self._opening.switch_after_refusal(session, answer):
            return Lost(session, f"chunks are refused ({answer.status}); continuing with one request")
        return Ask(session) if session.profile.reports_offset else Lost(session, self._refused.message)

    # --- ASK ----------------------------------------------------------------------------------------------

    def _ask(self, session: Session, *, accepted: bool) -> State:
        """Request the session's status, and continue from its offset."""
        if session.closing:
            if self._closing.has_blob():
                return Done("uploaded")
            self._closing.wait_for_commit()
        session, standing = request_status(
            self._client,
            self._repository,
            session,
            self._blob.size,
            accepted=accepted,
            may_repeat=self._setbacks.may_repeat,
        )
        if isinstance(standing, Unusable):
            if session.closing and session.profile.reports_offset and self._closing.has_blob():
                return Done("uploaded")  # it was closed between the two requests
            return Lost(session, standing.reason, cut_off=standing.cut_off)
        if standing.in_doubt:
            self._plan.again = session.in_flight
        return self._resume(session, standing.offset)

    def _resume(self, session: Session, offset: int) -> State:
        """Continue at ``offset``, which the registry reported, or find out why there was no progress."""
        gained, in_flight = offset - session.offset, session.in_flight
        if 0 < gained < in_flight:
            self._opening.learn_version(profiles.profile_after_break(session.profile, found=True, grown=True))
        session = self._acknowledge(replace(session, closing=False), offset)
        if gained or not in_flight:
            return self._plan.next_state(self._gain(session))
        match self._setbacks.judge_stuck(session.offset):
            case Stuck.PATIENT:
                return self._plan.next_state(session)
            case Stuck.SESSION_ILL:
                stuck = self._setbacks.stuck
                return Lost(session, f"the registry took none of {stuck} chunks sent to it")
            case Stuck.LINK_BREAKS:
                return self._dare_less(session, self._setbacks.broken_at or 0)

    def _dare_less(self, session: Session, broken_at: int) -> State:
        """Try smaller chunks, if any: the link repeatedly breaks inside one, after ``broken_at`` bytes."""
        if self._blob.size - session.offset < chunk_sizes.LEAST:  # which says nothing of the link
            return self._plan.next_state(session)
        tried = self._plan.next_size(session)
        size = self._link.lower_ceiling(tried, session.limits, broken_at)
        if size == tried:
            if not session.profile.whole and self._setbacks.explain_once():
                self._journal.add_note(break_probe.explain_losses(self._client.registry, session))
            return self._plan.next_state(session)
        if session.offset and not session.profile.equal_chunks:
            self._setbacks.clear()
            return self._plan.next_state(session)
        return Lost(
            session,
            f"the link breaks within chunks of {human_bytes(tried)}; continuing with {human_bytes(size)}",
        )

    def _acknowledge(self, session: Session, offset: int, sent: int = 0) -> Session:
        """Store that the registry holds ``offset`` bytes, then report it; only done here."""
        session = replace(session, offset=offset, in_flight=0, unrecorded=0)
        self._journal.record_offset(session, sent)
        self._observer.report_acknowledged(offset)
        return session

    def _gain(self, session: Session) -> Session:
        """Record progress with no byte in doubt, which resets the counts of failures."""
        self._plan.again = 0
        self._setbacks.record_gain(session.offset)
        return session

    # --- CLOSE --------------------------------------------------------------------------------------------

    def _close(self, session: Session) -> State:
        """Send the closing PUT with the remaining bytes."""
        if not self._blob.wait(self._blob.size, self._observer.check):
            return Done(None)
        started, rest = time.monotonic(), self._blob.size - session.offset
        try:
            outcome = self._closing.close(session)
        except ConnectionBroken:
            self._setbacks.record_break(self._closing.sent_before_break, rest, time.monotonic() - started)
            self._plan.growth.record_failure()
            raise
        match outcome:
            case BodyTooLarge(answer) if session.profile.may_end_in_put and session.offset and rest:
                return self._send_less(replace(session, in_flight=rest), answer)
            case BodyTooLarge(answer):
                self._size_refusals.check(answer, rest, session.offset, doing="closing an upload")
                return self._shrink(session, rest or session.chunk_size)
            case CloseRefused(error):
                self._refused = error
                return Lost(session, error.message)
        if outcome.sent is not None:
            self._journal.count_accepted(outcome.sent)
            self._observer.report_acknowledged(self._blob.size)
        self._opening.confirm_profile(session)
        if rest:
            self._link.record_chunk(rest, time.monotonic() - started)
        self._link.record_blob()
        return Done("uploaded")

    # --- LOST ---------------------------------------------------------------------------------------------

    def _forget(self, lost: Lost) -> State:
        """Give the session up. Raises BlobDamaged, and DigestRejected after several failed whole uploads."""
        session = lost.session
        if lost.fruitless:
            self._setbacks.record_lost()
            if session.profile.may_restart and self._setbacks.broken_at:
                self._link.record_lost_upload()
        if session.in_flight and lost.cut_off:
            profile = profiles.profile_after_break(session.profile, found=False, grown=False)
            self._opening.learn_version(profile)
            self._plan.shrink_after_break(session, profile, self._setbacks.broken_at)
        self._plan.record_loss(session)
        self._journal.record_loss(lost.reason)
        self._sending.forget_session()
        self._observer.report_acknowledged(0)
        if self._closing.failure is not None:
            self._opening.switch_after_failed_close(session, refused=self._closing.refused)
        self._closing.count_lost_session()
        return Open()

    def _shrink(self, session: Session, length: int) -> State:
        """Continue with half of ``length`` bytes, refused with 413; an empty session can be kept."""
        smaller = self._opening.shrink(session, length)
        if smaller is None:
            return Lost(session, f"bodies of {human_bytes(length)} are refused (413); continuing with chunks")
        if smaller.offset == 0:
            self._journal.record_session(smaller)
            return self._plan.next_state(smaller)
        size = human_bytes(smaller.chunk_size)
        return Lost(
            session,
            f"bodies of {human_bytes(length)} are refused (413); continuing with {size}",
            fruitless=False,
        )
