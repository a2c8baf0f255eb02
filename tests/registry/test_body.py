"""Bodies: a window of a file, counted, read again from its start."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from pusher.config import Timeouts
from pusher.errors import ConnectionBroken, MachineExhausted, RegistryStalled
from pusher.registry.http.body import BLOCK, BlobDamaged, BlobFile, Blocks, Body, FileSlice
from pusher.registry.http.tls import Trust
from pusher.registry.http.transport import Transport
from tests.registry.helpers import Onlooker
from tests.registry.sites import PATIENT, Site, transport_of
from tests.support.certificates import server
from tests.support.fakeregistry.wire import Reply

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


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.001, [1, 2, 4, 8, 8, 7]), (0.1, [1] * 30)],
    ids=["fast link", "slow link"],
)
def test_blocks_are_larger_on_a_fast_link(tmp_path: Path, seconds: float, expected: list[int]) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(30 * BLOCK))
    body = Body(BlobFile("sha256:" + "0" * 64, 30 * BLOCK, path), 0, 30 * BLOCK)
    blocks = list(Blocks(body, clock=iter(seconds * step for step in range(100)).__next__))
    assert [len(block) // BLOCK for block in blocks] == expected
    assert all(isinstance(block, FileSlice) for block in blocks)
    assert body.sent == 30 * BLOCK
    body.close()


def test_file_that_ends_early_does_not_look_like_a_broken_connection(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA[:-1])
    body = Body(BlobFile("sha256:" + "0" * 64, len(DATA), path), 0, len(DATA))
    with Site(lambda _: Reply(201)) as site, transport_of(Transport(PATIENT)) as transport:
        with pytest.raises(BlobDamaged):
            transport.send("PUT", site.url, body=body)
        assert site.seen == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_that_the_system_cannot_send_is_read(
    blob: BlobFile, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As on some file systems in user space."""
    monkeypatch.setattr(os, "sendfile", _failing(number))
    with Site(lambda _: Reply(201)) as site, transport_of(Transport(PATIENT)) as transport:
        transport.send("PUT", site.url, body=Body(blob, 7, len(DATA) - 7))
    assert [seen.body for seen in site.seen] == [DATA[7:]]


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.ETIMEDOUT, errno.ESTALE, errno.EIO])
def test_a_file_server_that_is_gone_does_not_look_like_a_broken_connection(
    blob: BlobFile, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Nor is the blob damaged: it would be removed."""
    for name in ("sendfile", "pread"):
        monkeypatch.setattr(os, name, _failing(number))
    body = Body(blob, 0, len(DATA))
    with (
        Site(lambda _: Reply(201)) as site,
        transport_of(Transport(PATIENT)) as transport,
        pytest.raises(MachineExhausted, match=f"the disk of {blob.path}"),
    ):
        transport.send("PUT", site.url, body=body)
    body.close()


def test_a_connection_that_breaks_does_not_look_like_a_broken_disk(
    blob: BlobFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sendfile", _failing(errno.ETIMEDOUT))
    with (
        Site(lambda _: Reply(201)) as site,
        transport_of(Transport(PATIENT)) as transport,
        pytest.raises(ConnectionBroken),
    ):
        transport.send("PUT", site.url, body=Body(blob, 0, len(DATA)))


def test_a_blob_that_another_machine_has_just_replaced_is_opened_again(
    blob: BlobFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, failures = Path.open, [errno.ESTALE]

    def open_later(path: Path, mode: str) -> object:
        if failures:
            _failing(failures.pop())()
        return opened(path, mode)

    monkeypatch.setattr(Path, "open", open_later)
    body = Body(blob, 0, 9)
    assert body.read() == DATA[:9]
    body.close()
    failures += [errno.ESTALE, errno.ESTALE]
    with pytest.raises(MachineExhausted, match="Stale"):
        Body(blob, 0, 9).read()


def _failing(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_every_byte_arrives_with_tls_and_without(blob: BlobFile) -> None:
    authority = trustme.CA()
    for tls in (None, server(authority, "127.0.0.1")):
        with (
            Site(lambda _: Reply(201), tls) as site,
            transport_of(Transport(PATIENT, trust=lambda _: Trust(insecure=True))) as transport,
        ):
            transport.send("PUT", site.url, body=Body(blob, 7, len(DATA) - 7))
            transport.send("PUT", site.url, body=Body(blob, 0, 7))
            assert [seen.body for seen in site.seen] == [DATA[7:], DATA[:7]]


def test_what_counts_as_sent_has_left(tmp_path: Path) -> None:
    """A registry that reads nothing more holds a little of the body, and our kernel hardly anything."""
    path = tmp_path / "file"
    path.write_bytes(bytes(16 * 1024 * 1024))
    body = Body(BlobFile("sha256:" + "0" * 64, path.stat().st_size, path), 0, path.stat().st_size)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        host, port = server.getsockname()
        transport = Transport(Timeouts(connect=30, stall=0.3, answer=30))
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
        still = 0
        while still < 10:  # until it is stuck, and not only waits for a processor
            still = still + 1 if before == body.sent else 0
            before = body.sent
            time.sleep(0.1)
        waiting = array.array("i", [0])
        fcntl.ioctl(connection, termios.FIONREAD, waiting)
        received.append(read + waiting[0])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        thread = threading.Thread(target=receive, args=(listener,))
        thread.start()
        transport = Transport(PATIENT)
        with pytest.raises(ConnectionBroken):
            transport.send("PATCH", f"http://127.0.0.1:{listener.getsockname()[1]}/", body=body)
        transport.close()
        thread.join()
    assert body.sent > received[0] + 100_000
    if sys.platform == "linux":
        assert body.transmitted == received[0]
    else:
        assert body.transmitted == body.sent
