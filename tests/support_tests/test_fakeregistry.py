"""The fake's own life: connections, log, restart, size."""

from __future__ import annotations

import resource
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.fakeregistry import DISTRIBUTION_2, SERVERLESS, FakeRegistry, Fault, On, Stall
from tests.support_tests.client import Client, digest_of, random_bytes

RULES = SERVERLESS.scaled(min=1000, max=20_000)
DATA = random_bytes(2000)


def test_connection_is_kept_alive_and_logged() -> None:
    with FakeRegistry(RULES) as registry, Client(registry.address) as client:
        client.open()
        client.request("GET", "/v2/?a=b", headers={"User-Agent": "pusher"})
        opened, pinged = registry.requests()
        assert (opened.kind, opened.method, opened.status, opened.connection) == (On.OPEN, "POST", 202, 1)
        assert (pinged.kind, pinged.path, pinged.query, pinged.connection) == (On.PING, "/v2/", {"a": "b"}, 1)
        assert pinged.headers["user-agent"] == "pusher"
        assert pinged.at >= opened.at
        assert opened.finished


def test_connection_close_is_honoured() -> None:
    with FakeRegistry(RULES) as registry, _connect(registry) as sock:
        sock.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b""
        while block := sock.recv(4096):
            received += block
        assert received.startswith(b"HTTP/1.1 200 OK")


def test_client_that_speaks_tls_is_told_at_once() -> None:
    with FakeRegistry(RULES) as registry, _connect(registry) as sock:
        with pytest.raises(ssl.SSLError, match=r"(?i)wrong.version"):
            ssl.create_default_context().wrap_socket(sock, server_hostname="127.0.0.1")
        assert not registry.log


def test_chunked_transfer_coding_and_expect_continue() -> None:
    with FakeRegistry(DISTRIBUTION_2) as registry, Client(registry.address) as client:
        location = client.open().location.removeprefix(registry.url)

        with _connect(registry) as sock:
            head = f"PATCH {location} HTTP/1.1\r\nHost: {registry.address}\r\nExpect: 100-continue\r\n"
            sock.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            sock.sendall(b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n")
            assert b"Range: 0-10\r\n" in sock.recv(4096)


def test_bytes_are_counted_whatever_becomes_of_them() -> None:
    with FakeRegistry(RULES) as registry, Client(registry.address) as client:
        location = client.open().location
        client.patch(location, DATA[:1000], 5)
        client.patch(location, DATA[:1000], 0)
        assert (registry.chunks, registry.body_bytes_received()) == ([1000], 2000)


def test_many_uploads_at_once() -> None:
    blobs = [random_bytes(3000, seed) for seed in range(40)]

    def push(data: bytes) -> int:
        with Client(registry.address) as client:
            location = client.open().location
            for at in (0, 1000, 2000):
                location = client.patch(location, data[at : at + 1000], at).location
            return client.close(location, digest_of(data)).status

    with FakeRegistry(RULES) as registry, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(push, blobs)) == {201}
        assert {blob.read() for blob in registry.blobs["team/app"].values()} == set(blobs)
        assert not registry.sessions


def test_restart_cuts_connections_and_keeps_what_is_stored() -> None:
    with FakeRegistry(RULES) as registry, Client(registry.address) as client:
        digest, address = client.push(DATA), registry.address
        location = client.patch(client.open().location, DATA[:1000], 0).location
        registry.restart()
        with pytest.raises(OSError):
            client.status(location)
        assert registry.address == address
        assert client.status(location).range == "0-999"
        assert client.head_blob(digest).status == 200
        registry.restart(lose_sessions=True)
        client.connection.close()
        assert client.status(location).status == 404
        assert client.head_blob(digest).status == 200


def test_stopped_registry_refuses_and_its_port_is_not_given_away() -> None:
    with FakeRegistry(RULES) as registry, Client(registry.address) as client:
        registry.stop()
        registry.stop()
        with pytest.raises(ConnectionRefusedError):
            client.open()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", int(registry.address.split(":")[1])))
        registry.start()
        assert client.open().status == 202


def test_stop_ends_a_stalled_request_with_a_reset() -> None:
    with FakeRegistry(RULES) as registry, Client(registry.address) as client:
        location = client.open().location
        registry.faults.add(Fault(On.CHUNK, Stall(after_bytes=100)))

        def stop_in_the_middle() -> None:
            registry.wait_for(lambda r: bool(r.body_bytes_received()))
            registry.stop()

        stopper = threading.Thread(target=stop_in_the_middle)
        stopper.start()
        with pytest.raises(OSError):
            client.patch(location, DATA[:1000], 0)
        stopper.join(60)
        assert not stopper.is_alive()


def test_wait_for_gives_up() -> None:
    with FakeRegistry(RULES) as registry, pytest.raises(AssertionError, match="waited in vain"):
        registry.wait_for(lambda r: bool(r.log), timeout=0.01)


def test_blobs_can_be_put_there_and_lost() -> None:
    with FakeRegistry(RULES) as registry, Client(registry.address) as client:
        digest = registry.add_blob("team/app", DATA)
        assert client.get_blob(digest).body == DATA
        registry.remove_blob("team/app", digest)
        assert client.head_blob(digest).status == 404


def test_memory_does_not_grow_with_the_blob(tmp_path: Path) -> None:
    size, block = 64 << 20, bytes(1 << 20)
    with FakeRegistry(DISTRIBUTION_2) as registry, Client(registry.address) as client:
        location = client.open().location.removeprefix(registry.url)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        client.connection.putrequest("PATCH", location)
        client.connection.putheader("Content-Length", str(size))
        client.connection.endheaders()
        for _ in range(size // len(block)):
            client.connection.send(block)
        assert client.connection.getresponse().getheader("Range") == f"0-{size - 1}"
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10  # KiB


def test_it_leaves_no_folder_and_no_thread() -> None:
    before = set(threading.enumerate())
    with FakeRegistry(RULES) as registry, Client(registry.address) as client:
        client.push(DATA)
        folder = next(iter(registry.blobs["team/app"].values())).path.parent
        assert folder.is_dir()
    assert not folder.exists()
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()


def _connect(registry: FakeRegistry) -> socket.socket:
    host, port = registry.address.split(":")
    return socket.create_connection((host, int(port)), timeout=60)
