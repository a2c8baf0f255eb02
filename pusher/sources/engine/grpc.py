"""Call gRPC methods over a stream of bytes, one at a time.

gRPC is HTTP/2 (RFC 9113) with length-prefixed messages in DATA frames and the result in trailers. This is as
much of it as a client needs that calls one method after the other. Servers send a large response in frames of
16 KiB, which h2 reads at 300 MB/s of a processor, and this at 5,000.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final, Protocol

from hpack import Decoder, Encoder, HPACKError

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = (
    *(0, 1, 3, 4, 6, 7, 8, 9),
)
_END_STREAM: Final = 0x1  # of DATA and HEADERS
_ACK: Final = 0x1  # of SETTINGS and PING
_END_HEADERS: Final = 0x4
_PADDED: Final = 0x8
_PRIORITY: Final = 0x20
_ENABLE_PUSH, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 2, 4, 5
_FRAME_HEADER: Final = 9
"""Bytes."""
_WINDOW: Final = (1 << 31) - 1
_FIRST_WINDOW: Final = (1 << 16) - 1
"""Bytes that a server may send on a new connection, before any WINDOW_UPDATE."""
_PREFIX: Final = 5
"""Bytes before each message: whether it is compressed, and its size."""
_LARGEST_FRAME: Final = 1 << 20
_LARGEST_MESSAGE: Final = 16 << 20
"""Bytes; the content service of containerd sends at most 1 MiB in one."""
_LONGEST_STATUS: Final = 3
"""Digits."""
_LARGEST_HEADERS: Final = 64 << 10
"""Bytes, as they were sent and decoded."""

NOT_FOUND: Final = 5
"""The status of a call for something that does not exist."""


class Duplex(Protocol):
    """A stream of bytes in both directions."""

    def read_into(self, buffer: memoryview) -> int:
        """Read at least one byte into ``buffer``; return the number of bytes, 0 at the end."""

    def write(self, data: bytes) -> None:
        """Write all of ``data``."""


class GrpcBroken(Exception):
    """The connection is of no use any more: it ended, or what came is not gRPC."""


class GrpcFailed(Exception):
    """The server answered a call with an error. The connection can be used for the next one."""

    def __init__(self, status: int) -> None:
        super().__init__(f"gRPC status {status}")
        self.status = status


class GrpcClient:
    """One client of a gRPC server at the other end of ``duplex``. ``metadata`` is sent with every call.

    Raises GrpcBroken, and what ``duplex`` raises. A call that is not read to its end breaks the connection.
    """

    def __init__(
        self, duplex: Duplex, metadata: Mapping[str, str] | None = None, *, received: bytes = b""
    ) -> None:
        """``received``: what the server has sent already."""
        self._duplex = duplex
        self._metadata = dict(metadata or {})
        self._buffer = memoryview(bytearray(_FRAME_HEADER + max(_LARGEST_FRAME, len(received))))
        self._buffer[: len(received)] = received
        self._start, self._end = 0, len(received)
        self._stream = -1
        self._unacknowledged = Counter[int]()
        self._encoder, self._decoder = Encoder(), Decoder(_LARGEST_HEADERS)
        settings = {
            _ENABLE_PUSH: 0,
            _INITIAL_WINDOW_SIZE: _WINDOW,
            _MAX_FRAME_SIZE: _LARGEST_FRAME,
        }
        packed = b"".join(struct.pack(">HI", name, value) for name, value in settings.items())
        window = struct.pack(">I", _WINDOW - _FIRST_WINDOW)
        duplex.write(_PREFACE + _frame(_SETTINGS, 0, 0, packed) + _frame(_WINDOW_UPDATE, 0, 0, window))

    def call(self, method: str, request: bytes) -> Iterator[memoryview]:
        """Call ``/package.Service/Method``; yield the messages of the response.

        Raises GrpcFailed, also after messages.
        """
        del self._unacknowledged[self._stream]
        self._stream += 2
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": "localhost",
            "content-type": "application/grpc",
            "te": "trailers",
            **self._metadata,
        }
        headers = self._encoder.encode(list(fields.items()))
        body = struct.pack(">?I", False, len(request)) + request
        self._duplex.write(
            _frame(_HEADERS, _END_HEADERS, self._stream, headers)
            + _frame(_DATA, _END_STREAM, self._stream, body)
        )
        received = bytearray()
        while True:
            kind, flags, payload = self._next_frame()
            if kind == _DATA:
                received += _without_padding(flags, payload)
                self._acknowledge(len(payload))
                left = memoryview(received)
                while (message := _first_message(left)) is not None:
                    yield message
                    left = left[_PREFIX + len(message) :]
                if len(left) < len(received):  # else copying it for each frame would take most of the time
                    received = bytearray(left)
                left.release()
            elif kind == _HEADERS:
                answer = self._read_headers(flags, payload)
                if flags & _END_STREAM:
                    status = answer.get("grpc-status", "")
                    if not status.isdecimal() or len(status) > _LONGEST_STATUS:
                        raise GrpcBroken("the response has no status")
                    if int(status):
                        raise GrpcFailed(int(status))
                    if received:
                        raise GrpcBroken("the response ends inside a message")
                    return
            elif kind == _RST_STREAM:
                raise GrpcBroken("the server ended the call")
            if flags & _END_STREAM:
                raise GrpcBroken("the response has no status")

    def _read_headers(self, flags: int, payload: memoryview) -> Mapping[str, str]:
        """Return the headers that begin in this frame."""
        payload = _without_padding(flags, payload)
        headers = bytes(payload[5:] if flags & _PRIORITY else payload)
        while not flags & _END_HEADERS:
            kind, flags, payload = self._next_frame()
            headers += payload
            if kind != _CONTINUATION or len(headers) > _LARGEST_HEADERS:
                raise GrpcBroken("headers that do not end")
        try:
            return {str(name): str(value) for name, value in self._decoder.decode(headers)}
        except HPACKError as error:
            raise GrpcBroken(f"headers that cannot be read: {error}") from error

    def _next_frame(self) -> tuple[int, int, memoryview]:
        """Return kind, flags and payload of the call's next frame; answer those of the connection."""
        while True:
            head = self._take(_FRAME_HEADER)
            size, kind, flags = int.from_bytes(head[:3]), head[3], head[4]
            stream = int.from_bytes(head[5:9]) & _WINDOW
            if size > _LARGEST_FRAME:
                raise GrpcBroken(f"a frame of {size} bytes")
            payload = self._take(size)
            if stream == self._stream:
                if kind != _WINDOW_UPDATE:
                    return kind, flags, payload
            elif kind == _GOAWAY:
                raise GrpcBroken("the server ends the connection")
            elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                answer = bytes(payload) if kind == _PING else b""
                with suppress(OSError):  # of a closed connection, what has arrived can still be read
                    self._duplex.write(_frame(kind, _ACK, 0, answer))

    def _take(self, size: int) -> memoryview:
        """Return the next ``size`` bytes, valid until the next call."""
        buffer = self._buffer
        if self._end - self._start < size and self._start:
            left = self._end - self._start
            buffer[:left] = bytes(buffer[self._start : self._end])
            self._start, self._end = 0, left
        while self._end - self._start < size:
            count = self._duplex.read_into(buffer[self._end :])
            if not count:
                raise GrpcBroken("the connection was closed")
            self._end += count
        taken = buffer[self._start : self._start + size]
        self._start += size
        return taken

    def _acknowledge(self, count: int) -> None:
        """Let the server send as many bytes more, before it has used up half of a window: that of the
        connection, or that of the call."""
        for stream in (0, self._stream):
            self._unacknowledged[stream] += count
            if self._unacknowledged[stream] > _WINDOW // 4:
                update = struct.pack(">I", self._unacknowledged.pop(stream))
                with suppress(OSError):
                    self._duplex.write(_frame(_WINDOW_UPDATE, 0, stream, update))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def _without_padding(flags: int, payload: memoryview) -> memoryview:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise GrpcBroken("a frame of padding only")
    return payload[1 : len(payload) - payload[0]]


def _first_message(received: memoryview) -> memoryview | None:
    """Return the first message; None if it is not complete."""
    if len(received) < _PREFIX:
        return None
    compressed, size = struct.unpack_from(">?I", received)
    if compressed or size > _LARGEST_MESSAGE:
        raise GrpcBroken(f"a message of {size} bytes that cannot be read")
    message = received[_PREFIX : _PREFIX + size]
    return message if len(message) == size else None
