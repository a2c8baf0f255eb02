"""Simulate a bad link: a TCP forwarder on loopback that limits speed, resets connections and can fail."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Final, Self

_BLOCK: Final = 32 * 1024
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: close with a reset."""


class BadLink:
    """Forward ``port`` to ``target`` until the context ends.

    ``rate``: bytes a second towards the target, over all connections. ``break_every``: bytes after which the
    connection that carries them is reset. Both count requests whole, heads included.
    """

    def __init__(self, target: int, *, rate: int, break_every: int) -> None:
        self._target = target
        self._rate = rate
        self._break_every = break_every
        self._lock = threading.Lock()
        self._connections: set[tuple[socket.socket, socket.socket]] = set()
        self._is_away = False
        self._free_at = 0.0
        self.bytes_sent = 0
        """Bytes carried towards the target."""
        self.breaks = 0
        """Connections that were reset on the way."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="link", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.go_away()

    def go_away(self) -> None:
        """Reset every connection, new ones at once."""
        with self._lock:
            self._is_away = True
            connections = list(self._connections)
        for pair in connections:
            _reset(*pair)

    def come_back(self) -> None:
        """Forward again."""
        with self._lock:
            self._is_away = False

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        try:
            target = socket.create_connection(("127.0.0.1", self._target), timeout=10)
        except OSError:
            _reset(client)
            return
        pair = client, target
        with self._lock:
            self._connections.add(pair)
            is_away = self._is_away
        if is_away:
            _reset(*pair)
        back = threading.Thread(target=self._pass_back, args=pair, daemon=True)
        back.start()
        try:
            while data := client.recv(_BLOCK):
                if self._count(len(data)):
                    _reset(*pair)
                    break
                target.sendall(data)
            else:
                target.shutdown(socket.SHUT_WR)
        except OSError:
            _reset(*pair)
        back.join()
        with self._lock:
            self._connections.discard(pair)
        for end in pair:
            end.close()

    def _count(self, size: int) -> bool:
        """Sleep as the rate requires; return whether to break here."""
        with self._lock:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + size / self._rate
            pause = self._free_at - now
            before, self.bytes_sent = self.bytes_sent, self.bytes_sent + size
            is_broken = before // self._break_every != self.bytes_sent // self._break_every
            self.breaks += is_broken
        time.sleep(pause)
        return is_broken

    @staticmethod
    def _pass_back(client: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := target.recv(_BLOCK):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)


def _reset(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.shutdown(socket.SHUT_RDWR)
