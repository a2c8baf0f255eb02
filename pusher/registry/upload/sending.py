"""Send one chunk of an upload, and record what it showed of the link."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from pusher.dataclass import dataclass
from pusher.errors import ConnectionBroken, PusherError, RegistryFault, SourceError
from pusher.registry.client import RegistryClient
from pusher.registry.http.answer import Answer
from pusher.registry.http.body import BlobDamaged, BlobFile, Body, BodyCut, UploadObserver
from pusher.registry.upload import chunk_sizes, verdicts
from pusher.registry.upload.chunk_plan import ChunkPlan
from pusher.registry.upload.early_chunks import EarlyChunks
from pusher.registry.upload.session import Journal, Session
from pusher.registry.upload.setbacks import Setbacks
from pusher.registry.upload.states import Ask, Done, Send
from pusher.registry.upload.uplink import LinkEstimate
from pusher.registry.upload.verdicts import ChunkAnswer

SENDING: Final = "sending a chunk"


@dataclass(frozen=True)
class SentChunk:
    """A chunk that was answered; ``session`` still has it in flight."""

    session: Session
    answer: Answer
    meaning: ChunkAnswer
    transmitted: int
    """Bytes of the body that were sent."""


class ChunkSender:
    """Sends the chunks of one blob's upload; their sizes come from ``plan``."""

    def __init__(
        self,
        client: RegistryClient,
        repository: str,
        blob: BlobFile,
        journal: Journal,
        observer: UploadObserver,
        link: LinkEstimate,
        plan: ChunkPlan,
        setbacks: Setbacks,
    ) -> None:
        self._client = client
        self._repository = repository
        self._blob = blob
        self._journal = journal
        self._observer = observer
        self._link = link
        self._plan = plan
        self._setbacks = setbacks
        self._early = EarlyChunks(blob, journal)

    def send(self, session: Session) -> SentChunk | Ask | Done | Send:
        """Send the next chunk; return its answer, or the next state if there is none.

        Raises the client's errors, those of the blob's file, and what the observer raises.
        """
        size = self._plan.next_size(session)
        for wanted in (size, self._arrived_size(session, size)):
            length = chunk_sizes.next_length(session.offset, self._blob.size, wanted, session.profile)
            if (promise := self._early.promise(session.offset + length)) is not None:
                with promise:
                    supply = self._early.begin(promise, session.offset)
                    return Send(session) if supply is None else self._send_chunk(session, length, supply)
        if not self._blob.wait(session.offset + length, self._observer.check):
            return Done(None)
        return self._send_chunk(session, length)

    def forget_session(self) -> None:
        """Record that the session is lost."""
        self._early.forget_session()

    def _arrived_size(self, session: Session, size: int) -> int:
        arrival = self._blob.arrival
        return size if arrival is None else self._plan.arrived_size(session, size, arrival.held)

    def _send_chunk(
        self, session: Session, length: int, supply: Callable[[int], int] | None = None
    ) -> SentChunk | Ask:
        started = time.monotonic()
        session = replace(session, in_flight=length)
        self._journal.record_chunk(session)
        body = Body(self._blob, session.offset, length, self._observer, supply)
        try:
            answer = self._exchange(session, body)
        except BodyCut:
            self._early.record_cut()
            return Ask(session)
        meaning = verdicts.judge_chunk(answer)
        if meaning is ChunkAnswer.ACCEPTED:
            now = time.monotonic()
            waited = None if body.ended_at is None else now - body.ended_at
            seconds = now - started - body.starved
            self._plan.growth.record_success(length, seconds, waited)
            self._link.record_chunk(length, seconds, waited)
        else:
            self._journal.count_sent(body.transmitted)
            self._plan.growth.record_failure()
        return SentChunk(session, answer, meaning, body.transmitted)

    def _exchange(self, session: Session, body: Body) -> Answer:
        """Send ``body``; if that fails, record what it cost and raise."""
        started = time.monotonic()
        apart = self._client.closes_connections = self._link.closes_connections(session.profile)
        try:
            return self._client.send_chunk(self._repository, session.location, body, session.offset)
        except BlobDamaged:
            self._journal.count_sent(body.transmitted)
            raise
        except (PusherError, BodyCut) as error:
            self._journal.count_sent(body.transmitted)
            self._plan.growth.record_failure()
            if body.sent == 0:  # e.g. offline: the registry has nothing of it
                self._journal.withdraw_chunk(session)
            if isinstance(error, ConnectionBroken):
                self._setbacks.record_break(body.sent, len(body), time.monotonic() - started)
                if apart and session.profile.breaks_with_chunk and len(body) > session.chunk_size:
                    self._plan.growth.lower_cap(len(body))
            self._setbacks.postponed = isinstance(error, RegistryFault | SourceError)
            raise
        finally:
            self._observer.report_sent(0)
