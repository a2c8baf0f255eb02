"""Requests that wait, and how they are made to stop.

A request waits in a thread of its own, inside calls of the operating system. One more thread looks at all of
them and ends an answer that never ends, by closing its connection for good.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

_LOOK: Final = 0.25
_LEAST: Final = 4096
"""Bytes of a long answer that must come in the time that a short one has for all."""


class Wait:
    """One request on its way; of one thread, and of those that break it off."""

    def __init__(self, host: str, *, only_public: bool = False) -> None:
        self.host = host
        self.only_public = only_public
        """Private addresses may not be connected to."""
        self.reused = False
        """The request went over a connection that had served others."""
        self.peer: str | None = None
        """The address that it went to, unless through a proxy."""
        self.unacknowledged = 0
        """Bytes handed to the system that the other side had not acknowledged when the request ended."""
        self.late = False
        """It was broken off because its answer did not end."""
        self._deadline: float | None = None
        self._within: float | None = None
        self._came = 0
        self._sock: Any = None

    def begin(self, sock: Any, *, within: float | None = None) -> None:
        """It waits at ``sock``, during a handshake its descriptor; ``within``: seconds in which that ends."""
        self._within, self._came = within, 0
        self._deadline = None if within is None else time.monotonic() + within
        self._sock = sock

    @contextlib.contextmanager
    def moved(self, count: int) -> Iterator[None]:
        """The next bytes came of an answer that may be as long as it likes, if it does not drip. The time
        that the context takes, to write them down, does not count."""
        self._came += count
        left = None if self._deadline is None else self._deadline - time.monotonic()
        self._deadline = None
        yield
        if self._came >= _LEAST:
            self._came, left = 0, self._within
        self._deadline = None if left is None else time.monotonic() + left

    def expire(self) -> None:
        """Break it off if its time is over."""
        deadline = self._deadline  # which its own thread may change meanwhile
        if deadline is not None and time.monotonic() > deadline:
            self.late = True
            self._close()

    def _close(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # TLS stays out of it: another thread is inside
            if isinstance(self._sock, int):  # a handshake's, whose socket object changes meanwhile
                with socket.socket(fileno=os.dup(self._sock)) as same:
                    same.shutdown(socket.SHUT_RDWR)
            elif isinstance(self._sock, socket.socket):
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)


_current: Final = threading.local()


def current() -> Wait | None:
    """The request that this thread has under way."""
    return getattr(_current, "wait", None)


class Waits:
    """All requests of a transport. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waits: set[Wait] = set()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def of(self, wait: Wait) -> Iterator[Wait]:
        """A request of this thread, as long as it is under way."""
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._look, name="waits", daemon=True)
                thread.start()  # it may be refused; then the next wait tries again
                self._thread = thread
            self._waits.add(wait)
            if len(self._waits) == 1:
                self._changed.notify_all()
        _current.wait = wait
        try:
            yield wait
        finally:
            _current.wait = None
            with self._changed:
                self._waits.discard(wait)

    def close(self) -> None:
        """End the thread that looks on."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _look(self) -> None:
        with self._changed:
            while self._thread is threading.current_thread():
                for wait in self._waits:
                    wait.expire()
                self._changed.wait(_LOOK if self._waits else None)
