"""Limit the time of responses.

A request blocks its thread in calls of the operating system. One more thread checks all requests and shuts
down the connection of one whose answer takes too long.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

_CHECK_EVERY: Final = 0.25
_PROGRESS: Final = 4096
"""Bytes of a long answer that must arrive in the time that a short one has for all."""


class PendingRequest:
    """One request under way. Used by its own thread and the watchdog."""

    def __init__(self, host: str, *, only_public: bool = False) -> None:
        self.host = host
        self.only_public = only_public
        """Whether private addresses must not be connected to."""
        self.reused = False
        """Whether the connection has served other requests."""
        self.peer_address: str | None = None
        """The address of the host; None with a proxy."""
        self.round_trip: float | None = None
        """Seconds that the kernel measured for the connection; None with a proxy."""
        self.unacknowledged = 0
        """Bytes handed to the system that the other side had not acknowledged when the request ended."""
        self.timed_out = False
        """Whether the watchdog closed the connection."""
        self.response: Any = None
        """The response as its connection reads it, once its head is there."""
        self._deadline: float | None = None
        self._within: float | None = None
        self._received = 0
        self._sock: Any = None

    def wait_at(self, sock: Any, *, within: float | None = None) -> None:
        """Record that the request waits for ``sock`` (during a handshake its descriptor), at most ``within``
        seconds."""
        self._within, self._received = within, 0
        self._deadline = None if within is None else time.monotonic() + within
        self._sock = sock

    @contextlib.contextmanager
    def record_bytes(self, count: int) -> Iterator[None]:
        """Record ``count`` bytes of an answer of any length, which must not arrive too slowly. The time spent
        in the context, to store them, does not count."""
        self._received += count
        left = None if self._deadline is None else self._deadline - time.monotonic()
        self._deadline = None
        yield
        if self._received >= _PROGRESS:
            self._received, left = 0, self._within
        self._deadline = None if left is None else time.monotonic() + left

    def expire(self) -> None:
        """Close the connection if the time is over."""
        deadline = self._deadline  # its own thread may change it meanwhile
        if deadline is not None and time.monotonic() > deadline:
            self.timed_out = True
            self._close()

    def _close(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # without TLS, which another thread uses
            if isinstance(self._sock, int):  # a handshake's, whose socket object changes meanwhile
                with socket.socket(fileno=os.dup(self._sock)) as same:
                    same.shutdown(socket.SHUT_RDWR)
            elif isinstance(self._sock, socket.socket):
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)


_current: Final = threading.local()


def current_request() -> PendingRequest | None:
    """Return the current request of this thread."""
    return getattr(_current, "request", None)


class Watchdog:
    """Ends requests of a transport that take too long. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._requests: set[PendingRequest] = set()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def watch(self, request: PendingRequest) -> Iterator[PendingRequest]:
        """Watch a request of this thread until the context ends."""
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                thread.start()  # if that fails, the next request tries again
                self._thread = thread
            self._requests.add(request)
            if len(self._requests) == 1:
                self._changed.notify_all()
        _current.request = request
        try:
            yield request
        finally:
            _current.request = None
            with self._changed:
                self._requests.discard(request)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        with self._changed:
            while self._thread is threading.current_thread():
                for request in self._requests:
                    request.expire()
                self._changed.wait(_CHECK_EVERY if self._requests else None)
