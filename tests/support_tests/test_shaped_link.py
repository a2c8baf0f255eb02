"""The shaped link carries what it is given, in order, not faster than its rate and not before its delay."""

from __future__ import annotations

import random
import socket
import threading
import time

from tests.support.shaped_link import ShapedLink


def _echo_length(listener: socket.socket) -> None:
    """Answer a connection with the number of bytes that came before its end, and their echo's last block."""
    peer, _ = listener.accept()
    with peer:
        got = b"".join(iter(lambda: peer.recv(65536), b""))
        peer.sendall(got)


def test_bytes_arrive_whole_and_at_the_rate_of_the_link() -> None:
    data = random.Random(1).randbytes(400_000)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_echo_length, args=(listener,))
        thread.start()
        with ShapedLink(f"127.0.0.1:{listener.getsockname()[1]}", rate=4e6, round_trip=0.1) as link:
            host, _, port = link.address.rpartition(":")
            started = time.monotonic()
            with socket.create_connection((host, int(port))) as client:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                got = b"".join(iter(lambda: client.recv(65536), b""))
            took = time.monotonic() - started
            assert link.bytes_sent == len(data)
        thread.join()
    assert got == data
    # two ways of 0.1 s each at 4 MB/s, one round trip of data and one of the handshake: never less
    assert took >= 2 * len(data) / 4e6 + 0.2


def test_what_one_side_breaks_off_ends_at_the_other() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        ShapedLink(f"127.0.0.1:{listener.getsockname()[1]}", rate=1e6) as link,
    ):
        host, _, port = link.address.rpartition(":")
        client = socket.create_connection((host, int(port)))
        peer, _ = listener.accept()
        client.sendall(b"x")
        assert peer.recv(1) == b"x"
        client.close()
        assert peer.recv(1) == b""
        peer.close()
