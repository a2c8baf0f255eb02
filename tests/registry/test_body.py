"""Bodies: a window of a file, counted, read again from its start."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from pusher.config import Timeouts
from pusher.errors import ConnectionBroken, RegistryStalled
from pusher.registry.http.body import BLOCK, BlobDamaged, BlobFile, Body
from pusher.registry.http.transport import Transport
from tests.registry.helpers import Onlooker

DATA = bytes(range(256)) * 2000


@pytest.fixture
def blob(tmp_path: Path) -> BlobFile:
    path = tmp_path / "file"
    path.write_bytes(b"head" + DATA + b"tail")
    return BlobFile("sha256:" + "0" * 64, len(DATA), path, start=4)


def test_window(blob: BlobFile) -> None:
    body = Body(blob, 100, 300_000)
    assert len(body) == 300_000
    blocks = list(body)
    assert b"".join(blocks) == DATA[100:300_100]
    assert max(map(len, blocks)) == BLOCK
    assert body.read() == b""
    body.close()


def test_read_sizes(blob: BlobFile) -> None:
    body = Body(blob, 0, 1000)
    assert [body.read(0), body.read(10), body.read(5000), body.read(1), body.read()] == [
        b"",
        DATA[:10],
        DATA[10:1000],
        b"",
        b"",
    ]
    body.close()


def test_rewound_body_is_sent_whole_again_and_counted(blob: BlobFile) -> None:
    onlooker = Onlooker()
    body = Body(blob, 5, 600, onlooker)
    body.read(400)
    body.rewind()
    assert body.read() == DATA[5:605]
    assert (body.sent, onlooker.in_flight) == (1000, [400, 600])
    body.close()


def test_nothing_is_opened_before_it_is_read(tmp_path: Path) -> None:
    body = Body(BlobFile("sha256:" + "0" * 64, 10, tmp_path / "missing"), 0, 10)
    assert len(body) == 10
    body.rewind()
    body.close()
    with pytest.raises(BlobDamaged):
        body.read(1)


def test_file_that_ends_early(blob: BlobFile) -> None:
    longer = BlobFile(blob.digest, blob.size + 5, blob.path, blob.start)
    body = Body(longer, blob.size, 5)
    assert body.read(5) == b"tail"
    with pytest.raises(BlobDamaged) as error:
        body.read(1)
    assert error.value.args == (blob.digest,)
    body.close()


def test_what_counts_as_sent_has_left(tmp_path: Path) -> None:
    """A registry that reads nothing more holds a little of the body, and our kernel hardly anything."""
    path = tmp_path / "file"
    path.write_bytes(bytes(16 * 1024 * 1024))
    body = Body(BlobFile("sha256:" + "0" * 64, path.stat().st_size, path), 0, path.stat().st_size)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        host, port = server.getsockname()
        transport = Transport(Timeouts(connect=5, stall=0.3, answer=5))
        with pytest.raises(RegistryStalled):
            transport.send("PATCH", f"http://{host}:{port}/", body=body)
        transport.close()
    assert 0 < body.sent < 1024 * 1024


def test_what_lay_in_our_kernel_when_the_link_broke_was_not_transmitted(tmp_path: Path) -> None:
    """The other side knows what it has: what it read, and what waits in its own kernel."""
    path = tmp_path / "file"
    path.write_bytes(bytes(16 * 1024 * 1024))
    body = Body(BlobFile("sha256:" + "0" * 64, 16 * 1024 * 1024, path), 0, 16 * 1024 * 1024)
    received = []

    def receive(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(1)
        read, before = 0, -1
        while read < 100_000:
            read += len(connection.recv(10_000))
        while before != body.sent:  # until it is stuck
            before = body.sent
            time.sleep(0.2)
        waiting = array.array("i", [0])
        fcntl.ioctl(connection, termios.FIONREAD, waiting)
        received.append(read + waiting[0])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        thread = threading.Thread(target=receive, args=(listener,))
        thread.start()
        transport = Transport(Timeouts(5, 5, 5, 5))
        with pytest.raises(ConnectionBroken):
            transport.send("PATCH", f"http://127.0.0.1:{listener.getsockname()[1]}/", body=body)
        transport.close()
        thread.join()
    assert body.sent > received[0] + 100_000
    if sys.platform == "linux":
        assert body.transmitted == received[0]
    else:
        assert body.transmitted == body.sent
