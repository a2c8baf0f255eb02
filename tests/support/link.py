"""A bad link: a TCP forwarder on loopback that breaks, slows down, stalls or disappears on demand.

Any registry, real or fake, can be put behind it. A registry that writes absolute Locations takes their host
from the Host header, which passes unchanged: those Locations lead through the link again.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from typing import Final

from tests.support.listener import Listener

_BLOCK: Final = 64 * 1024
_RST: Final = struct.pack("ii", 1, 0)


class ShakyLink(Listener):
    """A context manager; ``address`` stands for ``target`` ("127.0.0.1:PORT").

    The limits count the bytes from the client to the registry, heads included:
    ``reset_every``: RST to the client once its connection has carried so many; the registry gets them all,
    and then an end in the middle.
    ``reset_every_total``: the same for the connection that carries every so-many-th byte of all.
    ``stall_after``: a connection that has carried so many stands still until it is cut.
    ``rate``: bytes per second over all connections. ``latency``: seconds before a block is passed on, both
    ways. All may be changed while the link is in use. ``port``: where it listens; 0: any.
    """

    def __init__(
        self,
        target: str,
        *,
        reset_every: int | None = None,
        reset_every_total: int | None = None,
        rate: int | None = None,
        latency: float = 0.0,
        stall_after: int | None = None,
        port: int = 0,
    ) -> None:
        super().__init__(port=port)
        host, _, target_port = target.rpartition(":")
        self._target = (host, int(target_port))
        self.reset_every = reset_every
        self.reset_every_total = reset_every_total
        self.rate = rate
        self.latency = latency
        self.stall_after = stall_after
        self.bytes_sent = 0
        """Bytes passed on to the registry."""
        self.bytes_received = 0
        """Bytes passed back."""
        self.connections = 0
        """Connections accepted."""
        self.resets = 0
        """Connections cut by the link, by itself or by cut()."""
        self.lock = threading.Lock()
        self._rate_lock = threading.Lock()
        self._pairs: dict[_Pair, threading.Thread] = {}

    def cut(self) -> None:
        """RST on every open connection, on both sides, what is under way is lost; returns when it is done."""
        with self.lock:
            pairs = dict(self._pairs)
        for pair in pairs:
            pair.cut()
        for thread in pairs.values():
            thread.join(timeout=10)

    # --- inside -------------------------------------------------------------------------------------------

    def _serve_connection(self, accepted: socket.socket) -> None:
        try:
            target = socket.create_connection(self._target, timeout=10)
        except OSError:  # nobody there: what a client behind a real link would see is a reset
            _reset(accepted)
            return
        pair = _Pair(self, accepted, target)
        thread = threading.Thread(target=self._carry, args=(pair,), daemon=True)
        with self.lock:
            self.connections += 1
            self._pairs[pair] = thread
        thread.start()

    def _carry(self, pair: _Pair) -> None:
        pair.run()
        with self.lock:
            del self._pairs[pair]

    def allowance(self, carried: int) -> int:
        """How many bytes a connection may read now without going past the next mark."""
        with self.lock:
            marks = [_BLOCK]
            if self.reset_every is not None:
                marks.append(self.reset_every - carried)
            if self.reset_every_total is not None:
                marks.append(self.reset_every_total - self.bytes_sent % self.reset_every_total)
            if self.stall_after is not None:
                marks.append(self.stall_after - carried)
            if self.rate is not None:
                marks.append(self.rate // 50)
        return max(1, min(marks))

    def passed_on(self, carried: int, count: int) -> bool:
        """Count ``count`` bytes of a connection that has now carried ``carried``; whether it is to be cut."""
        if self.rate is not None:
            with self._rate_lock:  # one line for all connections
                time.sleep(count / self.rate)
        with self.lock:
            before, self.bytes_sent = self.bytes_sent, self.bytes_sent + count
            total = self.reset_every_total
            return (self.reset_every is not None and carried >= self.reset_every) or (
                total is not None and before // total != self.bytes_sent // total
            )


class _Pair:
    """A client's connection and its continuation to the registry.

    One thread carries both directions and never blocks in a send: so it can be cut at any time.
    """

    def __init__(self, link: ShakyLink, client: socket.socket, target: socket.socket) -> None:
        self._link = link
        self._client = client
        self._target = target
        self._wake, self._alarm = socket.socketpair()
        self._up = b""
        self._down = b""
        self._carried = 0
        self._client_open = True
        self._target_open = True
        for sock in (client, target):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)

    def cut(self) -> None:
        """From another thread: end with an RST on both sides."""
        with contextlib.suppress(OSError):
            self._alarm.send(b"!")

    def run(self) -> None:
        """Carry until both sides are closed or one is reset, or until the link cuts."""
        reset_client = reset_target = True
        try:
            while self._client_open or self._target_open or self._up or self._down:
                if self._step():
                    with self._link.lock:
                        self._link.resets += 1
                    # a FIN, because an RST would destroy what the registry has not read yet
                    reset_target = False
                    break
            else:
                reset_client = reset_target = False
        except OSError:
            pass  # one side was reset, or cut() was called: an RST for both
        self._end(reset_client, reset_target)

    def _step(self) -> bool:
        """Wait and move what can be moved; whether the link cuts now. OSError: reset both sides."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        stalled = self._link.stall_after is not None and self._carried >= self._link.stall_after
        up = select.POLLOUT if self._up else 0
        down = select.POLLOUT if self._down else 0
        if self._client_open:
            want = select.POLLRDHUP if stalled else select.POLLIN
            poll.register(self._client, down | (0 if self._up else want))
        elif down:
            poll.register(self._client, down)
        if self._target_open:
            poll.register(self._target, up | (0 if self._down else select.POLLIN))
        elif up:
            poll.register(self._target, up)
        ready = dict(poll.poll())
        if self._wake.fileno() in ready:
            with self._link.lock:
                self._link.resets += 1
            raise ConnectionAbortedError
        client, target = ready.get(self._client.fileno(), 0), ready.get(self._target.fileno(), 0)
        if (client | target) & select.POLLERR or client & select.POLLRDHUP:
            raise ConnectionResetError
        if client & (select.POLLIN | select.POLLHUP) and not self._up and self._client_open:
            self._read_client()
        if target & (select.POLLIN | select.POLLHUP) and not self._down and self._target_open:
            self._read_target()
        if client & select.POLLOUT and self._down:
            self._down = self._down[self._client.send(self._down) :]
        return bool(target & select.POLLOUT and self._up and self._write_target())

    def _read_client(self) -> None:
        self._up = self._client.recv(self._link.allowance(self._carried))
        time.sleep(self._link.latency)
        if not self._up:
            self._client_open = False
            self._target.shutdown(socket.SHUT_WR)

    def _read_target(self) -> None:
        self._down = self._target.recv(_BLOCK)
        with self._link.lock:
            self._link.bytes_received += len(self._down)
        time.sleep(self._link.latency)
        if not self._down:
            self._target_open = False
            self._client.shutdown(socket.SHUT_WR)

    def _write_target(self) -> bool:
        """Pass on; whether the link cuts now."""
        count = self._target.send(self._up)
        self._up = self._up[count:]
        self._carried += count
        return self._link.passed_on(self._carried, count)

    def _end(self, reset_client: bool, reset_target: bool) -> None:
        for sock, reset in ((self._client, reset_client), (self._target, reset_target)):
            if reset:
                _reset(sock)
            sock.close()
        self._wake.close()
        self._alarm.close()


def _reset(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    sock.close()
