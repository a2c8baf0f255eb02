"""A TCP server on loopback that keeps its port while it refuses connections."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

from tests.support.processes import reserve_port


class Listener:
    """A context manager; a subclass serves each connection (``_serve_connection``) and cuts them (``cut``).

    ``port``: where it listens; 0: any. ``receive_buffer``: bytes of the kernel's receive buffer.
    """

    def __init__(self, *, port: int = 0, receive_buffer: int | None = None) -> None:
        self._receive_buffer = receive_buffer
        self._reserved = reserve_port(port)
        self._port: int = self._reserved.getsockname()[1]
        self._socket = self._bind()
        self._acceptor: threading.Thread | None = None

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``, as it stands in an image reference."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._socket.close()
        self._reserved.close()

    def start(self) -> None:
        """Accept connections (again), on the same port."""
        if self._acceptor is None:
            self._socket.listen(128)
            self._acceptor = threading.Thread(target=self._accept, args=(self._socket,), daemon=True)
            self._acceptor.start()

    def stop(self) -> None:
        """Cut all connections with an RST and refuse new ones; the port stays reserved."""
        if self._acceptor is not None:
            acceptor, self._acceptor = self._acceptor, None
            self._socket.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            self._socket.close()
            self._socket = self._bind()
            self.cut()

    def cut(self) -> None:
        """RST on every open connection; returns when their threads have ended."""
        raise NotImplementedError

    def _serve_connection(self, accepted: socket.socket) -> None:
        """Serve a new connection in a thread of its own."""
        raise NotImplementedError

    def _bind(self) -> socket.socket:
        """A bound socket that does not listen yet: connecting to it is refused."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        sock.bind(("127.0.0.1", self._port))
        return sock

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            self._serve_connection(accepted)
