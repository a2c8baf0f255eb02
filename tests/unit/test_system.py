"""Systems other than Linux: what they lack stands in nobody's way before it is used."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from pusher.system import open_flags, try_lock, unacknowledged

_ELSEWHERE = """
import importlib, os, pkgutil, select, signal, sys, time, types
# what we stand on has ways of its own
import certifi, click, filelock, platformdirs, requests, rich.live, sqlalchemy, truststore, uvicorn.server
for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None
sys.modules["msvcrt"] = types.ModuleType("msvcrt")
flags = ("CLOEXEC", "DIRECTORY", "NOCTTY", "NOFOLLOW", "NONBLOCK")
for module, names in {
    os: ["getuid", "geteuid", "killpg", *("O_" + name for name in flags)],
    signal: ["SIGHUP", "SIGKILL", "SIGUSR1"],
    select: ["poll", "epoll"],
    time: ["CLOCK_BOOTTIME"],
}.items():
    for name in names:
        delattr(module, name)
sys.platform = "win32"
import pusher
for module in pkgutil.walk_packages(pusher.__path__, "pusher."):
    if not module.name.startswith("pusher._migrations") and module.name != "pusher.__main__":
        importlib.import_module(module.name)
"""


def test_every_module_can_be_imported_on_windows() -> None:
    done = subprocess.run([sys.executable, "-c", _ELSEWHERE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_lock_is_for_one_descriptor_and_free_when_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    first, second = (os.open(path, os.O_RDWR) for _ in range(2))
    assert try_lock(first)
    assert not try_lock(second)
    os.close(first)
    assert try_lock(second)
    os.close(second)


def test_flags_that_a_system_lacks_are_left_out() -> None:
    assert open_flags("O_RDWR", "O_OF_ANOTHER_SYSTEM") == os.O_RDWR


def test_of_what_is_no_open_socket_nothing_is_unacknowledged(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        assert unacknowledged(file.fileno()) == 0
    with socket.socket() as never_connected:
        assert unacknowledged(never_connected.fileno()) == 0
    assert unacknowledged(-1) == 0
