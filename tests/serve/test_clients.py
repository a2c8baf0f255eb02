"""Many clients at once, and slow ones."""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from pusher.serve import bodies
from tests.serve.forward.front import Front
from tests.serve.served import Repository, Served, sha256
from tests.support.fakeregistry import SERVERLESS, FakeRegistry, On
from tests.support.waiting import PATIENCE, wait_until


def test_a_hundred_clients_push_at_once(served: Served) -> None:
    start = threading.Barrier(100)

    def push(number: int) -> bytes:
        with requests.Session() as http:
            http.trust_env = False
            layer = os.urandom(20_000)
            client = Served(served.folder)
            client.http, client.url = http, served.url
            repository = Repository(client, f"crowd/{number % 10}")
            start.wait(PATIENCE)
            assert repository.push(repository.image(layer), f"v{number}").status_code == 201
            return layer

    with ThreadPoolExecutor(100) as clients:
        layers = list(clients.map(push, range(100)))
    for number, layer in enumerate(layers):
        repository = Repository(served, f"crowd/{number % 10}")
        assert repository.ask("GET", f"blobs/{sha256(layer)}").content == layer
        assert repository.ask("GET", f"manifests/v{number}").status_code == 200
    assert not served.registry.catalog.uploads()


def open_chunk(repository: Repository, length: int, data: bytes = b"") -> tuple[socket.socket, str]:
    """A connection on which the head of a PATCH was sent, with ``data``, and the upload's location."""
    location = repository.open()
    connection = socket.create_connection(("127.0.0.1", repository.served.port), timeout=PATIENCE)
    head = f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode() + data)
    return connection, location


def test_a_slow_client_holds_up_nobody_and_arrives(repository: Repository) -> None:
    data = os.urandom(50)
    connection, location = open_chunk(repository, len(data))
    with connection:
        for at in range(len(data)):
            connection.sendall(data[at : at + 1])
            if at % 10 == 0:
                assert repository.ask("GET", "blobs/" + repository.push_blob(b"quick")).content == b"quick"
        assert connection.recv(1000).startswith(b"HTTP/1.1 202 ")
    assert repository.served.ask("PUT", f"{location}?digest={sha256(data)}").status_code == 201


def test_a_client_that_falls_silent_is_told_and_what_it_sent_is_kept(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "STALL", 0.2)
    connection, location = open_chunk(repository, 100, b"x" * 10)
    with connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
    wait_until(lambda: repository.served.ask("GET", location).headers["Range"] == "0-9")


def test_the_destination_is_asked_once_for_a_blob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pusher.serve.forward.upstream._MISSING_FOR", 600.0)
    with FakeRegistry(SERVERLESS.scaled(min=1000, max=20_000)) as registry, Front(tmp_path / "home") as front:
        digest = registry.add_blob("team/app", b"there")
        here = front.repository(registry.address, "team/app")
        for _ in range(3):
            assert here.ask("HEAD", f"blobs/{digest}").headers["Content-Length"] == "5"
            assert here.ask("HEAD", f"blobs/{sha256(b'nowhere')}").status_code == 404
        assert len(registry.requests(On.HEAD_BLOB)) == 2
