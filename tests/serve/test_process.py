"""``pusher serve`` as a process: how it begins and ends, what survives, and a disk that is full."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pusher.serve.uploads import BLOCK
from tests.serve.process import Process, serving
from tests.serve.served import codes, sha256
from tests.serve.test_uploads import BLOB
from tests.support.processes import unmount_below
from tests.support.real import require
from tests.support.waiting import PATIENCE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "registry"


def test_uploads_and_images_survive_the_end_and_kill_9(folder: Path) -> None:
    config = b"{}"
    raw = b'{"schemaVersion":2,"config":{"mediaType":"a","digest":"%s","size":2}}' % sha256(config).encode()
    half = 2 * BLOCK + 10
    with serving("--local", str(folder)) as served:
        assert served.ask("POST", f"/v2/a/blobs/uploads/?digest={sha256(config)}", data=config).ok
        assert served.ask("PUT", "/v2/a/manifests/1", data=raw).status_code == 201
        location = served.ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
        assert served.ask("PATCH", location, data=BLOB[:BLOCK]).status_code == 202
        served.end(signal.SIGKILL)
    with serving("--local", str(folder)) as served:
        assert served.ask("GET", location).headers["Range"] == f"0-{BLOCK - 1}"
        ranged = {"Content-Range": f"{BLOCK}-{half - 1}"}
        assert served.ask("PATCH", location, data=BLOB[BLOCK:half], headers=ranged).status_code == 202
        served.end()
    with serving("--local", str(folder)) as served:
        answer = served.ask("PUT", f"{location}?digest={sha256(BLOB)}", data=BLOB[half:])
        assert answer.status_code == 201
        assert served.ask("GET", f"/v2/a/blobs/{sha256(BLOB)}").content == BLOB
        assert served.ask("GET", "/v2/a/manifests/1").content == raw


def test_asked_to_end_it_finishes_what_is_in_flight(folder: Path) -> None:
    with serving("--local", str(folder)) as served:
        location = served.ask("POST", "/v2/a/blobs/uploads/").headers["Location"]

        def slowly() -> Iterator[bytes]:
            yield BLOB[:BLOCK]
            served.process.send_signal(signal.SIGTERM)
            served.read_until(re.compile("received SIGTERM"))
            yield BLOB[BLOCK:]

        answer = served.ask("PATCH", location, data=slowly())
        assert (answer.status_code, answer.headers["Range"]) == (202, f"0-{len(BLOB) - 1}")
        assert served.process.wait(PATIENCE) == 128 + signal.SIGTERM


def test_asked_twice_it_ends_at_once(folder: Path) -> None:
    with serving("--local", str(folder)) as served:
        location = served.ask("POST", "/v2/a/blobs/uploads/").headers["Location"]

        def never() -> Iterator[bytes]:
            yield BLOB[:BLOCK]
            served.process.send_signal(signal.SIGINT)
            served.read_until(re.compile("again to stop now"))
            assert served.end(signal.SIGINT) == 128 + signal.SIGINT
            yield b"more"

        with pytest.raises(requests.ConnectionError):
            served.ask("PATCH", location, data=never())


def test_a_login_that_is_piped_in(folder: Path) -> None:
    options = ("--listen", "0.0.0.0:0", "--username", "alice", "--password-stdin", "--plain-http")
    with serving("--local", str(folder), *options, stdin="secret\n") as served:
        url = served.url.replace("0.0.0.0", "127.0.0.1")
        assert served.http.get(f"{url}/v2/", timeout=20).status_code == 401
        assert served.http.get(f"{url}/v2/", auth=("alice", "secret"), timeout=20).status_code == 200
        command = Path(f"/proc/{served.process.pid}/cmdline")
        assert not command.exists() or b"secret" not in command.read_bytes()


def test_a_full_disk_is_507_and_loses_nothing(tmp_path: Path) -> None:
    require("mount", root=True)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700,size=8M", "tmpfs", str(disk)], check=True)
    try:
        with serving("--local", str(disk / "registry")) as served:
            location = served.ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
            assert served.ask("PATCH", location, data=BLOB).status_code == 202
            other = served.ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
            answer = served.ask("PATCH", other, data=3 * BLOB)
            assert (answer.status_code, codes(answer)) == (507, ["UNKNOWN"])
            assert "no space left on the disk" in answer.json()["errors"][0]["message"]
            assert served.ask("DELETE", other).status_code == 204
            assert served.ask("PUT", f"{location}?digest={sha256(BLOB)}").status_code == 201
            assert served.ask("GET", f"/v2/a/blobs/{sha256(BLOB)}").content == BLOB
    finally:
        unmount_below(disk)


def test_a_client_that_wants_the_connection_closed_is_told_of_a_full_disk(tmp_path: Path) -> None:
    """skopeo is one. It goes on sending, and would see a reset; whoever runs serve reads what to do."""
    require("mount", root=True)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700,size=1M", "tmpfs", str(disk)], check=True)
    try:
        with serving("--local", str(disk / "registry")) as served:
            for _ in range(2):
                location = served.ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
                assert _send_whole(served, location, 16 << 20).startswith(b"HTTP/1.1 507 ")
            found = served.read_until(re.compile("no space left on the disk of .*")).group()
            assert f"pushes to {disk / 'registry'} are refused with 507. Free some space, or" in found
            served.end()
            assert served.process.stderr is not None
            assert "no space left" not in served.process.stderr.read()  # once is enough
    finally:
        unmount_below(disk)


def _send_whole(served: Process, location: str, size: int) -> bytes:
    """Send a chunk, and look for the answer after that alone; how it begins."""
    host, _, port = served.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        head = f"PATCH {location} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {size}\r\n"
        connection.sendall(f"{head}\r\n".encode())
        for _ in range(size // BLOCK):
            connection.sendall(bytes(BLOCK))
        return connection.recv(100)


def test_memory_does_not_grow_with_the_blob(folder: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux tells what a process has")

    def memory(served: Process) -> int:
        status = Path(f"/proc/{served.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])  # type: ignore[index]

    with serving("--local", str(folder)) as served:
        served.ask("POST", f"/v2/a/blobs/uploads/?digest={sha256(BLOB)}", data=BLOB)
        before = memory(served)
        location = served.ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
        block = os.urandom(BLOCK)
        assert served.ask("PATCH", location, data=(block for _ in range(60))).status_code == 202
        digest = sha256(60 * block)
        assert served.ask("PUT", f"{location}?digest={digest}").status_code == 201
        with served.ask("GET", f"/v2/a/blobs/{digest}", stream=True) as answer:
            time.sleep(0.2)  # whatever would be read ahead is read
            assert sum(map(len, answer.iter_content(BLOCK))) == 60 * BLOCK
        assert memory(served) - before < 20_000
