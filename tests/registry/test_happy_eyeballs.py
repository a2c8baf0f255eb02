"""Connections by whichever address works, look-ups and answers with an end, on real sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from pusher.config import Timeouts
from pusher.errors import (
    ClientCertificateRefused,
    ConnectionBroken,
    LocationRefused,
    NotARegistry,
    RegistryRefused,
    RegistryStalled,
    RegistryUnreachable,
)
from pusher.registry.http import happy_eyeballs
from pusher.registry.http.addresses import is_private
from pusher.registry.http.answer import Answer
from pusher.registry.http.body import BlobFile, Body
from pusher.registry.http.happy_eyeballs import AddressForbidden, dial
from pusher.registry.http.peer_certificate import Flaw
from pusher.registry.http.tls import Trust, inspect_server
from pusher.registry.http.transport import Transport
from tests.registry.sites import PATIENT, Site, transport_of
from tests.support.fakeregistry.wire import Reply

NAME = "registry.test"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(happy_eyeballs, "_families", {})


@contextlib.contextmanager
def black_hole(address: str = "127.0.0.2", port: int = 0) -> Iterator[int]:
    """A port that answers no SYN: its queue is full. Linux drops what comes then."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind((address, port))
        listener.listen(0)
        found = listener.getsockname()[1]
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex((address, found))
        yield found


@contextlib.contextmanager
def speaking(*answers: bytes, address: str = "127.0.0.1", port: int = 0, end: bool = True) -> Iterator[int]:
    """A server that says one of ``answers`` to each request, on as many connections as come."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
        left, held = list(answers), []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    held.append(connection)
                    with contextlib.suppress(OSError):
                        while left and connection.recv(65536):
                            connection.sendall(left.pop(0))
                            if end:
                                connection.close()
                                break

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            while server.is_alive():  # it may just have accepted one more
                for connection in held:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                server.join(0.05)
            for connection in held:
                connection.close()


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    real = socket.getaddrinfo

    def fake(host: str, port: int, *arguments: int) -> object:
        if host != NAME:
            return real(host, port, *arguments)
        return [info for address in addresses for info in real(address, port, *arguments)]

    monkeypatch.setattr(socket, "getaddrinfo", fake)


def test_an_address_that_swallows_packets_costs_a_quarter_of_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.1")
    with speaking(OK) as port, black_hole(port=port):
        began = time.monotonic()
        with dial(NAME, port, 60) as sock:
            assert sock.getpeername()[0] == "127.0.0.1"
        assert happy_eyeballs.STAGGER <= time.monotonic() - began < 30


def test_the_family_that_worked_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "::1", "127.0.0.1")
    with speaking(OK) as port:
        dial(NAME, port, 5).close()
        assert happy_eyeballs._families[NAME] == socket.AF_INET
        infos = happy_eyeballs.look_up(NAME, port, 5)
        assert [info[0] for info in infos] == [socket.AF_INET6, socket.AF_INET]
        first = happy_eyeballs._interleave(infos, socket.AF_INET)[0]
        assert first[0] == socket.AF_INET


def test_all_addresses_swallow(monkeypatch: pytest.MonkeyPatch) -> None:
    with black_hole() as port:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            dial("127.0.0.2", port, 0.5)
        assert time.monotonic() - began < 30


def test_a_resolver_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments: gone.wait(60))
    with transport_of(Transport(Timeouts(0.3, 30, 30))) as transport:
        with pytest.raises(RegistryUnreachable) as caught:
            transport.send("GET", f"http://{NAME}/v2/")
        assert caught.value.message == f"the name of {NAME} was not resolved within 0.3 s"
    gone.set()


# --- private addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "private"),
    [
        *(("64:ff9b::10.0.0.1", True), ("64:ff9b::8.8.8.8", False), ("64:ff9b:1::1", True)),
        *(("2002:a00:1::1", True), ("2002:808:808::1", False), ("2001:0:a00:1::", True)),
        *(
            ("::127.0.0.1", True),
            ("::ffff:169.254.169.254", True),
            ("fec0::1", True),
            ("2606:4700::1", False),
        ),
        *(
            ("0x7f000001", True),
            ("8.8.8.8", False),
            ("name.example", False),
            ("", False),
            ("\u00fc.example", False),
        ),
    ],
)
def test_which_are_private(address: str, private: bool) -> None:
    assert is_private(address) is private


def test_names_of_private_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1")
    with speaking(OK, OK, end=False) as port, transport_of(Transport(PATIENT)) as transport:
        url = f"http://{NAME}:{port}/x"
        with pytest.raises(AddressForbidden):
            dial(NAME, port, 5, only_public=True)
        with pytest.raises(LocationRefused) as caught:
            transport.send("GET", url, sent_by="https://r.example/v2/")
        assert NAME in caught.value.message
        assert transport.send("GET", url).ok  # by its own name it may
        with pytest.raises(LocationRefused):  # over the kept connection neither
            transport.send("GET", url, sent_by="https://r.example/v2/")
        with pytest.raises(LocationRefused):
            transport.send("GET", f"http://127.0.0.1:{port}/x", sent_by="https://r.example/v2/")


def test_a_private_registry_may_name_private_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1")
    with (
        speaking(OK) as registry,
        speaking(OK) as storage,
        transport_of(Transport(PATIENT)) as transport,
    ):
        base = f"http://{NAME}:{registry}/v2/"
        assert transport.send("GET", base, sent_by=base).ok
        assert transport.send("GET", f"http://127.0.0.1:{storage}/", sent_by=base).ok


# --- answers that do not come -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", NotARegistry, "it is an SSH server"),
        (b"J\x00\x00\x00\x0a8.0.33\x00mysql_native_password\x00", NotARegistry, "does not speak HTTP"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 200, NotARegistry, "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", ConnectionBroken, "after 2 of 9 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nok", RegistryRefused, "Content-Encoding"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\nok", RegistryRefused, "Content-Encoding"),
    ],
)
def test_what_is_no_http_is_named(said: bytes, error: type[Exception], words: str) -> None:
    with speaking(said) as port, transport_of(Transport(PATIENT)) as transport:
        with pytest.raises(error) as caught:
            transport.send("GET", f"http://127.0.0.1:{port}/v2/")
        assert type(caught.value) is error
        assert words in str(caught.value)


def test_interim_answers_are_skipped() -> None:
    said = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK
    with speaking(said) as port, transport_of(Transport(PATIENT)) as transport:
        assert transport.send("GET", f"http://127.0.0.1:{port}/v2/").body == b"ok"


def test_an_http_1_0_answer() -> None:
    said = b"HTTP/1.0 200 OK\r\n\r\nok"
    with speaking(said, said) as port, transport_of(Transport(PATIENT)) as transport:
        for _ in range(2):
            assert transport.send("GET", f"http://127.0.0.1:{port}/v2/").body == b"ok"


def test_an_encoded_answer_is_decoded_within_its_limit() -> None:
    coder = zlib.compressobj(wbits=31)
    bomb = coder.compress(b"x" * 10_000_000) + coder.flush()
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    with speaking(head + bomb) as port, transport_of(Transport(PATIENT)) as transport:
        assert len(transport.send("GET", f"http://127.0.0.1:{port}/", limit=100_000).body) == 100_000


def test_a_client_certificate_that_nginx_wants() -> None:
    page = b"<html><head><title>400 No required SSL certificate was sent</title></head></html>"
    said = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(page) + page
    with (
        speaking(said) as port,
        transport_of(Transport(PATIENT)) as transport,
        pytest.raises(ClientCertificateRefused, match="requires a client certificate"),
    ):
        transport.send("GET", f"http://127.0.0.1:{port}/v2/")


@contextlib.contextmanager
def dripping(first: bytes, drop: bytes) -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(first + drop)
                    while True:
                        time.sleep(0.02)
                        connection.sendall(drop)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b"x"),
    ],
)
def test_a_drip_of_bytes_has_an_end(first: bytes, drop: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pusher.registry.http.connections._GRACE", 0.1)
    with dripping(first, drop) as port, transport_of(Transport(Timeouts(30, 0.1, 0.3))) as transport:
        with pytest.raises(RegistryStalled) as caught:
            transport.send("GET", f"http://127.0.0.1:{port}/v2/")
        assert caught.value.message == f"127.0.0.1:{port} started an answer that does not end"


class Taker:
    """A receiver that takes ``pause`` seconds for each block."""

    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause
        self.came = 0

    def begin(self, answer: Answer) -> bool:
        return answer.ok

    def write(self, data: memoryview) -> None:
        self.came += len(data)
        time.sleep(self.pause)


@pytest.mark.parametrize("length", [b"Content-Length: 99999", b"Connection: close"])
def test_a_drip_of_a_blob_has_an_end(length: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\n"
    with dripping(head, b"x") as port, transport_of(Transport(Timeouts(30, 0.2, 30))) as transport:
        taker = Taker()
        with pytest.raises(RegistryStalled):
            transport.send("GET", f"http://127.0.0.1:{port}/v2/", receiver=taker)
        assert taker.came > 0


def test_a_blob_that_comes_slowly_or_is_written_slowly_is_no_drip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pusher.registry.http.connections._WHOLE_ANSWER", 1)
    block, stall = b"x" * 4096, 1.5
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (100 * len(block))
    with dripping(whole, block) as port, transport_of(Transport(Timeouts(30, stall, 30))) as transport:
        began = time.monotonic()
        transport.send("GET", f"http://127.0.0.1:{port}/v2/", receiver=(taker := Taker()))
        assert taker.came == 100 * len(block)
        assert time.monotonic() - began > stall
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    with speaking(answer) as port, transport_of(Transport(Timeouts(30, 0.5, 30))) as transport:
        transport.send("GET", f"http://127.0.0.1:{port}/v2/", receiver=(taker := Taker(1.0)))
        assert taker.came == 3


@contextlib.contextmanager
def hanging_up(after: int = 1) -> Iterator[tuple[int, list[bytes]]]:
    """A server that closes each connection at the request after ``after`` answered ones; and what it got."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        got: list[bytes] = []

        def request(connection: socket.socket) -> bytes:
            with connection.makefile("rb") as file:
                head = b""
                while (line := file.readline()) not in (b"", b"\r\n"):
                    head += line
                if (length := head.partition(b"Content-Length: ")[2]) and head:
                    file.read(int(length.split()[0]))
            if head:
                got.append(head)
            return head

        def serve(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection:
                for _ in range(after):
                    request(connection)
                    connection.sendall(OK)
                request(connection)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], got
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST", "PUT"])
def test_a_kept_connection_that_dies_at_the_next_request(method: str) -> None:
    """The request goes again at once; after the second such death nothing is kept."""
    body = b"{}" if method == "PUT" else None
    with hanging_up() as (port, got), transport_of(Transport(PATIENT)) as transport:
        for _ in range(6):
            assert transport.send(method, f"http://127.0.0.1:{port}/v2/", body=body).status == 200
    assert [b"Connection: close" in head for head in got] == [False] * 4 + [True] * 4


def test_a_blob_on_a_connection_that_dies_is_not_sent_again_by_itself(tmp_path: Path) -> None:
    """The registry may hold part of it: whoever sends it asks first. Then no connection is kept."""
    (tmp_path / "blob").write_bytes(b"x" * 10)
    blob = BlobFile("sha256:" + "a" * 64, 10, tmp_path / "blob")
    with hanging_up() as (port, got), transport_of(Transport(PATIENT)) as transport:
        url, died = f"http://127.0.0.1:{port}/v2/", 0
        for _ in range(8):
            try:
                transport.send("PATCH", url, body=Body(blob, 0, 10))
            except ConnectionBroken:
                died += 1
    assert died == 2
    assert len(got) == 8


def test_a_connection_that_dies_anew_is_broken() -> None:
    with (
        hanging_up(after=0) as (port, got),
        transport_of(Transport(PATIENT)) as transport,
        pytest.raises(ConnectionBroken),
    ):
        transport.send("GET", f"http://127.0.0.1:{port}/v2/")
    assert len(got) == 1


def test_a_header_that_cannot_be_sent_is_refused() -> None:
    with transport_of(Transport(PATIENT)) as transport:
        for value in ("a\nb", "\ud800", "€"):
            with pytest.raises(RegistryRefused, match="the header Content-Type cannot be sent"):
                transport.send("PUT", "http://127.0.0.1:1/", headers={"Content-Type": value})


def test_the_look_at_a_certificate_goes_by_whichever_address_works(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.1")
    authority = trustme.CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(served)
    with Site(lambda _: Reply(200), served) as site, black_hole(port=site.port):
        began = time.monotonic()
        peer = inspect_server(NAME, site.port, Trust(), Timeouts(60, 30, 30, 30))
        assert peer.flaw is Flaw.UNKNOWN_ISSUER
        assert time.monotonic() - began < 30
