"""One blob on its way to a registry, with a journal in memory: what the upload tests have in common."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Final

import pytest

from pusher.config import Timeouts
from pusher.errors import PusherError, Retry
from pusher.oci.digest import of_bytes
from pusher.registry.auth.authenticator import Authenticator
from pusher.registry.auth.credentials import Credential
from pusher.registry.client import RegistryClient
from pusher.registry.http.body import BlobFile
from pusher.registry.http.transport import Transport
from pusher.registry.upload import body_limit, chunk_sizes, states, uplink
from pusher.registry.upload.session import Session
from pusher.registry.upload.uplink import LinkEstimate
from pusher.registry.upload.upload import BlobUpload
from pusher.retry import RetryPolicy
from tests.registry.sites import PATIENT
from tests.support.fakeregistry import (
    DISTRIBUTION_2,
    DISTRIBUTION_3,
    SERVERLESS,
    Action,
    FakeRegistry,
    Fault,
    On,
    Rules,
)
from tests.support.fakeregistry.rules import Exchange
from tests.support.quick import AT_ONCE

REPOSITORY: Final = "team/app"
LOGIN: Final = ("ann", "the-secret-password")
RULES: Final = {
    "serverless": SERVERLESS.scaled(min=1000, max=20_000),
    "distribution-2": DISTRIBUTION_2,
    "distribution-3": DISTRIBUTION_3,
}
LEAST: Final = 500
SIZE: Final = 17_500
CHUNK: Final = 4_000
"""Four whole chunks and a shorter one."""
DATA: Final = random.Random(7).randbytes(100_000)


class Killed(BaseException):
    """The process ends here."""


@dataclass
class MemoryJournal:
    """Keeps the session; notes every call. A kill strikes before or after a call has become durable."""

    session: Session | None = None
    calls: list[str] = field(default_factory=list)
    sent: int = 0
    furthest: int = 0
    lost_sessions: list[str] = field(default_factory=list)
    lost_bytes: int = 0
    """Acknowledged bytes of lost sessions, and those that were then in flight."""
    lost_acknowledged: int = 0
    facts: dict[str, str | int] = field(default_factory=dict)
    chunk_sizes: list[int] = field(default_factory=list)
    """Of every session opened, and of empty ones that were given others."""
    profiles: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    kill_at: int | None = None
    kill_before: bool = False

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        self.calls.append(name)
        strikes = len(self.calls) == self.kill_at
        if strikes and self.kill_before:
            raise Killed(name)
        yield
        if strikes:
            raise Killed(name)

    def load(self) -> Session | None:
        return None if self.session is None else replace(self.session, furthest=self.furthest)

    def record_session(self, session: Session) -> None:
        with self._call("record_session"):
            kept = self.session is not None and (self.session.location, self.session.offset)
            assert self.session is None or kept == (session.location, 0), "a session was given up silently"
            assert (session.offset, session.in_flight, session.closing) == (0, 0, False)
            self.session = session
            self.chunk_sizes.append(session.chunk_size)
            self.profiles.append(session.profile.name)

    def record_profile(self, session: Session) -> None:
        with self._call("record_profile"):
            assert self.session is not None
            assert replace(session, profile=self.session.profile) == self.session
            self.session = session

    def add_note(self, text: str) -> None:
        self.told.append(text)

    def record_chunk(self, session: Session) -> None:
        with self._call("record_chunk"):
            assert self.session is not None
            assert session.in_flight > 0
            assert session.in_flight <= session.chunk_size or not session.profile.equal_chunks
            assert session.chunk_size == self.session.chunk_size
            assert self.session == replace(session, in_flight=0), "the chunk before is still in doubt"
            self.session = session

    def record_prefix(self, end: int) -> None:
        with self._call("record_prefix"):
            assert self.session is not None
            assert self.session.offset < end

    def withdraw_chunk(self, session: Session) -> None:
        with self._call("withdraw_chunk"):
            assert self.session == session
            self.session = replace(session, in_flight=0)

    def record_offset(self, session: Session, sent: int) -> None:
        with self._call("record_offset"):
            assert self.session is not None
            assert self.session.may_hold(session.offset)
            assert session.in_flight == 0
            self.session = session
            self.furthest = max(self.furthest, session.offset)
            self.sent += sent

    def count_sent(self, sent: int) -> None:
        with self._call("count_sent"):
            self.sent += sent

    def count_accepted(self, sent: int) -> None:
        with self._call("count_accepted"):
            self.sent += sent

    def record_closing(self, session: Session) -> None:
        with self._call("record_closing"):
            assert self.session is not None
            assert session.closing
            self.session = session

    def record_loss(self, reason: str) -> None:
        with self._call("record_loss"):
            assert self.session is not None
            self.lost_sessions.append(reason)
            self.lost_bytes += self.session.offset + self.session.in_flight
            self.lost_acknowledged += self.session.offset
            self.session = None

    def record_facts(self, *, profile: str | None = None, max_chunk: int | None = None) -> None:
        with self._call("record_facts"):
            self.facts |= {"profile": profile} if profile else {}
            self.facts |= {"max_chunk": max_chunk} if max_chunk else {}


@dataclass
class Onlooker:
    """Notes what it sees; ``kill_at`` counts all its calls, ``then`` acts once at an offset."""

    offsets: list[int] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)
    kill_at: int | None = None
    calls: int = 0
    then: dict[int, Callable[[], None]] = field(default_factory=dict)

    def check(self) -> None:
        self._call()

    def allowance(self, wanted: int) -> int:
        return wanted

    def report_sent(self, in_flight: int) -> None:
        self.in_flight.append(in_flight)
        self._call()

    def report_acknowledged(self, offset: int) -> None:
        self.offsets.append(offset)
        self._call()
        self.then.pop(offset, lambda: None)()

    def _call(self) -> None:
        self.calls += 1
        if self.calls == self.kill_at:
            raise Killed(self.calls)


@dataclass
class Intent(Action):
    """Compares every chunk and closing PUT that arrives with what the journal announced before."""

    journal: MemoryJournal
    wrong: list[str] = field(default_factory=list)

    def before(self, exchange: Exchange) -> None:
        session, kind, headers = self.journal.session, exchange.route.kind, exchange.request.headers
        if kind is On.CHUNK and session is not None:
            announced = f"{session.offset}-{session.offset + session.in_flight - 1}"
            if headers.get("content-range") != announced or session.in_flight == 0:
                self.wrong.append(f"chunk {headers.get('content-range')}, journal {announced}")
        if kind in (On.CHUNK, On.CLOSE) and (session is None or session.closing != (kind is On.CLOSE)):
            self.wrong.append(f"{kind} came without being announced")


ARROWS: Final = frozenset(re.findall(r"^    ([A-Z]{3,5}) .* ([A-Z]{3,5})$", states.__doc__ or "", re.M))
"""From the table of the state machine."""


class WalkedUpload(BlobUpload):
    """An upload that takes no step but those of the table, and notes them."""

    walked: ClassVar[set[tuple[str, str]]] = set()

    def _step(self, state: states.State) -> states.State:
        reached = super()._step(state)
        arrow = (type(state).__name__.upper(), type(reached).__name__.upper())
        assert arrow in ARROWS
        self.walked.add(arrow)
        return reached


class Push:
    """Bring one blob to one fake registry, as the worker does: again and again, without its pauses."""

    def __init__(
        self,
        registry: FakeRegistry,
        folder: Path,
        *,
        size: int = SIZE,
        chunk_size: int | None = CHUNK,
        address: str | None = None,
        timeouts: Timeouts = PATIENT,
        mount_from: str | None = None,
        believe_head: bool = True,
        checked: bool = True,
        forced: str | None = None,
        learned: str | None = None,
        policy: RetryPolicy = AT_ONCE,
    ) -> None:
        self.registry = registry
        self.data = DATA[:size]
        self.digest = of_bytes(self.data)
        path = folder / "file"
        path.write_bytes(b"before" + self.data + b"after")
        self.blob = BlobFile(self.digest, size, path, start=len(b"before"))
        self.chunk_size = chunk_size
        self.journal = MemoryJournal(facts={"profile": learned} if learned else {})
        self.watch = Onlooker()
        self.link = LinkEstimate()
        self.errors: list[PusherError] = []
        self.address = address or registry.address
        self.timeouts = timeouts
        self.mount_from = mount_from
        self.believe_head = believe_head
        self.forced = forced
        self.policy = policy
        self.intent = Intent(self.journal)
        if checked:
            registry.faults.add(Fault(On.ANY, self.intent, times=None))
        self.transport: Transport | None = None
        self.restart()

    def restart(self) -> None:
        """A new process: all that is left is the journal."""
        self.close()
        self.transport = Transport(self.timeouts)
        credential = Credential(*LOGIN, "a test")
        self.client = RegistryClient(
            self.address,
            self.transport,
            Authenticator(self.address, credential),
            commit_timeout=self.timeouts.commit,
            policy=self.policy,
        )
        facts = self.journal.facts
        self.link = LinkEstimate(
            profile=str(facts["profile"]) if "profile" in facts else None,
            max_chunk=int(facts["max_chunk"]) if "max_chunk" in facts else None,
        )
        self.upload = WalkedUpload(
            self.client,
            REPOSITORY,
            self.blob,
            self.journal,
            self.watch,
            self.link,
            chunk_size=self.chunk_size,
            mount_from=self.mount_from,
            forced=self.forced,
            believe_head=self.believe_head,
        )

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def run(self, *, tries: int = 30, restart: bool = False) -> str:
        """Until it is there; ``restart``: with a new process after every setback."""
        for _ in range(tries):
            try:
                found = self.upload.run()
                assert found is not None
                return found
            except PusherError as error:
                if error.retry is Retry.NEVER:
                    raise
                self.errors.append(error)
                if restart:
                    self.restart()
        raise AssertionError(f"no end after {tries} tries, the last: {self.errors[-1]!r}")

    @property
    def excess(self) -> int:
        """Body bytes sent beyond the blob's size, by our own count."""
        return self.journal.sent - self.blob.size

    def assert_there(self, *, losses: int = 0, faults: int = 1, leaks: int = 0) -> None:
        """The registry has the bytes; no more than a chunk a fault was sent twice, but for lost sessions."""
        assert self.registry.blob(REPOSITORY, self.digest) == self.data
        assert len(self.journal.lost_sessions) == losses, self.journal.lost_sessions
        assert self.intent.wrong == []
        chunk = max(self.journal.chunk_sizes, default=0)
        assert 0 <= self.excess <= faults * chunk + self.journal.lost_bytes
        assert self.registry.body_bytes_received() <= self.journal.sent
        assert len(self.registry.sessions) <= losses + leaks


@contextmanager
def pushing(rules: Rules, folder: Path, **options: object) -> Iterator[Push]:
    """A fake registry of these rules, and a push to it.

    Blobs are small here, and so are the sizes below which nothing is learned.
    """
    with FakeRegistry(rules, credentials=LOGIN) as registry, pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk_sizes, "LEAST", LEAST)
        patch.setattr(body_limit, "LEAST", LEAST)
        patch.setattr(uplink, "_PROBING", math.inf)  # however fast the small blobs here are sent
        push = Push(registry, folder, **options)  # type: ignore[arg-type]
        try:
            yield push
        finally:
            push.close()
