"""One request: time-outs of three kinds, answers of every kind, and nothing taken from the environment."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.config import Timeouts
from pusher.errors import ConnectionBroken, NotARegistry, RegistryStalled, RegistryUnreachable
from pusher.registry.http import early_requests
from pusher.registry.http.answer import Answer
from pusher.registry.http.body import BlobFile, Body
from pusher.registry.http.transport import ANSWER_LIMIT, Transport
from tests.registry.sites import Site, join_connecting, transport_of
from tests.support.fakeregistry import (
    DISTRIBUTION_3,
    FakeRegistry,
    Fault,
    On,
    ResetAfter,
    Stall,
    Trickle,
    too_large,
    unauthorized,
)
from tests.support.fakeregistry import Answer as Scripted
from tests.support.fakeregistry.wire import Reply
from tests.support.waiting import wait_until

MIB = 1024 * 1024
LONG = 60.0


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(DISTRIBUTION_3, receive_buffer=4096) as running:
        yield running


@pytest.fixture
def transport() -> Iterator[Transport]:
    with transport_of(Transport(Timeouts(LONG, LONG, LONG, LONG))) as open_one:
        yield open_one


def body_of(folder: Path, size: int) -> Body:
    path = folder / "body"
    with path.open("wb") as file:
        file.truncate(size)
    return Body(BlobFile("sha256:" + "0" * 64, size, path), 0, size)


def upload_url(registry: FakeRegistry, transport: Transport) -> str:
    return str(transport.send("POST", f"{registry.url}/v2/team/app/blobs/uploads/").headers["Location"])


# --- time-outs --------------------------------------------------------------------------------------------


def test_slow_server_that_moves_is_not_cut(tmp_path: Path) -> None:
    with (
        FakeRegistry(DISTRIBUTION_3, receive_buffer=256 * 1024) as registry,
        transport_of(Transport(Timeouts(connect=1.0, stall=1.0, answer=LONG))) as transport,
    ):
        registry.faults.add(Fault(On.CHUNK, Trickle(block=65536, seconds=0.016)))
        url, began = upload_url(registry, transport), time.monotonic()
        assert transport.send("PATCH", url, body=body_of(tmp_path, 8 * MIB)).status == 202
        assert time.monotonic() - began > 2 * 1.0


def test_server_that_never_reads_is_cut_after_the_stall_time_out(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    with transport_of(Transport(Timeouts(connect=LONG, stall=0.3, answer=LONG))) as transport:
        registry.faults.add(Fault(On.CHUNK, Stall(after_bytes=0)))
        url, began = upload_url(registry, transport), time.monotonic()
        body = body_of(tmp_path, 16 * MIB)
        with pytest.raises(RegistryStalled) as error:
            transport.send("PATCH", url, body=body)
        assert 0.3 <= time.monotonic() - began < LONG / 2
        assert registry.address in error.value.message
        assert 0 < body.sent < 16 * MIB


def test_answer_that_does_not_come(registry: FakeRegistry) -> None:
    with transport_of(Transport(Timeouts(connect=LONG, stall=LONG, answer=0.2))) as transport:
        registry.faults.add(Fault(On.PING, Stall()))
        began = time.monotonic()
        with pytest.raises(RegistryStalled):
            transport.send("GET", f"{registry.url}/v2/")
        assert 0.2 <= time.monotonic() - began < LONG / 2


def test_the_quickest_response_is_remembered(registry: FakeRegistry) -> None:
    with transport_of(Transport(Timeouts())) as transport:
        assert transport.response_seconds(registry.address) is None
        registry.faults.add(Fault(On.PING, Stall(seconds=0.3)))
        transport.send("GET", f"{registry.url}/v2/")
        slow = transport.response_seconds(registry.address)
        assert slow is not None
        assert slow >= 0.3
        transport.send("POST", f"{registry.url}/v2/app/blobs/uploads/", body=b"x")
        assert transport.response_seconds(registry.address) == slow, "bodies take their own time"
        transport.send("GET", f"{registry.url}/v2/")
        quick = transport.response_seconds(registry.address)
        assert quick is not None
        assert quick < slow
        assert transport.response_seconds("other.example") is None
        packet = transport.round_trip(registry.address)
        assert packet is not None
        assert quick is not None
        assert packet < quick, "the kernel answers packets by itself"
        assert transport.round_trip("other.example") is None
        assert transport.response_seconds("other.example", wait=0.01) == 0.01, "it takes longer"


def test_the_first_response_can_be_waited_for(registry: FakeRegistry) -> None:
    with transport_of(Transport(Timeouts())) as transport:
        registry.faults.add(Fault(On.PING, Stall(seconds=0.2)))
        asking = threading.Thread(target=transport.send, args=("GET", f"{registry.url}/v2/"))
        asking.start()
        seconds = transport.response_seconds(registry.address, wait=LONG)
        asking.join()
    assert seconds is not None
    assert seconds >= 0.2


def test_a_request_that_fails_is_not_a_slow_response(registry: FakeRegistry) -> None:
    registry.stop()
    with transport_of(Transport(Timeouts())) as transport:
        with pytest.raises(RegistryUnreachable):
            transport.send("GET", f"{registry.url}/v2/")
        assert transport.response_seconds(registry.address, wait=LONG) is None
        registry.start()
        transport.send("GET", f"{registry.url}/v2/")
        assert transport.response_seconds(registry.address, wait=LONG) is not None


def test_one_request_may_wait_longer_for_its_answer(registry: FakeRegistry) -> None:
    with transport_of(Transport(Timeouts(connect=LONG, stall=LONG, answer=0.1))) as transport:
        registry.faults.add(Fault(On.PING, Stall(seconds=0.4)))
        assert transport.send("GET", f"{registry.url}/v2/", answer_timeout=LONG).ok


def test_connection_that_does_not_come_about() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(full.getsockname())
        with transport_of(Transport(Timeouts(1.0, LONG, LONG))) as transport:
            began = time.monotonic()
            with pytest.raises(RegistryUnreachable) as error:
                transport.send("GET", f"http://127.0.0.1:{full.getsockname()[1]}/v2/?secret=s3cr3t")
            assert time.monotonic() - began < LONG / 2
            assert "timed out" in error.value.message


# --- no connection ----------------------------------------------------------------------------------------


def test_refused(transport: Transport) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(RegistryUnreachable) as error:
            transport.send("GET", f"http://{address}/v2/")
    assert error.value.message == f"{address} refuses the connection"


def test_unresolvable_name(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(RegistryUnreachable) as error:
        transport.send("GET", "https://registry.invalid/v2/")
    assert error.value.message == "the name of registry.invalid cannot be resolved"


@pytest.mark.parametrize("at", [0, 1, 3 * MIB])
def test_reset(registry: FakeRegistry, transport: Transport, at: int, tmp_path: Path) -> None:
    registry.faults.add(Fault(On.CHUNK, ResetAfter(at)))
    with pytest.raises(ConnectionBroken) as error:
        transport.send("PATCH", upload_url(registry, transport), body=body_of(tmp_path, 5 * MIB))
    assert type(error.value) is ConnectionBroken


@pytest.mark.parametrize(
    "url", ["http://", "http://[::1/v2/", "http://127.0.0.1:99999/", "http://" + "a" * 300 + "/"]
)
def test_address_that_is_none(transport: Transport, url: str) -> None:
    with pytest.raises((NotARegistry, RegistryUnreachable)) as error:
        transport.send("GET", url + "?sig=s3cr3t")
    assert "s3cr3t" not in error.value.message


# --- answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "status"), [(too_large(), 413), (unauthorized(early=True), 401)])
def test_early_answer_is_seen(
    registry: FakeRegistry, transport: Transport, action: Scripted, status: int, tmp_path: Path
) -> None:
    registry.faults.add(Fault(On.CHUNK, action))
    url = upload_url(registry, transport)
    assert transport.send("PATCH", url, body=body_of(tmp_path, 5 * MIB)).status == status
    assert transport.send("GET", url).status == 204


def test_redirect_is_not_followed_and_compression_not_asked_for(transport: Transport) -> None:
    with Site(lambda _: Reply(307, {"Location": "/elsewhere", "X-A": "1"}, b"moved")) as site:
        answer = transport.send("GET", site.url + "/v2/", headers={"X-B": "2"})
        assert (answer.status, answer.body, answer.headers["x-a"], answer.ok) == (307, b"moved", "1", False)
        [seen] = site.seen
        assert seen.headers["accept-encoding"] == "identity"
        assert seen.headers["user-agent"].startswith("pusher/")
        assert seen.headers["x-b"] == "2"


def test_endless_answer_is_cut(transport: Transport) -> None:
    with Site(lambda _: Reply(200, {}, bytes(ANSWER_LIMIT + 5 * MIB))) as site:
        assert len(transport.send("GET", site.url).body) == ANSWER_LIMIT
        assert len(transport.send("GET", site.url).body) == ANSWER_LIMIT


def test_body_has_a_length_and_is_not_chunked(transport: Transport, tmp_path: Path) -> None:
    with Site(lambda _: Reply(201)) as site:
        transport.send("PUT", site.url, body=body_of(tmp_path, 1000))
        transport.send("PUT", site.url, body=b"manifest")
        transport.send("PUT", site.url)
        transport.send("POST", site.url)
        assert [seen.headers.get("content-length") for seen in site.seen] == ["1000", "8", "0", "0"]
        assert not any("transfer-encoding" in seen.headers for seen in site.seen)


def test_memory_does_not_grow_with_the_body(transport: Transport, tmp_path: Path) -> None:
    with FakeRegistry(DISTRIBUTION_3) as registry:
        url, body = upload_url(registry, transport), body_of(tmp_path, 48 * MIB)
        tracemalloc.start()
        try:
            assert transport.send("PATCH", url, body=body).ok
            assert tracemalloc.get_traced_memory()[1] < 3 * MIB
        finally:
            tracemalloc.stop()


# --- connections ------------------------------------------------------------------------------------------


def test_connection_is_kept_and_a_closed_one_replaced(registry: FakeRegistry, transport: Transport) -> None:
    for _ in range(2):
        transport.send("GET", f"{registry.url}/v2/")
    registry.restart()
    transport.send("GET", f"{registry.url}/v2/")
    assert [record.connection for record in registry.requests()] == [1, 1, 2]


def test_a_connection_that_was_opened_ahead_is_used(registry: FakeRegistry, transport: Transport) -> None:
    transport.connect_ahead(f"{registry.url}/v2/")
    join_connecting()
    for _ in range(2):
        transport.send("GET", f"{registry.url}/v2/")
    assert [record.connection for record in registry.requests()] == [1, 1]


def test_a_connection_opened_ahead_that_was_closed_is_replaced(
    registry: FakeRegistry, transport: Transport
) -> None:
    transport.connect_ahead(f"{registry.url}/v2/")
    join_connecting()
    registry.restart()
    assert transport.send("GET", f"{registry.url}/v2/").ok


def test_what_refuses_a_connection_ahead_is_reported_by_the_request(transport: Transport) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/v2/"
        transport.connect_ahead(url)
        join_connecting()
        with pytest.raises(RegistryUnreachable):
            transport.send("GET", url)


def test_a_request_that_was_sent_early_is_not_sent_again(
    registry: FakeRegistry, transport: Transport
) -> None:
    url, headers = f"{registry.url}/v2/", {"X-Team": "a"}
    transport.send_early(url, headers)
    wait_until(lambda: len(registry.log) == 1)
    assert transport.send("GET", url, headers=headers).ok
    assert transport.response_seconds(registry.address) is not None
    assert len(registry.log) == 1
    assert transport.send("GET", url, headers=headers).ok, "it serves one"
    assert len(registry.log) == 2


def test_another_request_than_the_early_one_is_sent(registry: FakeRegistry, transport: Transport) -> None:
    url = f"{registry.url}/v2/"
    for early, ours in (({}, {"Authorization": "Basic x"}), ({"X-Team": "a"}, {})):
        transport.send_early(url, early)
        transport.send("GET", url, headers=ours)
    transport.send_early(url, {})
    transport.send("HEAD", url)
    wait_until(lambda: len(registry.log) == 6)


def test_an_early_request_that_failed_fails_for_who_needs_it(transport: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}/v2/"
    transport.send_early(url, {})
    with pytest.raises(RegistryUnreachable):
        transport.send("GET", url)


def test_an_old_response_to_an_early_request_is_not_used(
    registry: FakeRegistry, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early_requests, "_MAX_AGE", -1.0)
    transport.send_early(f"{registry.url}/v2/", {})
    assert transport.send("GET", f"{registry.url}/v2/").ok
    assert len(registry.log) == 2


class Kept:
    """Keeps the body of an answer."""

    def __init__(self) -> None:
        self.data = b""

    def begin(self, answer: Answer) -> bool:
        return answer.ok

    def write(self, data: memoryview) -> None:
        self.data += data


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_connection_is_kept_after_a_received_body(transport: Transport, framing: str) -> None:
    content, ports = bytes(range(256)) * 5000, list[int]()
    head = {
        "length": b"Content-Length: %d\r\n\r\n" % len(content),
        "chunked": b"Transfer-Encoding: chunked\r\n\r\n",
        "close": b"Connection: close\r\n\r\n",
    }[framing]
    parts = [content[:1], content[1:300_000], content[300_000:]]
    if framing == "chunked":
        parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b"")]

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().startswith(b"GET"):
                while self.rfile.readline() != b"\r\n":
                    pass
                ports.append(self.client_address[1])
                self.wfile.write(b"HTTP/1.1 200 OK\r\n" + head)
                for part in parts:
                    self.wfile.write(part)
                if framing == "close":
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            for _ in range(2):
                kept = Kept()
                transport.send("GET", f"http://127.0.0.1:{server.server_address[1]}/", receiver=kept)
                assert kept.data == content
        finally:
            server.shutdown()
            thread.join()
    assert len(set(ports)) == (2 if framing == "close" else 1)


def test_nothing_is_sent_after_connection_close(registry: FakeRegistry, transport: Transport) -> None:
    for _ in range(3):
        transport.send("GET", f"{registry.url}/v2/", headers={"Connection": "close"})
    transport.send("GET", f"{registry.url}/v2/")
    transport.send("GET", f"{registry.url}/v2/")
    assert [record.connection for record in registry.requests()] == [1, 2, 3, 4, 4]


# --- what is not wanted -----------------------------------------------------------------------------------


def test_no_cookie_comes_back(transport: Transport) -> None:
    with Site(lambda _: Reply(200, {"Set-Cookie": "session=s3cr3t; Path=/"})) as site:
        for _ in range(2):
            transport.send("GET", site.url)
        assert not any("cookie" in seen.headers for seen in site.seen)


def test_netrc_is_ignored(transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ann password s3cr3t\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with Site(lambda _: Reply(200)) as site:
        transport.send("GET", site.url)
        transport.send("GET", site.url.replace("//", "//ann:s3cr3t@"))
        transport.send("GET", site.url, headers={"Authorization": "Basic ours"})
        assert [seen.headers.get("authorization") for seen in site.seen] == [None, None, "Basic ours"]
