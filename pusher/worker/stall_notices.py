"""Report requests and sources that do not respond for some seconds, while other jobs continue.

Such as a registry that accepts connections and sends nothing, a hanging look-up, a stalled `docker save`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from pusher.dataclass import dataclass
from pusher.errors import SourceStalled
from pusher.registry.http.answer import Answer
from pusher.registry.http.body import Body
from pusher.registry.http.redaction import host_of
from pusher.registry.http.transport import Receiver, Transport
from pusher.units import human_seconds
from pusher.waiting import NOTICE_AFTER
from pusher.worker.control import Control

_STUCK_AFTER: Final = 5.0
"""Seconds without a response after which other tasks may have the thread's place."""
_BUFFERED: Final = 8 * 1024 * 1024
"""Bytes that the buffers of the system and of a proxy may take from a request while nothing reads them."""
_GIVE_UP_SOURCE: Final = 1800.0
"""Seconds for which a source may deliver no data: `docker save` first writes gigabytes to its disk."""


@dataclass
class _Wait:
    name: str
    moved: Callable[[], int]
    since: float
    at: int = 0
    flowed: int = 0
    """Bytes that moved while the host was silent."""


class StallNotices:
    """The waits of a worker's threads. Thread-safe; ``report`` is called every second."""

    def __init__(self, note: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._note = note
        self._clock = clock
        self._lock = threading.Lock()
        self._waits: dict[object, _Wait] = {}
        self._paused = 0
        self.silent: dict[str, float] = {}
        """Seconds for which no request to a host was answered, as of the last report, where they are many."""
        self._silent_since: dict[str, float] = {}  # the hosts that have to respond before they are not silent
        self._next_notices: dict[str, float] = {}  # seconds after which each is reported next
        self.is_reported_away: Callable[[str], bool] = lambda name: False  # noqa: ARG005
        """Whether another notice says that a host cannot be reached, and one that it is back."""

    @contextmanager
    def wait_for(self, name: str, moved: Callable[[], int] = lambda: 0) -> Iterator[None]:
        """Record that the caller waits for ``name`` until the context ends, unless ``moved()`` changes."""
        key = object()
        with self._lock:
            self._waits[key] = _Wait(name, moved, self._clock(), moved())
        try:
            yield
        finally:
            with self._lock:
                del self._waits[key]

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Record that the caller waits for a time that was already reported."""
        with self._lock:
            self._paused += 1
        try:
            yield
        finally:
            with self._lock:
                self._paused -= 1

    def record_response(self, name: str) -> None:
        """Record that a host responded, and report it if it was silent before.

        A new connection, and a request that is being sent, is no sign of it: a proxy takes both.
        """
        with self._lock:
            was_silent = self._silent_since.pop(name, None) is not None
            if was_silent:
                self._next_notices.pop(name, None)
                self.silent = {other: silent for other, silent in self.silent.items() if other != name}
        if was_silent and not self.is_reported_away(name):
            self._note(f"{name} responds again")

    def report(self) -> int:
        """Report waits without a response, at growing intervals; return how many threads only wait."""
        for name in self._flowing():
            self.record_response(name)
        with self._lock:
            now = self._clock()
            longest: dict[str, float] = {}
            shortest: dict[str, float] = {}
            stuck = self._paused
            for wait in self._waits.values():
                silent = now - wait.since
                stuck += silent >= _STUCK_AFTER
                longest[wait.name] = max(silent, longest.get(wait.name, 0.0))
                shortest[wait.name] = min(silent, shortest.get(wait.name, silent))
            for name, silent in shortest.items():
                if silent >= NOTICE_AFTER:
                    self._silent_since.setdefault(name, now - silent)
            silences = {name: now - since for name, since in self._silent_since.items()}
            longest |= {name: max(silences[name], longest[name]) for name in longest.keys() & silences}
            self.silent = {name: silent for name, silent in shortest.items() if silent >= _STUCK_AFTER}
            self.silent |= silences
            self._next_notices = {
                name: after
                for name, after in self._next_notices.items()
                if name in longest or name in silences
            }
            words = []
            for name, silent in longest.items():
                after = self._next_notices.get(name, NOTICE_AFTER)
                if silent >= after:
                    self._next_notices[name] = 6 * after
                    words.append(f"{name} has not responded for {human_seconds(silent)}; still waiting")
        for word in words:
            self._note(word)
        return stuck

    def _flowing(self) -> list[str]:
        """Record what moved since the last report; return the silent hosts that take more of a request than
        buffers do."""
        with self._lock:
            now = self._clock()
            for wait in self._waits.values():
                if (at := wait.moved()) != wait.at:
                    wait.flowed += abs(at - wait.at) if wait.name in self._silent_since else 0
                    wait.at, wait.since = at, now
            return [wait.name for wait in self._waits.values() if wait.flowed > _BUFFERED]


class StallReportingTransport(Transport):
    """A transport that reports requests without a response."""

    def __init__(self, stalls: StallNotices, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stalls = stalls

    def send(self, method: str, url: str, **options: Any) -> Answer:
        body, receiver = options.get("body"), options.get("receiver")
        host = host_of(url)
        came = None if receiver is None else _Counted(receiver, lambda: self._stalls.record_response(host))
        if came is not None:
            options["receiver"] = came

        def count_bytes() -> int:
            sent = body.sent if isinstance(body, Body) else 0
            return sent + (came.count if came else 0)

        with self._stalls.wait_for(host, count_bytes):
            answer = super().send(method, url, **options)
        self._stalls.record_response(host)
        return answer


class _Counted:
    """A receiver that counts bytes; ``on_begin`` is called once the response has begun."""

    def __init__(self, receiver: Receiver, on_begin: Callable[[], None]) -> None:
        self._receiver = receiver
        self._on_begin = on_begin
        self.count = 0

    def begin(self, answer: Answer) -> bool:
        self.count += 1
        self._on_begin()
        return self._receiver.begin(answer)

    def write(self, data: memoryview) -> None:
        self.count += len(data)
        self._receiver.write(data)


class SourceStallCheck:
    """A check called each second while a source delivers no data, and less often while it does.

    Reports a stalled source. Raises Stopped, LeaseLost, SourceStalled.
    """

    def __init__(
        self,
        image: str,
        control: Control,
        note: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._image = image
        self._control = control
        self._note = note
        self._clock = clock
        self._called = self._since = clock()
        self._next = NOTICE_AFTER

    def __call__(self) -> None:
        self._control.check()
        now = self._clock()
        if not 0.5 <= now - self._called <= 2.5:  # data arrived meanwhile
            self._since, self._next = now, NOTICE_AFTER
        self._called, silent = now, now - self._since
        if silent >= _GIVE_UP_SOURCE:
            raise SourceStalled(
                f"the source of {self._image} has delivered no data for {human_seconds(silent)}"
            )
        if silent >= self._next:
            self._next *= 6
            self._note(
                f"the source of {self._image} has delivered no data for {human_seconds(silent)}; still "
                "waiting"
            )


class SourceTurn:
    """The turn to read a source: one job has it, as long as its source delivers data. Compressing one layer
    uses all processors already; a stalled source uses none."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holders: list[Control] = []

    @contextmanager
    def take(self, control: Control) -> Iterator[None]:
        """Wait for the turn, and keep it for the job with this ``control`` until the context ends."""
        with self._changed:
            while any(holder.source_seconds_still < _STUCK_AFTER for holder in self._holders):
                self._changed.wait(0.2)
                control.check()
            control.record_source_movement()
            self._holders.append(control)
        try:
            yield
        finally:
            with self._changed:
                self._holders.remove(control)
                self._changed.notify_all()
