"""How much of a body waits in the kernel, and how long for room there."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pusher.registry.http import connections
from pusher.registry.http.body import BLOCK, LARGEST_BLOCK, BlobFile, FileSlice
from pusher.registry.http.connections import _CAN_LIMIT_UNSENT, _CAN_SEND_FILES, _StallTimeoutMixin

pytestmark = pytest.mark.skipif(not _CAN_SEND_FILES, reason="only Linux sends files by itself")


@contextmanager
def connected() -> Iterator[tuple[_StallTimeoutMixin, socket.socket]]:
    """A connection, and the registry's end of it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    with client, other:
        connection = _StallTimeoutMixin()
        connection.sock = client
        client.settimeout(30)
        yield connection, other


@pytest.mark.skipif(not _CAN_LIMIT_UNSENT, reason="the system has no such limit")
def test_more_waits_in_the_kernel_while_the_largest_blocks_are_sent(tmp_path: Path) -> None:
    def limit() -> int:
        return int(connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT))

    def drain() -> None:
        while other.recv(1 << 20):
            pass

    path = tmp_path / "file"
    path.write_bytes(bytes(LARGEST_BLOCK))
    blob = BlobFile("sha256:" + "0" * 64, LARGEST_BLOCK, path)
    with path.open("rb") as file, connected() as (connection, other):
        thread = threading.Thread(target=drain)
        thread.start()
        found = []
        for length in (LARGEST_BLOCK, LARGEST_BLOCK // 2, BLOCK, LARGEST_BLOCK // 2, LARGEST_BLOCK, 1):
            connection._send_file(FileSlice(file, 0, length, blob))
            found.append(limit())
        connection.sock.shutdown(socket.SHUT_WR)
        thread.join()
    large, usual = connections._MAX_UNSENT_ON_FAST_LINKS, connections._MAX_UNSENT
    assert found == [large, large, usual, usual, large, usual]


def test_a_link_that_carries_less_than_half_of_it_in_time_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = [300_000, 200_000, 100_000, 100_000]
    with connected() as (connection, _):
        connection.sock.setblocking(False)
        while select.select([], [connection.sock], [], 0.2)[1]:  # until it stays full
            with suppress(BlockingIOError):
                connection.sock.send(bytes(1 << 20))
        connection.sock.settimeout(0.01)
        monkeypatch.setattr(connections, "unacknowledged", lambda _: left.pop(0))
        with pytest.raises(TimeoutError):
            connection._wait_for_room()
    assert not left, "each time that the other side had acknowledged something it waited again"
