"""Docker's API as far as its content store is read through it: gRPC after an upgrade, on a Unix socket."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

from pusher.sources.engine.protobuf import decode_fields, encode_field
from tests.support.fake_engine import FakeEngine
from tests.support.images import Image, entries

_SWITCH: Final = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
_REFUSAL: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
_PREFIX: Final = 5
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
        self.wait_for(lambda: self.open_connections == 0)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until connections that begin or end make it true."""
        with self._changed:
            assert self._changed.wait_for(condition, 60), (self.connections, self.open_connections)

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
                self._changed.notify_all()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                self._answer(connection)
        finally:
            with self._changed:
                self.open_connections -= 1
                self._changed.notify_all()

    def _answer(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (data := connection.recv(65536)):
                return
            head += data
        request, _, data = head.partition(b"\r\n\r\n")
        assert request.startswith(b"POST /grpc HTTP/1.1\r\n"), request
        if not self.offered:
            connection.sendall(_REFUSAL)
            return
        http = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        http.initiate_connection()
        connection.sendall(_SWITCH + http.data_to_send())
        methods, bodies = dict[int, str](), dict[int, bytes]()
        while True:
            for event in http.receive_data(data) if data else ():
                if isinstance(event, RequestReceived):
                    methods[event.stream_id] = dict(event.headers)[b":path"].decode().rpartition("/")[2]
                elif isinstance(event, DataReceived):
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                elif isinstance(event, StreamEnded):
                    fields = decode_fields(memoryview(bodies[event.stream_id])[_PREFIX:])
                    call = _Call(connection, http, event.stream_id, self.frame)
                    digest = bytes(fields[1]).decode()
                    self._call(call, methods[event.stream_id], digest, int(fields.get(2, 0)))
            connection.sendall(http.data_to_send())
            if not (data := connection.recv(65536)):
                return

    def _call(self, call: _Call, method: str, digest: str, offset: int) -> None:
        blob = self.blobs.get(digest)
        status = self.status or (NOT_FOUND if blob is None else 0)
        if status == 0 and blob is not None:
            call.begin()
            if method == "Info":
                info = encode_field(1, digest.encode()) + encode_field(2, len(blob))
                call.send(encode_field(1, info))
            else:
                self.reads.append((digest, offset))
                self._send_blob(call, blob, offset)
        call.end(status)

    def _send_blob(self, call: _Call, blob: bytes, offset: int) -> None:
        while offset < len(blob):
            while self.stands_still.is_set() and not self._stopped:
                threading.Event().wait(0.02)
            end = min(offset + self.block, len(blob))
            with self._changed:
                cuts = {at for at in self.break_at if offset <= at < end}
                self.break_at -= cuts
            if cuts:
                call.connection.shutdown(socket.SHUT_RDWR)
                raise OSError("cut")
            call.send(encode_field(1, offset) + encode_field(2, blob[offset:end]))
            offset = end


@dataclass
class _Call:
    """One call, and how it is answered."""

    connection: socket.socket
    http: H2Connection
    stream: int
    frame: int
    """Bytes in a frame at most."""
    begun: bool = False

    def begin(self) -> None:
        self.http.send_headers(self.stream, [(":status", "200"), ("content-type", "application/grpc")])
        self.begun = True

    def send(self, message: bytes) -> None:
        framed = struct.pack(">?I", False, len(message)) + message
        for at in range(0, len(framed), self.frame):
            self.http.send_data(self.stream, framed[at : at + self.frame])
        self.connection.sendall(self.http.data_to_send())

    def end(self, status: int) -> None:
        """Send the trailers; those of a call without any message are its only headers, as in gRPC."""
        headers = [("grpc-status", str(status))]
        if not self.begun:
            headers = [(":status", "200"), ("content-type", "application/grpc"), *headers]
        self.http.send_headers(self.stream, headers, end_stream=True)
        self.connection.sendall(self.http.data_to_send())
