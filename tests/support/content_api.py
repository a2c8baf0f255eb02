"""Docker's API as far as its content store is read through it: gRPC after an upgrade, on a Unix socket."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pusher.sources.engine.protobuf import decode_fields, encode_field
from tests.support.fake_engine import FakeEngine
from tests.support.images import Image, entries

_SWITCH: Final = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
_REFUSAL: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
_PREFACE: Final = 24
_DATA, _HEADERS, _SETTINGS, _PING = 0, 1, 4, 6
NOT_FOUND: Final = 5
UNIMPLEMENTED: Final = 12
RELAY: Final = """
import os, socket, sys, threading
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
def send():
    while data := os.read(0, 65536): s.sendall(data)
threading.Thread(target=send, daemon=True).start()
while data := s.recv(65536): os.write(1, data)
"""
"""`docker system dial-stdio` in a few lines."""


def stored_blobs(image: Image) -> dict[str, bytes]:
    """What containerd's image store has of an image, by digest: the index of ``root_of`` and all below."""
    blobs = {entry.name.rpartition("/")[2]: entry.data for entry in entries("containerd", image)}
    return {f"sha256:{name}": data for name, data in blobs.items() if data is not None and len(name) == 64}


class ContentApi:
    """A context manager. Set its attributes to change what it does."""

    def __init__(self, blobs: Mapping[str, bytes] | None = None) -> None:
        self.blobs = dict(blobs or {})
        self.offered = True
        """Whether an upgrade is accepted."""
        self.status = 0
        """Of every call, if it is not 0."""
        self.break_at: set[int] = set()
        """Offsets in blobs at which the connection is closed, each once."""
        self.stands_still = threading.Event()
        """While it is set, no data is sent."""
        self.block = 8192
        """Bytes in a message."""
        self.frame = 5000
        """Bytes in a frame at most."""
        self.reads: list[tuple[str, int]] = []
        """Digest and offset of every call for bytes."""
        self.connections = 0
        """How many were made."""
        self.open_connections = 0
        # a socket's path must be short
        self._folder = tempfile.TemporaryDirectory(prefix="pusher-api-")
        self.path = Path(self._folder.name) / "docker.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._changed = threading.Condition()
        self._sockets: list[socket.socket] = []
        self._stopped = False

    def serve(self, engine: FakeEngine, *, over_ssh: bool = False) -> None:
        """Have ``engine`` be the Docker of this API; ``over_ssh``: it can only be reached through it."""
        engine.on("context", "echo ssh://host" if over_ssh else f"echo unix://{self.path}")
        program = self.path.with_name("relay.py")
        program.write_text(RELAY)
        engine.on("system", f"exec {sys.executable} -I -S {program} {self.path}")

    def drop_connections(self) -> None:
        """Close every connection, as a daemon does that ends."""
        with self._changed:
            sockets, self._sockets = self._sockets, []
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def wait_for_no_connection(self) -> None:
        """Wait until every client has left."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.open_connections == 0, 20), self.open_connections

    def __enter__(self) -> Self:
        self._listener.bind(str(self.path))
        self._listener.listen(32)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_connections()
        self._folder.cleanup()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                self.connections += 1
                self.open_connections += 1
                self._sockets.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError, EOFError):
                self._answer(connection, stream.readline, lambda size: _exactly(stream.read(size), size))
        finally:
            with self._changed:
                self.open_connections -= 1
                self._changed.notify_all()

    def _answer(
        self,
        connection: socket.socket,
        read_line: Callable[[], bytes],
        read: Callable[[int], bytes],
    ) -> None:
        request = read_line()
        while read_line().strip():
            pass
        assert request == b"POST /grpc HTTP/1.1\r\n", request
        if not self.offered:
            connection.sendall(_REFUSAL)
            return
        connection.sendall(_SWITCH + _frame(_SETTINGS, 0, 0) + _frame(_PING, 0, 0, b"is alive"))
        read(_PREFACE)
        method = ""
        while True:
            head = read(9)
            size, kind, stream = int.from_bytes(head[:3]), head[3], int.from_bytes(head[5:9])
            payload = read(size)
            if kind == _HEADERS:
                method = _path_in(payload).rpartition("/")[2]
            elif kind == _DATA:
                fields = decode_fields(memoryview(payload)[5:])
                digest, offset = bytes(fields[1]).decode(), int(fields.get(2, 0))
                self._call(connection, stream, method, digest, offset)

    def _call(self, connection: socket.socket, stream: int, method: str, digest: str, offset: int) -> None:
        blob = self.blobs.get(digest)
        status = self.status or (NOT_FOUND if blob is None else 0)
        connection.sendall(
            _frame(_HEADERS, 4, stream, b"\x88" + _header(b"content-type", b"application/grpc"))
        )
        if status == 0 and blob is not None:
            if method == "Info":
                info = encode_field(1, digest.encode()) + encode_field(2, len(blob))
                self._send(connection, stream, encode_field(1, info))
            else:
                self.reads.append((digest, offset))
                self._send_blob(connection, stream, blob, offset)
        connection.sendall(_frame(_HEADERS, 5, stream, _header(b"grpc-status", str(status).encode())))

    def _send_blob(self, connection: socket.socket, stream: int, blob: bytes, offset: int) -> None:
        while offset < len(blob):
            while self.stands_still.is_set() and not self._stopped:
                threading.Event().wait(0.02)
            end = min(offset + self.block, len(blob))
            with self._changed:
                cuts = {at for at in self.break_at if offset <= at < end}
                self.break_at -= cuts
            if cuts:
                connection.shutdown(socket.SHUT_RDWR)
                raise OSError("cut")
            self._send(connection, stream, encode_field(1, offset) + encode_field(2, blob[offset:end]))
            offset = end

    def _send(self, connection: socket.socket, stream: int, message: bytes) -> None:
        framed = struct.pack(">?I", False, len(message)) + message
        for at in range(0, len(framed), self.frame):
            connection.sendall(_frame(_DATA, 0, stream, framed[at : at + self.frame]))


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) < size:
        raise EOFError
    return data


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def _header(name: bytes, value: bytes) -> bytes:
    return bytes((0, len(name))) + name + bytes((len(value),)) + value


def _path_in(block: bytes) -> str:
    """The path among headers that are all literals, as pusher writes them."""
    at = 0
    while at < len(block):
        name, after = _string(block, at + 1)
        value, at = _string(block, after)
        if name == b":path":
            return value.decode()
    raise ValueError(block)


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    size = block[at]
    assert size < 127
    return block[at + 1 : at + 1 + size], at + 1 + size
