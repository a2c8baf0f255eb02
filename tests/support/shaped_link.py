"""A link of a given rate and round-trip time: a TCP forwarder on loopback that loses nothing.

Unlike ``link.ShakyLink`` it keeps bytes in flight as a real line does: all connections share one
rate for each direction, and while one block is under way the next ones are sent.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

_BLOCK: Final = 16 * 1024
_BUFFER: Final = 256 * 1024
"""Bytes that the forwarder takes beyond those in flight, as a router's queue does."""


class ShapedLink:
    """A context manager; ``address`` stands for ``target`` ("127.0.0.1:PORT").

    ``rate`` is in bytes per second and holds for each direction by itself, ``round_trip`` in seconds. A new
    connection pays one round trip before its first byte arrives, as TCP's handshake makes it.
    """

    def __init__(self, target: str, *, rate: float, round_trip: float = 0.0) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._round_trip = round_trip
        self._up, self._down = _Line(rate, round_trip / 2), _Line(rate, round_trip / 2)
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._listener.bind(("127.0.0.1", 0))
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``, as it stands in an image reference."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def bytes_sent(self) -> int:
        """Bytes from clients to the target since the last ``reset``."""
        return self._up.carried

    def reset(self) -> None:
        """Count from zero."""
        self._up.carried = self._down.carried = self.connections = 0

    def __enter__(self) -> Self:
        self._listener.listen(128)
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for one in tuple(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=10)
        self._listener.close()

    def _run(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._run(self._carry, client)

    def _carry(self, client: socket.socket) -> None:
        """Carry both directions of one connection until both have ended."""
        with client, socket.create_connection(self._target) as target:
            both = {client, target}
            for one in both:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open |= both
            up = _Direction(self._up, client, target, self._round_trip)
            down = _Direction(self._down, target, client, 0.0)
            threads = [threading.Thread(target=work, daemon=True) for one in (up, down) for work in one.parts]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self._open -= both


class _Line:
    """One direction of the link: what all its connections share."""

    def __init__(self, rate: float, delay: float) -> None:
        self._rate = rate
        self._delay = delay
        self._lock = threading.Lock()
        self._free_at = 0.0
        self.carried = 0
        self.window = int(rate * 2 * delay) + _BUFFER
        """Bytes that one connection may have in flight."""

    def arrival_of(self, count: int, not_before: float) -> float:
        """Take ``count`` bytes; when (``time.monotonic``) the last of them arrives."""
        with self._lock:
            self.carried += count
            self._free_at = max(time.monotonic(), self._free_at, not_before) + count / self._rate
            return self._free_at + self._delay


class _Direction:
    """One direction of one connection: a thread that reads, and one that writes when bytes have arrived."""

    def __init__(self, line: _Line, source: socket.socket, sink: socket.socket, handshake: float) -> None:
        self._line = line
        self._source = source
        self._sink = sink
        self._begin = time.monotonic() + handshake
        self._changed = threading.Condition()
        self._flying: deque[tuple[float, bytes]] = deque()
        self._in_flight = 0

    @property
    def parts(self) -> tuple[Callable[[], None], Callable[[], None]]:
        """What runs in a thread each."""
        return self._read, self._write

    def _read(self) -> None:
        block = b"x"
        while block:
            with self._changed:
                self._changed.wait_for(lambda: self._in_flight < self._line.window)
            try:
                block = self._source.recv(_BLOCK)
            except OSError:
                block = b""
            arrival = self._line.arrival_of(len(block), self._begin)
            with self._changed:
                self._flying.append((arrival, block))
                self._in_flight += len(block)
                self._changed.notify_all()

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._flying)
                arrival, block = self._flying[0]
            time.sleep(max(0.0, arrival - time.monotonic()))
            try:
                if not block:
                    self._sink.shutdown(socket.SHUT_WR)
                    return
                self._sink.sendall(block)
            except OSError:  # the sink is gone: so is what comes after
                with contextlib.suppress(OSError):
                    self._source.shutdown(socket.SHUT_RDWR)
            with self._changed:
                self._flying.popleft()
                self._in_flight -= len(block)
                self._changed.notify_all()
            if not block:
                return
