"""Who may use the registry, and who may not."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trustme

from pusher.serve import access, peer, server
from pusher.serve.access import Login
from tests.serve.served import Repository, Served, codes
from tests.support.certificates import write_ca, write_pair
from tests.support.waiting import PATIENCE

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who connects")
ALICE = Login("alice", "secret phräse")


def authorization(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode()


def test_a_foreign_host_is_refused(served: Served) -> None:
    for host in ("registry.example.com", "127.0.0.1.example.com", "", "localhost.example.com:80"):
        answer = served.ask("GET", "/v2/", headers={"Host": host})
        assert (answer.status_code, codes(answer)) == (403, ["DENIED"])
    for host in ("localhost", f"localhost:{served.port}", "127.0.0.2:1", "[::1]:5055", "app.localhost"):
        assert served.ask("GET", "/v2/", headers={"Host": host}).status_code == 200


def test_a_page_of_another_site_is_refused(served: Served) -> None:
    for origin in ("https://example.com", "null", "http://localhost:1", "http://[", "", "localhost"):
        answer = served.ask("POST", "/v2/a/blobs/uploads/", headers={"Origin": origin})
        assert (answer.status_code, codes(answer)) == (403, ["DENIED"])
    assert served.ask("GET", "/v2/", headers={"Origin": served.url}).status_code == 200


def ask_as(user: int, port: int, *more: str) -> str:
    """What another user of the machine is answered; the status in the first line."""
    program = (
        "import os, socket, sys\n"
        "os.setuid(int(sys.argv[1]))\n"
        "with socket.socket() as c:\n"
        "    c.connect(('127.0.0.1', int(sys.argv[2])))\n"
        "    c.sendall(b'GET /v2/ HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n'"
        " + sys.argv[3].encode() + b'\\r\\n')\n"
        "    while part := c.recv(1000):\n"
        "        print(part.decode(), end='')\n"
    )
    command = [sys.executable, "-c", program, str(user), str(port), "".join(f"{line}\r\n" for line in more)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout


@on_linux
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root becomes another user")
def test_another_user_of_the_machine_is_refused_without_a_login(served: Served, tmp_path: Path) -> None:
    shown = ask_as(12345, served.port)
    assert shown.startswith("HTTP/1.1 403 ")
    assert "DENIED" in shown
    with Served(tmp_path / "registry", ALICE) as other:
        assert ask_as(12345, other.port).startswith("HTTP/1.1 401 ")
        assert ask_as(12345, other.port, f"Authorization: {authorization(ALICE)}").startswith("HTTP/1.1 200 ")
        assert other.ask("GET", "/v2/").status_code == 200  # the owner needs none


@on_linux
def test_the_kernel_says_whose_connection_it_is() -> None:
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.create_server((host, 0), family=family) as listener:
            client = socket.create_connection(listener.getsockname()[:2])
            accepted, _ = listener.accept()
            with accepted:
                ends = accepted.getpeername()[:2], accepted.getsockname()[:2]
                with client:
                    assert peer.user_at(*ends) == peer._read_table(*ends) == os.geteuid()
                    assert peer._ask_kernel(*ends) == os.geteuid()
                    assert peer.user_at(("127.0.0.1", 1), ends[1]) is None
                # closed: the kernel would say root
                assert peer.user_at(*ends) is None
                assert peer._read_table(*ends) is None


@on_linux
def test_a_socket_for_both_protocols_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_INET6) as client,
    ):
        client.connect(("::ffff:127.0.0.1", listener.getsockname()[1]))
        accepted, _ = listener.accept()
        with accepted:
            ends = accepted.getpeername(), accepted.getsockname()
            assert peer._ask_kernel(*ends) == peer._read_table(*ends) == os.geteuid()


@on_linux
def test_where_the_kernel_cannot_be_asked_its_table_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> int:
        raise OSError

    monkeypatch.setattr(peer, "_ask_kernel", refuse)
    with Served(tmp_path / "registry") as other:
        assert other.ask("GET", "/v2/").status_code == 200
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
        other.http.close()
        expected = 200 if os.getuid() == 0 else 403
        assert other.ask("GET", "/v2/").status_code == expected


# --- logins -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def beyond(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """As it is served to others."""
    with Served(tmp_path_factory.mktemp("beyond") / "registry", ALICE, is_local=False) as served:
        yield served


def test_a_login_is_asked_for(beyond: Served) -> None:
    answer = beyond.ask("GET", "/v2/")
    assert (answer.status_code, codes(answer)) == (401, ["UNAUTHORIZED"])
    assert answer.headers["WWW-Authenticate"].startswith('Basic realm="')
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert beyond.ask("GET", "/healthz").json() == {"status": "ok"}


def test_the_right_login(beyond: Served) -> None:
    beyond.http.headers["Authorization"] = authorization(ALICE)
    try:
        repository = Repository(beyond, "a")
        assert repository.push(repository.image(b"x"), "1").status_code == 201
    finally:
        del beyond.http.headers["Authorization"]


@pytest.mark.parametrize(
    "header", ["Basic YWxpY2U6d3Jvbmc=", "Basic !", "Basic", "Bearer YWxpY2U6d3Jvbmc=", "Basic YWxpY2U="]
)
def test_a_wrong_login(beyond: Served, monkeypatch: pytest.MonkeyPatch, header: str) -> None:
    monkeypatch.setattr(access, "_WRONG_PASSWORD", 0.01)
    answer = beyond.ask("GET", "/v2/", headers={"Authorization": header})
    assert (answer.status_code, codes(answer)) == (401, ["UNAUTHORIZED"])


def test_a_refusal_does_not_wait_for_the_body(beyond: Served) -> None:
    with socket.create_connection(("127.0.0.1", beyond.port)) as connection:
        connection.sendall(
            b"PUT /v2/a/manifests/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 401 ")


def test_the_password_is_not_shown() -> None:
    assert ALICE.password not in repr(ALICE)


def test_over_tls(tmp_path: Path) -> None:
    authority, files = trustme.CA(), (tmp_path / "cert.pem", tmp_path / "key.pem")
    write_pair(authority.issue_cert("127.0.0.1"), *files)
    with Served(tmp_path / "registry", ALICE, is_local=False, tls=server.Certificate(*files)) as served:
        served.http.verify = str(write_ca(authority, tmp_path / "ca.pem"))
        assert served.ask("GET", "/v2/", headers={"Authorization": authorization(ALICE)}).status_code == 200


# --- bounds -------------------------------------------------------------------------------------------------


def answer_to(served: Served, *parts: bytes) -> bytes:
    with closing(socket.create_connection(("127.0.0.1", served.port))) as connection:
        connection.settimeout(PATIENCE)
        try:
            for part in parts:
                connection.sendall(part)
            return connection.recv(1000)
        except ConnectionError:
            return b""


@pytest.mark.parametrize(
    "lines",
    [
        b"GET /" + 70_000 * b"x" + b" HTTP/1.1\r\n",
        b"GET /v2/ HTTP/1.1\r\n" + 40 * (b"X-Large: " + 2000 * b"x" + b"\r\n"),
        b"GET /v2/ HTTP/1.1\r\n" + 300 * b"X-Many: x\r\n",
        b"neither HTTP nor anything\r\n",
    ],
    ids=["path", "headers", "number", "garbage"],
)
def test_headers_have_bounds(served: Served, lines: bytes) -> None:
    answer = answer_to(served, lines, b"Host: localhost\r\n\r\n")
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert served.ask("GET", "/v2/").status_code == 200


@pytest.mark.parametrize("sent", [b"", b"GET /v2/ HTTP/1.1\r\nHost: loc"], ids=["nothing", "half-a-header"])
def test_who_does_not_ask_is_not_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(server, "_HEADERS", 0.1)
    assert answer_to(served, sent) == b""
