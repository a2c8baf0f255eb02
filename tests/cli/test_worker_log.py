"""The log of the worker in the background: bounded, with times, whoever writes to it."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.cli.worker_log import WorkerLog, older_log, print_worker_log
from tests.cli.conftest import Pusher


@pytest.fixture
def descriptors() -> Iterator[tuple[int, int]]:
    """Two descriptors that are no longer needed after the test."""
    opened = (os.open(os.devnull, os.O_WRONLY), os.open(os.devnull, os.O_WRONLY))
    yield opened
    for descriptor in opened:
        os.close(descriptor)


def test_each_line_gets_a_time_once(tmp_path: Path, descriptors: tuple[int, int]) -> None:
    log = WorkerLog(tmp_path / "log", descriptors, adds_times=True)
    for part in ("first", " line\nsec", "ond\n"):
        log.write(part)
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC  "
    assert re.fullmatch(f"{time}first line\n{time}second\n", (tmp_path / "log").read_text())


def test_it_does_not_grow(tmp_path: Path, descriptors: tuple[int, int]) -> None:
    path = tmp_path / "log"
    log = WorkerLog(path, descriptors, adds_times=False, most_bytes=1000)
    for number in range(1000):
        log.write(f"line {number}\n")
    assert path.stat().st_size <= 1000
    assert older_log(path).stat().st_size <= 1000
    kept = (older_log(path).read_text() + path.read_text()).splitlines()
    assert kept == [f"line {number}" for number in range(1000 - len(kept), 1000)]
    assert len(kept) > 100


def test_other_programs_write_to_it_also_after_a_rotation(
    tmp_path: Path, descriptors: tuple[int, int]
) -> None:
    path = tmp_path / "log"
    log = WorkerLog(path, descriptors, adds_times=False, most_bytes=95)
    log.write("x" * 90 + "\n")
    log.write("after\n")
    for descriptor in descriptors:
        subprocess.run(["echo", "a hook"], stdout=descriptor, check=True)
    assert path.read_text() == "after\na hook\na hook\n"


def test_a_full_disk_loses_lines_and_nothing_else(descriptors: tuple[int, int]) -> None:
    log = WorkerLog(Path("/dev/full"), descriptors, adds_times=False)
    assert log.write("lost\n") == 5


def test_a_rotation_that_fails_halfway_is_finished_later(
    tmp_path: Path, descriptors: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    log = WorkerLog(path, descriptors, adds_times=False, most_bytes=95)
    log.write("x" * 90 + "\n")
    with monkeypatch.context() as full:

        def fail(*_: object) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        full.setattr(os, "open", fail)
        log.write("lost\n")
    log.write("after\n")
    assert (older_log(path).read_text(), path.read_text()) == ("x" * 90 + "\n", "after\n")


def test_the_older_half_comes_first(pusher: Pusher, home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "worker.log.1").write_text("first\n")
    (home / "worker.log").write_text("second \x1b[31m\nunfinished")
    assert pusher("log", "--worker").out == "first\nsecond \\x1b[31m\n"
    assert pusher("log", "--worker", "--follow").out == "first\nsecond \\x1b[31m\n"


@pytest.mark.parametrize("arguments", [("3", "--worker"), ("--worker", "--json"), ()])
def test_what_excludes_each_other_is_refused(pusher: Pusher, home: Path, arguments: tuple[str, ...]) -> None:
    result = pusher("log", *arguments)
    assert result.code == 2
    assert "worker" in result.err


def test_following_goes_on_after_a_rotation(
    tmp_path: Path,
    descriptors: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = WorkerLog(tmp_path / "worker.log", descriptors, adds_times=False, most_bytes=30)
    log.write("before\n")
    steps = iter(["the last of the old one\n", "the first of the new one\n", ""])
    running = iter([True, True, True, False])

    def write_more(seconds: float) -> None:
        log.write(next(steps))

    monkeypatch.setattr("pusher.cli.worker_log.wait_for_reader", write_more)
    monkeypatch.setattr("pusher.cli.worker_log.find_background_worker", lambda home: next(running) or None)
    print_worker_log(tmp_path, follow=True)
    assert capsys.readouterr().out == "before\nthe last of the old one\nthe first of the new one\n"
