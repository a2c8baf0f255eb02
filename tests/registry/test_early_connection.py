"""Connections that are begun before a request needs them, on real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Final

import pytest

from pusher.registry.http import happy_eyeballs
from pusher.registry.http.early_connection import connect_early
from pusher.registry.http.happy_eyeballs import dial, discard_early
from tests.support.waiting import PATIENCE

HOST: Final = "127.0.0.1"


@pytest.fixture(autouse=True)
def _nothing_begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with monkeypatch.context() as patches:
        patches.setattr(happy_eyeballs, "_early", {})
        yield
        discard_early()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0)) as listener:
        listener.settimeout(PATIENCE)
        yield listener


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def early(registry: str) -> None:
    connect_early(registry, PATIENCE, plain_http=False)


def test_the_first_two_connections_are_the_early_ones(listener: socket.socket) -> None:
    port = port_of(listener)
    early(f"{HOST}:{port}")
    begun = [listener.accept() for _ in range(2)]
    with dial(HOST, port, PATIENCE) as one, dial(HOST, port, PATIENCE) as other:
        assert {one.getsockname(), other.getsockname()} == {peer for _, peer in begun}
    with dial(HOST, port, PATIENCE) as third, listener.accept()[0] as connection:
        assert third.getsockname() == connection.getpeername()
    for connection, _ in begun:
        connection.close()


def test_one_that_the_server_has_closed_is_not_used(listener: socket.socket) -> None:
    port = port_of(listener)
    early(f"{HOST}:{port}")
    for _ in range(2):
        listener.accept()[0].close()
    with dial(HOST, port, PATIENCE) as sock, listener.accept()[0] as connection:
        sock.sendall(b"x")
        assert connection.recv(1) == b"x"


def test_one_that_is_old_is_not_used(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(happy_eyeballs, "_MAX_IDLE", 0.0)
    port = port_of(listener)
    early(f"{HOST}:{port}")
    begun = [listener.accept() for _ in range(2)]
    with dial(HOST, port, PATIENCE) as sock, listener.accept()[0]:
        assert sock.getsockname() not in {peer for _, peer in begun}
    for connection, _ in begun:
        connection.close()


def test_one_that_is_not_used_is_closed(listener: socket.socket) -> None:
    early(f"{HOST}:{port_of(listener)}")
    begun = [listener.accept()[0] for _ in range(2)]
    discard_early()
    for connection in begun:
        with connection:
            connection.settimeout(PATIENCE)
            assert connection.recv(1) == b""


def test_its_error_is_that_of_the_request() -> None:
    with socket.create_server((HOST, 0)) as gone:
        port = port_of(gone)
    early(f"{HOST}:{port}")
    with pytest.raises(ConnectionRefusedError):
        dial(HOST, port, PATIENCE)


def test_none_where_a_proxy_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pusher.registry.http.early_connection.dial_early", _fail)
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")
    early("registry.example.com")


def test_where_an_early_connection_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[tuple[str, int]] = []
    monkeypatch.setattr(
        "pusher.registry.http.early_connection.dial_early", lambda host, port, *_: places.append((host, port))
    )
    for registry in ("docker.io", "registry.example.com", "r.example.com:8443", "localhost", "[::1]:5000"):
        early(registry)
    connect_early("r.example.com", PATIENCE, plain_http=True)
    assert places == [
        ("registry-1.docker.io", 443),
        ("registry.example.com", 443),
        ("r.example.com", 8443),
        ("localhost", 80),
        ("::1", 5000),
        ("r.example.com", 80),
    ]


def _fail(*_: object) -> None:
    raise AssertionError("a connection was begun")
