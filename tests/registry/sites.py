"""Small servers for what no registry does: TLS, proxies, and any answer a test likes."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from pusher.config import Timeouts
from pusher.registry.http.transport import Transport
from tests.support.fakeregistry.wire import Connection, Disconnected, Reply, Request
from tests.support.waiting import PATIENCE

PATIENT: Final = Timeouts(30, 30, 30, 30)
"""For tests that no timeout is part of: a busy machine takes seconds for what is usually there at once."""


@dataclass(frozen=True)
class Seen:
    """One request as it arrived, its target byte by byte."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Site:
    """Answers every request with ``answer``, over TLS if there is a context."""

    def __init__(self, answer: Callable[[Seen], Reply], tls: ssl.SSLContext | None = None) -> None:
        self._answer = answer
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.seen: list[Seen] = []
        self.connections = 0
        """Accepted so far."""
        self.hang_up = False
        """Close every connection as soon as something comes."""
        self.silent = False
        """Read requests, answer none."""
        self.handshakes = threading.Event()
        """TLS handshakes that were begun wait for it."""
        self.begun_handshakes: list[bytes] = []
        """The first byte of each."""
        self.handshakes.set()
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.address}"

    def __enter__(self) -> Site:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            self._open.append(sock)
            self.connections += 1
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self.hang_up:
                sock.recv(1)
                return
            if self._tls is not None:
                self.begun_handshakes.append(sock.recv(1, socket.MSG_PEEK))
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                self._open.append(sock)  # before the handshake, which a client may never begin
                self.handshakes.wait(PATIENCE)
                sock.do_handshake()
            connection = Connection(sock, 1)
            with contextlib.suppress(Disconnected):
                while request := connection.read_head():
                    self._serve_one(sock, connection, request)
        except OSError:
            pass
        finally:
            sock.close()

    def _serve_one(self, sock: socket.socket, connection: Connection, request: Request) -> None:
        left, blocks = request.content_length or 0, []
        while left:
            blocks.append(connection.read(min(left, 65536)))
            left -= len(blocks[-1])
        seen = Seen(request.method, request.target, request.headers, b"".join(blocks))
        self.seen.append(seen)
        if self.silent:
            return
        reply = self._answer(seen)
        connection.write(request, reply)
        if request.method == "CONNECT" and reply.status == 200:
            self._tunnel(sock, request.target)
            raise Disconnected

    def _tunnel(self, client: socket.socket, target: str) -> None:
        """Whatever the name: loopback is all there is."""
        port = int(target.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as server, contextlib.suppress(OSError):
            self._open.append(server)
            other = {client: server, server: client}
            while True:
                buffered = isinstance(client, ssl.SSLSocket) and client.pending()
                for sock in [client] if buffered else select.select(list(other), [], [])[0]:
                    if not (block := sock.recv(65536)):
                        return
                    other[sock].sendall(block)


@contextmanager
def transport_of(transport: Transport) -> Iterator[Transport]:
    """Close it in the end."""
    try:
        yield transport
    finally:
        transport.close()


def join_connecting() -> None:
    """Wait for the connections that are being opened ahead."""
    for thread in threading.enumerate():
        if thread.name.startswith("connect to "):
            thread.join()
