"""HTTP/1.1 on a raw socket, with hold of every byte: what http.server hides is what these tests are about."""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import parse_qsl, urlsplit

BLOCK: Final = 64 * 1024
_LINGER_SECONDS: Final = 2.0


class Disconnected(Exception):
    """The client is gone, or the registry stops."""


class Cut(Exception):
    """A fault ends this connection now; ``reset`` with an RST, else with a FIN."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__(reset)
        self.reset = reset


@dataclass(frozen=True)
class Request:
    """The head of a request. Header names are lower case; of a repeated parameter the last one counts."""

    method: str
    target: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def content_length(self) -> int | None:
        text = self.headers.get("content-length")
        return None if text is None else int(text)

    @property
    def has_body(self) -> bool:
        return bool(self.content_length) or "transfer-encoding" in self.headers


@dataclass
class Reply:
    """An answer. ``early`` is sent without reading what is left of the body; the connection then ends."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Path = b""
    early: bool = False
    start: int = 0
    """Where in a file the body begins."""
    strike: tuple[int, Callable[[], None]] | None = None
    """Called once so many bytes of the body were sent."""


class Connection:
    """One accepted socket, read through a buffer of its own."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._buffer = b""
        self._aborted = False
        self.number = number

    def read_head(self) -> Request | None:
        """The next request's head; None when the client closed the connection between two requests.

        One that speaks TLS is told so at once, as it may then try plain http.
        """
        while b"\r\n\r\n" not in self._buffer:
            block = self._receive(BLOCK)
            if not block:
                return None
            self._buffer += block
            if not self._buffer[:1].isalpha():
                self._send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                return None
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        pairs = (line.split(":", 1) for line in lines)
        return Request(method, target, {name.strip().lower(): value.strip() for name, value in pairs})

    def read(self, limit: int) -> bytes:
        """Between 1 and ``limit`` body bytes; raises Disconnected at the end of the stream."""
        block = self._buffer[:limit] if self._buffer else self._receive(limit)
        self._buffer = self._buffer[len(block) :]
        if not block:
            raise Disconnected
        return block

    def read_line(self) -> bytes:
        """One CRLF line of the chunked transfer coding, without its end."""
        while b"\r\n" not in self._buffer:
            block = self._receive(BLOCK)
            if not block:
                raise Disconnected
            self._buffer += block
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        return line

    def go_on(self) -> None:
        """Tell a client that sent ``Expect: 100-continue`` to send its body."""
        self._send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def write(self, request: Request, reply: Reply) -> None:
        """Send an answer; a HEAD request's, and one with status 204, goes without a body."""
        headers = {"Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()), **reply.headers}
        if reply.status != HTTPStatus.NO_CONTENT:
            headers.setdefault("Content-Length", str(_size(reply.body) - reply.start))
        if reply.early:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {reply.status} {_reason(reply.status)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if request.method == "HEAD" or reply.status == HTTPStatus.NO_CONTENT:
            self._send(head)
        elif isinstance(reply.body, bytes) and reply.strike is None:
            self._send(head + reply.body)
        else:
            self._send(head)
            data = reply.body
            with io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as file:
                self._send_file(file, reply)

    def _send_file(self, file: BinaryIO, reply: Reply) -> None:
        file.seek(reply.start)
        if reply.strike is not None:
            offset, action = reply.strike
            self._send(file.read(offset))
            action()
        while block := file.read(BLOCK):
            self._send(block)

    def linger(self) -> int:
        """Read away what a client still sends after an early answer; the number of bytes.

        A front does so too: the answer would be lost to an RST otherwise.
        """
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        drained = len(self._buffer)
        deadline = time.monotonic() + _LINGER_SECONDS
        with contextlib.suppress(OSError):
            while (left := deadline - time.monotonic()) > 0:
                self._sock.settimeout(left)
                block = self._sock.recv(BLOCK)
                if not block:
                    break
                drained += len(block)
        return drained

    def abort(self) -> None:
        """From another thread: have the next read end; the owner then closes with an RST."""
        self._aborted = True
        with contextlib.suppress(OSError):
            _reset_on_close(self._sock)
            self._sock.shutdown(socket.SHUT_RD)

    def close(self, *, reset: bool = False) -> None:
        with contextlib.suppress(OSError):
            if reset:
                _reset_on_close(self._sock)
            self._sock.close()

    def _receive(self, limit: int) -> bytes:
        try:
            block = self._sock.recv(limit)
        except OSError as error:
            raise Disconnected from error
        self._go_on_unless_aborted()
        return block

    def _go_on_unless_aborted(self) -> None:
        if self._aborted:
            raise Disconnected

    def _send(self, data: bytes) -> None:
        self._go_on_unless_aborted()
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise Disconnected from error


class Body:
    """The body of one request, read block by block; stops exactly at the offsets where a fault strikes."""

    def __init__(self, connection: Connection, request: Request, on_bytes: Callable[[int], None]) -> None:
        self._connection = connection
        self._request = request
        self._on_bytes = on_bytes
        self._strikes: list[tuple[int, Callable[[], None]]] = []
        self._blocks = self._decode()
        self.pace: Callable[[], int] | None = None
        """Called before every read; gives how many bytes may be read now (a trickle sleeps in it)."""
        self.received = 0

    def strike_at(self, offset: int, action: Callable[[], None]) -> None:
        """Call ``action`` once exactly ``offset`` bytes were received, before anything more is read."""
        self._strikes.append((offset, action))
        self._strikes.sort(key=lambda strike: strike[0])

    def __iter__(self) -> Iterator[bytes]:
        return self._blocks

    def read(self) -> bytes:
        """All that is left, in memory: for manifests."""
        return b"".join(self)

    def drain(self) -> None:
        """Read and forget what is left."""
        for _ in self:
            pass

    def _decode(self) -> Iterator[bytes]:
        self._invite()
        if "chunked" in self._request.headers.get("transfer-encoding", "").lower():
            while size := int(self._connection.read_line().split(b";")[0], 16):
                yield from self._take(size)
                self._connection.read_line()
            while self._connection.read_line():
                pass
        else:
            yield from self._take(self._request.content_length or 0)
        self._strike()

    def _take(self, size: int) -> Iterator[bytes]:
        left = size
        while left:
            self._strike()
            limit = min(left, BLOCK)
            if self._strikes:
                limit = min(limit, self._strikes[0][0] - self.received)
            if self.pace is not None:
                limit = min(limit, self.pace())
            block = self._connection.read(limit)
            left -= len(block)
            self.received += len(block)
            self._on_bytes(len(block))
            yield block

    def _strike(self) -> None:
        while self._strikes and self._strikes[0][0] <= self.received:
            self._strikes.pop(0)[1]()

    def _invite(self) -> None:
        if self._request.headers.get("expect", "").lower() == "100-continue":
            self._connection.go_on()


def _reset_on_close(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _size(body: bytes | Path) -> int:
    return len(body) if isinstance(body, bytes) else body.stat().st_size


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
