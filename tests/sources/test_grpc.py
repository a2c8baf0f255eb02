"""The gRPC client, byte by byte: what servers may send, and what none should."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hpack import Decoder

from pusher.sources.engine.grpc import GrpcBroken, GrpcClient, GrpcFailed
from pusher.sources.engine.protobuf import bytes_field, decode_fields, encode_field

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 32
OK = bytes.fromhex("40889acac8b21234da8f0130")
"""Trailers as Go writes them: ``grpc-status: 0``, its name in Huffman code."""
PLAIN_5 = b"\x00\x0bgrpc-status\x015"


class Script:
    """A connection on which everything arrives that is in ``received``, a few bytes at a time."""

    def __init__(self, received: bytes, step: int = 7) -> None:
        self.received = received
        self.step = step
        self.written = b""

    def read_into(self, buffer: memoryview) -> int:
        part = self.received[: min(self.step, len(buffer))]
        self.received = self.received[len(part) :]
        buffer[: len(part)] = part
        return len(part)

    def write(self, data: bytes) -> None:
        self.written += data

    def frames(self) -> list[tuple[int, int, int, bytes]]:
        """What the client wrote after its preface: kind, flags, stream and payload."""
        left, found = self.written.partition(b"SM\r\n\r\n")[2], []
        while left:
            size = int.from_bytes(left[:3])
            found.append((left[3], left[4], int.from_bytes(left[5:9]), left[9 : 9 + size]))
            left = left[9 + size :]
        return found


def frame(kind: int, flags: int = 0, payload: bytes = b"", stream: int = 1) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def message(data: bytes) -> bytes:
    return struct.pack(">?I", False, len(data)) + data


def ending(trailers: bytes = OK, stream: int = 1) -> bytes:
    return frame(HEADERS, END_STREAM | END_HEADERS, trailers, stream)


def call(*received: bytes, step: int = 7) -> list[bytes]:
    client = GrpcClient(Script(b"".join(received), step))
    return [bytes(each) for each in client.call("/a.Service/Method", b"request")]


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_messages_and_frames_need_not_begin_together(step: int) -> None:
    data = message(b"one") + message(b"") + message(b"three" * 100)
    cut = [data[:4], data[4:9], data[9:13], data[13:]]
    got = call(
        frame(SETTINGS, stream=0),
        frame(HEADERS, END_HEADERS, b"\x88"),
        *(frame(DATA, 0, part) for part in cut),
        frame(WINDOW_UPDATE, 0, b"\x00\x00\x00\x09"),
        ending(),
        step=step,
    )
    assert got == [b"one", b"", b"three" * 100]


def test_padding_priority_and_continuation() -> None:
    assert call(
        frame(HEADERS, END_HEADERS | PADDED | PRIORITY, b"\x03" + bytes(5) + b"\x88" + bytes(3)),
        frame(DATA, PADDED, b"\x02" + message(b"data") + bytes(2)),
        frame(HEADERS, END_STREAM, OK[:5]),
        frame(CONTINUATION, 0, OK[5:8]),
        frame(CONTINUATION, END_HEADERS, OK[8:]),
    ) == [b"data"]


@pytest.mark.parametrize(
    "trailers",
    [PLAIN_5, b"\x20" + PLAIN_5, b"\x88" + PLAIN_5, b"\x5f\x01a" + PLAIN_5, b"\x10\x01a\x01b" + PLAIN_5],
    ids=["plain", "table size", "indexed", "indexed name", "never indexed"],
)
def test_an_error_is_read_among_other_trailers(trailers: bytes) -> None:
    with pytest.raises(GrpcFailed) as caught:
        call(ending(trailers))
    assert caught.value.status == 5


def test_after_an_error_the_next_call_succeeds() -> None:
    script = Script(ending(PLAIN_5) + frame(DATA, 0, message(b"x"), 3) + ending(stream=3))
    client = GrpcClient(script, {"containerd-namespace": "moby"})
    with pytest.raises(GrpcFailed):
        list(client.call("/a.Service/Method", b""))
    assert [bytes(each) for each in client.call("/a.Service/Method", b"q" * 300)] == [b"x"]
    headers = [payload for kind, _, _, payload in script.frames() if kind == HEADERS]
    decoder = Decoder()
    for each in headers:
        sent = {str(name): str(value) for name, value in decoder.decode(each)}
        assert (sent[":path"], sent["containerd-namespace"]) == ("/a.Service/Method", "moby")
    assert [stream for kind, _, stream, _ in script.frames() if kind == DATA] == [1, 3]


def test_settings_and_pings_are_answered() -> None:
    script = Script(
        frame(SETTINGS, 0, bytes(6), 0)
        + frame(PING, 0, b"pingping", 0)
        + frame(PING, ACK, b"pongpong", 0)
        + frame(SETTINGS, ACK, b"", 0)
        + ending()
    )
    list(GrpcClient(script).call("/a.Service/Method", b""))
    answers = [
        (kind, payload) for kind, flags, stream, payload in script.frames() if stream == 0 and flags & ACK
    ]
    assert answers == [(SETTINGS, b""), (PING, b"pingping")]


def test_the_server_may_go_on_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    """The windows are as large as they can be, and still a connection outlives them."""
    monkeypatch.setattr("pusher.sources.engine.grpc._WINDOW", 65_535 + 4000)
    data = message(b"x" * 90)
    script = Script(
        frame(DATA, 0, data) * 400 + ending() + frame(DATA, 0, data, 3) * 200 + ending(stream=3), 1 << 20
    )
    client = GrpcClient(script)
    assert len(list(client.call("/a.Service/Method", b""))) == 400
    assert len(list(client.call("/a.Service/Method", b""))) == 200
    given: dict[int, int] = {0: 0, 1: 0, 3: 0}
    for kind, _, stream, payload in script.frames()[2:]:
        if kind == WINDOW_UPDATE:
            given[stream] += int.from_bytes(payload)
    assert 0 < given[1] <= 400 * len(data)
    assert given[3] <= 200 * len(data)
    assert 600 * len(data) - 20_000 <= given[0] <= 600 * len(data)


@pytest.mark.parametrize(
    "received",
    [
        [],
        [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
        [frame(DATA, 0, message(b"data"))],
        [frame(DATA, END_STREAM, message(b"data"))],
        [frame(DATA, 0, message(b"data")[:-1]), ending()],
        [frame(DATA, 0, b"\x01" + message(b"data")[1:]), ending()],
        [frame(DATA, 0, struct.pack(">?I", False, 1 << 30)), ending()],
        [frame(DATA, PADDED, b""), ending()],
        [frame(DATA, PADDED, b"\x09\x00"), ending()],
        [b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", bytes(100)],
        [frame(RST_STREAM, 0, bytes(4))],
        [frame(GOAWAY, 0, bytes(8), 0)],
        [frame(HEADERS, END_STREAM, OK), frame(DATA, 0, b"x")],
        [frame(HEADERS, 0, b""), *[frame(CONTINUATION, 0, bytes(60_000))] * 2],
        [ending(b"\x88")],
        [ending(b"\x00\x0bgrpc-status\x01x")],
        [ending(b"\x00\x7f\xff\xff\xff")],
        [ending(b"\x40\x0bgrpc-st")],
        [ending(b"\x00\x0bgrpc-status\x02\xc2\xb2")],
        [ending(b"\x00\x0bgrpc-status\x7f\x89\x26" + b"5" * 5000)],
    ],
    ids=range(20),
)
def test_what_is_not_an_answer(received: Sequence[bytes]) -> None:
    with pytest.raises(GrpcBroken):
        call(*received, step=1000)


def test_what_has_arrived_is_read_from_a_connection_that_takes_nothing() -> None:
    class Closed(Script):
        """Its other end has gone."""

        def write(self, data: bytes) -> None:
            if self.written.count(b"/a.Service/Method"):
                raise BrokenPipeError
            super().write(data)

    client = GrpcClient(Closed(frame(SETTINGS, stream=0) + frame(DATA, 0, message(b"data")) + ending()))
    assert [bytes(each) for each in client.call("/a.Service/Method", b"")] == [b"data"]


def test_protocol_buffers() -> None:
    written = encode_field(1, b"x" * 200) + encode_field(2, 1 << 40) + b"\x1d" + bytes(4) + b"\x21" + bytes(8)
    found = decode_fields(memoryview(written))
    assert (bytes(found[1]), found[2]) == (b"x" * 200, 1 << 40)
    assert bytes(bytes_field(memoryview(written), 1)) == b"x" * 200
    assert bytes(bytes_field(memoryview(written), 9)) == b""
    with pytest.raises(ValueError, match="is an integer"):
        bytes_field(memoryview(written), 2)


@pytest.mark.parametrize("message", [b"\x0a\x05abc", b"\x0a", b"\x08", b"\x0b", b"\x08" + b"\xff" * 11])
def test_what_is_no_message(message: bytes) -> None:
    with pytest.raises(ValueError):
        decode_fields(memoryview(message))
