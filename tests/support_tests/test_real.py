"""What happens where a real part is missing, and the processes around the real parts."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.processes import RUNNING, Daemon, free_port, listens, unmount_below
from tests.support.real import log_sections, require

SERVE = "import socket, time; s = socket.create_server(('127.0.0.1', {})); print('up'); time.sleep(60)"


def test_missing_part_skips_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUSHER_TEST_REQUIRE_REAL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="not installed: no-such-command"):
        require("no-such-command", "sh")


def test_missing_part_fails_where_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHER_TEST_REQUIRE_REAL", "1")
    with pytest.raises(pytest.fail.Exception, match="not installed: no-such-command"):
        require("no-such-command")


def test_part_that_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUSHER_TEST_REQUIRE_REAL", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    require("sh")
    with pytest.raises(pytest.skip.Exception, match="sh must be started by root"):
        require("sh", root=True)


@pytest.mark.parametrize("kill", [True, False])
def test_daemon_lives_from_start_to_stop(tmp_path: Path, kill: bool) -> None:
    daemon, port = Daemon("server", tmp_path / "log"), free_port()
    daemon.start([sys.executable, "-u", "-c", SERVE.format(port)], lambda: listens(port))
    assert daemon in RUNNING
    assert ("log of server", "up") in log_sections()
    daemon.stop(kill=kill)
    daemon.stop()
    assert not listens(port)
    assert daemon not in RUNNING


@pytest.mark.parametrize(
    ("after", "timeout"), [("raise SystemExit(3)", 100), ("import time; time.sleep(60)", 0)]
)
def test_daemon_that_does_not_start_shows_its_log(tmp_path: Path, after: str, timeout: float) -> None:
    daemon, script = Daemon("server", tmp_path / "log"), f"print('no room', flush=True); {after}"

    def is_ready() -> bool:
        while "no room" not in daemon.tail():
            time.sleep(0.01)
        return False

    with pytest.raises(AssertionError, match="server did not start:\nno room"):
        daemon.start([sys.executable, "-c", script], is_ready, timeout=timeout)
    assert daemon not in RUNNING


def test_daemon_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    require("setpriv")
    port = free_port()
    starter = (
        "import os, pathlib, sys; from tests.support.processes import Daemon, listens\n"
        f"Daemon('server', pathlib.Path({str(tmp_path / 'log')!r})).start("
        f"[sys.executable, '-u', '-c', {SERVE.format(port)!r}], lambda: listens({port}))\n"
        "os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", starter], cwd=root, check=False).returncode == -9
    deadline = time.monotonic() + 60
    while listens(port):
        assert time.monotonic() < deadline, "the daemon outlived its parent"


def test_unmount_leaves_other_folders_alone(tmp_path: Path) -> None:
    before = Path("/proc/self/mounts").read_text()
    unmount_below(tmp_path)
    assert Path("/proc/self/mounts").read_text() == before
