"""Faults: a script of what goes wrong, on which request.

``registry.faults.add(Fault(On.CHUNK, ResetAfter(1500), nth=2))`` cuts the second PATCH after exactly 1500
bytes of its body. Several faults may strike one request. At the end, ``registry.faults.assert_all_fired()``.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.fakeregistry.routes import On
from tests.support.fakeregistry.rules import Exchange, problem
from tests.support.fakeregistry.wire import Cut, Reply, Request


class Action:
    """What a fault does; every hook does nothing unless a kind of fault overrides it."""

    def can_strike(self, request: Request) -> bool:
        """Whether the request is one that this can happen to."""
        return True

    def before(self, exchange: Exchange) -> None:
        """The head was read, nothing else."""

    def answer(self, exchange: Exchange) -> Reply | None:
        """An answer in place of the registry's own."""
        return None

    def rewrite(self, exchange: Exchange, reply: Reply) -> Reply:
        """The answer is made, its effect has happened, nothing is sent."""
        return reply

    def after(self, exchange: Exchange) -> None:
        """The answer is sent."""

    def release(self) -> None:
        """The registry stops: wait for nothing any more."""


@dataclass
class Fault:
    """One fault: strikes from the ``nth`` matching request on, ``times`` times (None: for ever).

    A request matches by its kind, by ``path`` (a regular expression, searched in path and query) and
    ``where``. One that the action cannot strike (a body shorter than its offset) is counted and left alone.
    """

    on: On
    action: Action
    nth: int = 1
    times: int | None = 1
    path: str = ""
    where: Callable[[Request], bool] = lambda _: True
    seen: int = field(default=0, init=False)
    fired: int = field(default=0, init=False)

    def matches(self, kind: On, request: Request) -> bool:
        """Count the request if it matches; whether the fault strikes it."""
        if (
            self.on not in {On.ANY, kind}
            or not re.search(self.path, request.target)
            or not self.where(request)
        ):
            return False
        self.seen += 1
        exhausted = self.times is not None and self.fired >= self.times
        if self.seen < self.nth or exhausted or not self.action.can_strike(request):
            return False
        self.fired += 1
        return True

    def __str__(self) -> str:
        return f"{self.action!r} on {self.on.value}, nth={self.nth}, times={self.times}"


class Script:
    """The faults of one registry."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._faults.extend(faults)

    def clear(self) -> None:
        """Forget all faults: from now on the link is good."""
        with self._lock:
            self._faults.clear()

    def strike(self, kind: On, request: Request) -> list[Fault]:
        """The faults that strike this request, in the order in which they were added."""
        with self._lock:
            return [fault for fault in self._faults if fault.matches(kind, request)]

    def release(self) -> None:
        with self._lock:
            for fault in self._faults:
                fault.action.release()

    def assert_all_fired(self) -> None:
        """Every fault struck at least once, and as often as was asked for."""
        with self._lock:
            left = [fault for fault in self._faults if fault.fired < (fault.times or 1)]
        assert not left, "faults that did not strike: " + "; ".join(map(str, left))


# --- the connection ---------------------------------------------------------------------------------------


@dataclass
class ResetAfter(Action):
    """RST once exactly ``body_bytes`` of the body were read (0: before any).

    What the rules keep of a broken chunk is kept. With the whole length: all was read and nothing done.
    """

    body_bytes: int

    def can_strike(self, request: Request) -> bool:
        return request.content_length is None or self.body_bytes <= request.content_length

    def before(self, exchange: Exchange) -> None:
        exchange.body.strike_at(self.body_bytes, self._cut)
        if self.body_bytes == 0:
            self._cut()

    @staticmethod
    def _cut() -> None:
        raise Cut(reset=True)


@dataclass
class DropReply(Action):
    """Do everything, then cut the connection in place of the answer: with a FIN, or an RST if ``reset``."""

    reset: bool = False

    def rewrite(self, exchange: Exchange, reply: Reply) -> Reply:
        raise Cut(reset=self.reset)


@dataclass
class CloseAfter(Action):
    """Answer, then close the kept-alive connection without having announced it."""

    reset: bool = False

    def after(self, exchange: Exchange) -> None:
        raise Cut(reset=self.reset)


@dataclass
class Stall(Action):
    """Do nothing for ``seconds``, or until ``released`` is set (by the test, or by stop() of the registry).

    ``after_bytes``: once that many bytes of the body were read (0: before the first); None: before the
    answer, its effects done. Mind the kernel's buffers: a client notices a stalled body only when they are
    full (see the registry's ``receive_buffer``).
    """

    seconds: float = 300.0
    after_bytes: int | None = None
    released: threading.Event = field(default_factory=threading.Event, repr=False)
    reached: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when a request begins to stall."""

    def can_strike(self, request: Request) -> bool:
        length = request.content_length
        return self.after_bytes is None or length is None or self.after_bytes <= length

    def before(self, exchange: Exchange) -> None:
        if self.after_bytes is not None:
            exchange.body.strike_at(self.after_bytes, self._wait)
            if self.after_bytes == 0:
                self._wait()

    def rewrite(self, exchange: Exchange, reply: Reply) -> Reply:
        if self.after_bytes is None:
            self._wait()
        return reply

    def release(self) -> None:
        self.released.set()

    def _wait(self) -> None:
        self.reached.set()
        self.released.wait(self.seconds)


@dataclass
class Trickle(Action):
    """Read the body slowly: at most ``block`` bytes, then a pause of ``seconds``."""

    block: int
    seconds: float

    def before(self, exchange: Exchange) -> None:
        exchange.body.pace = self._pace

    def _pace(self) -> int:
        time.sleep(self.seconds)
        return self.block


@dataclass
class BreakBody(Action):
    """Send ``body_bytes`` of the answer's body, then cut the connection: with a FIN, or an RST."""

    body_bytes: int
    reset: bool = False

    def rewrite(self, exchange: Exchange, reply: Reply) -> Reply:
        reply.strike = (self.body_bytes, self._cut)
        return reply

    def _cut(self) -> None:
        raise Cut(reset=self.reset)


@dataclass
class StallBody(Stall):
    """Send ``after_bytes`` of the answer's body, then nothing for ``seconds`` or until ``released``."""

    def before(self, exchange: Exchange) -> None:
        pass

    def rewrite(self, exchange: Exchange, reply: Reply) -> Reply:
        reply.strike = (self.after_bytes or 0, self._wait)
        return reply


# --- answers ----------------------------------------------------------------------------------------------


@dataclass
class Answer(Action):
    """Answer this in place of the registry, without effect. ``early``: without reading the body."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    early: bool = False

    def answer(self, exchange: Exchange) -> Reply | None:
        return Reply(self.status, dict(self.headers), self.body, early=self.early)


@dataclass
class Front(Answer):
    """Something in front answers: without effect, and without the registry's own headers."""

    early: bool = False

    def rewrite(self, exchange: Exchange, reply: Reply) -> Reply:
        return Reply(self.status, dict(self.headers), self.body, early=self.early)


@dataclass
class AnswerAfterEffect(Answer):
    """The registry does what it was asked to, and says this."""

    def answer(self, exchange: Exchange) -> Reply | None:
        return None

    def rewrite(self, exchange: Exchange, reply: Reply) -> Reply:
        return Reply(self.status, dict(self.headers), self.body)


def busy(retry_after: str | None = None, *, status: int = 503, early: bool = False) -> Answer:
    """503 (or 429) with an optional Retry-After, in seconds or as a date."""
    code = "TOOMANYREQUESTS" if status == 429 else "UNAVAILABLE"
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    reply = problem(status, code, "try again later", **headers)
    return Answer(status, reply.headers, bytes_of(reply), early)


def bad_gateway(status: int = 502, *, early: bool = False) -> Answer:
    """What a front says in HTML when the registry behind it is gone."""
    return Answer(status, {"Content-Type": "text/html"}, b"<html><h1>Bad gateway</h1></html>", early)


def too_large(*, early: bool = True) -> Answer:
    """413 of a body limit in front, in HTML."""
    body = b"<html><h1>413 Request Entity Too Large</h1></html>"
    return Answer(413, {"Content-Type": "text/html", "Server": "cloudflare"}, body, early)


def unauthorized(challenge: str = 'Basic realm="registry"', *, early: bool = False) -> Answer:
    """401 with a challenge."""
    reply = problem(401, "UNAUTHORIZED", "authentication required", **{"WWW-Authenticate": challenge})
    return Answer(401, reply.headers, bytes_of(reply), early)


def bytes_of(reply: Reply) -> bytes:
    assert isinstance(reply.body, bytes)
    return reply.body


@dataclass
class RefuseRange(Action):
    """416 without effect; ``positioned`` with the session's true Location and Range."""

    positioned: bool = True

    def answer(self, exchange: Exchange) -> Reply | None:
        session = exchange.session
        known = self.positioned and session is not None
        position = exchange.rules.position(exchange, session) if known and session else {}
        return problem(416, "BLOB_UPLOAD_INVALID", "range not satisfiable", **position)


@dataclass
class LieRange(Action):
    """Change the answer's Range: ``by`` bytes off the truth, or ``text`` in its place ("" removes it)."""

    by: int = 0
    text: str | None = None

    def rewrite(self, exchange: Exchange, reply: Reply) -> Reply:
        if self.text is not None:
            reply.headers["Range"] = self.text
        else:
            session = exchange.session
            size = session.size if session else 0
            reply.headers["Range"] = f"0-{size + self.by - 1}"
        if not reply.headers["Range"]:
            del reply.headers["Range"]
        return reply


@dataclass
class ForgetSession(Action):
    """The session is gone before the request is looked at, and stays gone."""

    def before(self, exchange: Exchange) -> None:
        exchange.store.forget_session(exchange.route.reference)
