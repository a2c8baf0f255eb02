"""The updates: what the stream looks like, who reads the store, how many browsers there may be."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pusher.serve.page.live import EVERY, MOST
from tests.serve.page.served import ServedPage
from tests.support.fakeregistry import SERVERLESS, FakeRegistry
from tests.support.home import CHUNK, Background
from tests.support.images import make_image, write_archive
from tests.support.link import ShakyLink
from tests.support.waiting import PATIENCE, wait_until


class Stream:
    """A browser's connection for updates. ``read``: the next event, its kind and its text."""

    def __init__(self, page: ServedPage, path: str = "/") -> None:
        self.socket = socket.create_connection(("127.0.0.1", page.port), timeout=PATIENCE)
        host = f"127.0.0.1:{page.port}"
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n".encode()
        )
        self._file = self.socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(": ")
            self.headers[name.lower()] = value

    def read(self) -> tuple[str, str]:
        kind, lines = "", []
        while (line := self._line()) or not kind:
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                lines.append(value)
        return kind, "\n".join(lines)

    def _line(self) -> str:
        """A line of the body, whose chunks end where events do."""
        line = self._file.readline()
        assert line, "the stream ended"
        return "" if re.fullmatch(rb"[0-9a-f]+\r\n", line) else line.decode().rstrip("\r\n")

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[ServedPage]:
    with ServedPage(tmp_path / "home") as page:
        yield page


@contextmanager
def streams(page: ServedPage, *paths: str) -> Iterator[list[Stream]]:
    with ExitStack() as stack:
        opened = []
        for path in paths:
            stream = Stream(page, path)
            stack.callback(stream.close)
            opened.append(stream)
        yield opened


def test_the_whole_view_comes_first_and_then_what_changes(page: ServedPage) -> None:
    page.add()
    page.add()
    with streams(page, "/") as (stream,):
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert stream.headers["cache-control"] == "no-store"
        kind, text = stream.read()
        assert kind == "whole"
        assert text.count('class="job"') == 2
        page.press(1, "pause")
        kind, text = stream.read()
        assert kind == "parts"
        assert re.findall(r'id="(states|job-\d+|pages)"', text) == ["states", "job-1"]
        page.add(image="third:1")
        kind, text = stream.read()
        assert (kind, text.count('class="job"')) == ("whole", 3)


def test_browsers_that_show_the_same_share_one_reader(page: ServedPage) -> None:
    page.add()
    with streams(page, *["/"] * 20) as opened:
        for stream in opened:
            assert stream.read()[0] == "whole"
        before, began = page.site.live.readings, time.monotonic()
        page.press(1, "pause")
        for stream in opened:
            assert stream.read()[0] == "parts"
        rounds = 2 + (time.monotonic() - began) / EVERY
        assert page.site.live.readings - before < 10 * rounds  # one each would be 20 a round


def test_nothing_is_read_while_nobody_looks(page: ServedPage) -> None:
    page.add()
    with streams(page, "/", "/jobs/1") as opened:
        for stream in opened:
            stream.read()
    wait_until(lambda: page.site.live._task is None)
    assert page.site.live._feeds == {}


def test_there_is_a_limit_for_browsers_and_pushes_go_on(page: ServedPage) -> None:
    page.add()
    with streams(page, *["/"] * MOST) as opened:
        opened[-1].read()
        with streams(page, "/") as (refused,):
            assert (refused.status, refused.headers["retry-after"]) == (503, "30")
        assert page.ask("GET", "/").status_code == 200
    wait_until(lambda: not page.site.live.is_full)
    with streams(page, "/") as (stream,):
        assert stream.read()[0] == "whole"


def test_a_problem_is_told_and_is_over_once_the_store_is_back(
    page: ServedPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pusher.errors import StoreLocked

    def fail(*_: object) -> None:
        raise StoreLocked("the job store is locked", hint="wait")

    page.add()
    with streams(page, "/") as (stream,):
        stream.read()
        with monkeypatch.context() as patch:
            patch.setattr(type(page.home.store.jobs), "counts", fail)
            assert stream.read() == ("problem", "the job store is locked\nwait")
        assert stream.read()[0] == "whole"


def test_a_job_that_is_pruned_ends_as_a_problem(page: ServedPage) -> None:
    job = page.add()
    with streams(page, f"/jobs/{job.id}") as (stream,):
        stream.read()
        page.home.store.jobs.cancel(job.id)
        assert stream.read()[0] == "parts"
        page.home.store.retention.prune(page.home.store.now(), blobs=set())
        assert stream.read()[0] == "problem"


def test_progress_of_another_worker_comes_from_the_store(page: ServedPage, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "app.tar", make_image(400_000, compressible=0.0))
    with (
        FakeRegistry(SERVERLESS.scaled(min=1000, max=CHUNK)) as registry,
        ShakyLink(registry.address, rate=20_000) as link,
        streams(page, "/") as (stream,),
    ):
        page.home.enqueue(archive, f"{link.address}/app:1")
        worker = Background(page.home)
        values: set[str] = set()
        text, has_speed = "", False
        while 'data-state="succeeded"' not in text:
            _, text = stream.read()
            values.update(re.findall(r'job 1"[^>]* value="(\d+)"', text))
            has_speed = has_speed or bool(re.search(r"<li>[\d.]+ (KiB|B)/s</li>", text))
            if len(values) > 2 and has_speed:
                link.rate = None
        worker.join()
    assert len(values) > 2
    assert has_speed


def test_the_server_ends_while_browsers_look(tmp_path: Path) -> None:
    with ServedPage(tmp_path / "home") as page:
        page.add()
        stream = Stream(page)
        stream.read()
        began = time.monotonic()
    assert time.monotonic() - began < 25  # not the 30 s that requests in flight have
    stream.close()
