"""``pusher demo``, small and quick; and the parts that it is made of."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from pusher.errors import DemoFailed
from pusher.serve.access import Access
from pusher.serve.app import make_app
from pusher.serve.demo import story
from pusher.serve.demo.image import write_image
from pusher.serve.demo.link import BadLink
from pusher.serve.demo.serverless import ServerlessApi
from pusher.serve.local import LocalRegistry
from pusher.serve.metrics import Metrics
from tests.cli.conftest import Pusher, home, pusher  # noqa: F401 - pytest finds fixtures by name
from tests.serve.served import Repository, Served, codes, listening, sha256
from tests.serve.test_uploads import half_a_request
from tests.support.waiting import PATIENCE

SMALL = story.Scale(
    layers=(1_200_000, 900_000),
    rate=1_000_000,
    break_every=600_000,
    outage=0.2,
    min_chunk=50_000,
    max_chunk=100_000,
)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_whole_story(
    pusher: Pusher,  # noqa: F811
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(story, "Scale", lambda: SMALL)
    result = pusher("demo")
    assert result.code == 0, result.err
    steps = ["made an image", "started a registry", "pusher push", "kill -9", "pusher run", "network is down"]
    steps += ["network is back", "pushed", "all digests match", "times as much", "Next", "pusher push"]
    ends = result.out.partition("Next")
    assert "pusher demo --keep" in ends[2]
    at = [result.out.index(step) for step in steps[:-1]] + [result.out.rindex(steps[-1])]
    assert at == sorted(at)
    ratio = re.search(r"([\d.]+) times as much, with (\d+) broken connections", result.out)
    assert ratio is not None
    assert 1 <= float(ratio[1]) < 2.5
    assert int(ratio[2]) > 0
    assert not list(temporary.glob("pusher-demo-*"))


def test_a_pusher_that_fails_is_told(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DemoFailed, match="ended too early, with code 1"):
        list(story.tell(lambda text: None, SMALL))
    assert not list(temporary.glob("pusher-demo-*"))


def test_the_image_is_one_that_docker_would_load(tmp_path: Path) -> None:
    write_image(tmp_path / "app.tar", "app:1", [100_000, 5_000])
    done = subprocess.run(
        [sys.executable, "-m", "pusher", "doctor", str(tmp_path / "app.tar"), "--to", "127.0.0.1:1/app:1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search(r"PASSED\s+image", done.stdout), done.stdout


# --- the link -----------------------------------------------------------------------------------------------


class Sink:
    """A server that counts what it is sent."""

    def __init__(self) -> None:
        self.received = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                try:
                    while data := connection.recv(65536):
                        self.received += len(data)
                    connection.sendall(b"thanks")
                except ConnectionError:
                    continue


def send(port: int, size: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(bytes(size))
        with contextlib.suppress(OSError):  # the other end has reset it already
            connection.shutdown(socket.SHUT_WR)
        return connection.recv(100)


def test_the_link_has_a_speed() -> None:
    sink = Sink()
    with BadLink(sink.port, rate=1_000_000, break_every=10**9) as link:
        began = time.monotonic()
        assert send(link.port, 300_000) == b"thanks"
        assert time.monotonic() - began >= 0.25
        assert (link.bytes_sent, sink.received, link.breaks) == (300_000, 300_000, 0)


def test_the_link_breaks() -> None:
    sink = Sink()
    with BadLink(sink.port, rate=10**9, break_every=200_000) as link:
        assert send(link.port, 150_000) == b"thanks"
        with contextlib.suppress(ConnectionError):
            assert send(link.port, 10_000_000) == b""
        assert link.breaks == 1
        assert sink.received < 250_000


def test_the_link_goes_away_and_comes_back() -> None:
    sink = Sink()
    with BadLink(sink.port, rate=10**9, break_every=10**9) as link:
        link.go_away()
        with contextlib.suppress(ConnectionError):
            assert send(link.port, 1000) == b""
        link.come_back()
        assert send(link.port, 1000) == b"thanks"


# --- the limits ---------------------------------------------------------------------------------------------


def test_chunks_have_limits_and_are_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    class Limited(Served):
        def start(self) -> None:
            self.registry = LocalRegistry(self.folder)
            api = ServerlessApi(self.registry, min_chunk=10, max_chunk=2000)
            self._context = listening(make_app(api, Access(is_local=True), Metrics()))
            self.port = self._context.__enter__()
            self.url = f"http://127.0.0.1:{self.port}"

    with Limited(tmp_path / "registry") as served:
        repository = Repository(served, "app")
        answer = repository.ask("POST", "blobs/uploads/")
        assert answer.headers["OCI-Chunk-Min-Length"] == "10"
        assert answer.headers["OCI-Chunk-Max-Length"] == "2000"
        location = answer.headers["Location"]
        answer = served.ask("PATCH", location, data=bytes(2001))
        assert (answer.status_code, codes(answer)) == (413, ["SIZE_INVALID"])
        answer = served.ask("PATCH", location, data=iter([bytes(1500), bytes(1500)]))
        assert (answer.status_code, codes(answer)) == (413, ["SIZE_INVALID"]), "of a stream, too"
        location = served.ask("PATCH", location, data=iter([bytes(1000)])).headers["Location"]
        with half_a_request(served, location, bytes(500), 1000, start=1000):
            pass
        ranged = {"Content-Range": "1000-1999"}
        while (answer := served.ask("PATCH", location, data=bytes(1000), headers=ranged)).status_code == 416:
            time.sleep(0.02)  # the end of the one before is not seen yet
        assert answer.status_code == 202
        digest = sha256(bytes(2000))
        assert served.ask("PUT", f"{answer.headers['Location']}&digest={digest}").status_code == 201
