"""Systems other than Linux: macOS lacks some names and /proc, Windows is refused."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pusher import system
from pusher.system import elapsed, open_flags, tcp_round_trip, try_lock, unacknowledged
from tests.support.fakeregistry import SERVERLESS, FakeRegistry
from tests.support.home import pushed
from tests.support.images import make_image, write_archive
from tests.support.waiting import PATIENCE

_ROOT = Path(__file__).parents[2]

_MACOS = """
import importlib, os, pkgutil, select, socket, sys, time
# what we stand on has ways of its own
import certifi, click, filelock, platformdirs, requests, rich.live, sqlalchemy, truststore, uvicorn.server
LACKING = {
    os: ["memfd_create", "posix_fadvise", "posix_fallocate", "sched_getaffinity", "splice", "O_PATH"],
    select: ["epoll"],
    socket: ["AF_NETLINK", "TCP_USER_TIMEOUT"],
    time: ["CLOCK_BOOTTIME"],
}
for module, names in LACKING.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
sys.platform = "darwin"


def no_proc(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith(("/proc/", "/sys/")):
        raise FileNotFoundError(2, "No such file or directory", arguments[0])


sys.addaudithook(no_proc)
"""
_IMPORT_ALL = """
import pusher
for module in pkgutil.walk_packages(pusher.__path__, "pusher."):
    if not module.name.startswith("pusher._migrations") and module.name != "pusher.__main__":
        importlib.import_module(module.name)
"""
_COMMAND = """
from pusher.cli import main
main(sys.argv[1:])
"""


def _on_macos(script: str, *arguments: str, env: dict[str, str] | None = None) -> str:
    """Run Python as if on macOS; return what it wrote to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", _MACOS + script, *arguments],
        env={**os.environ, "PYTHONPATH": str(_ROOT), **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_every_module_can_be_imported_on_macos() -> None:
    assert _on_macos(_IMPORT_ALL) == ""


def test_a_push_on_macos(tmp_path: Path) -> None:
    image = make_image(90_000, 300)
    archive = write_archive(tmp_path / "app.tar", image)
    home = tmp_path / "home"
    with FakeRegistry(SERVERLESS) as registry:
        said = _on_macos(
            _COMMAND,
            *("push", str(archive), "--to", f"{registry.address}/app:1"),
            env={"PUSHER_HOME": str(home)},
        )
        assert "Traceback" not in said
        pushed(registry, "app", "1", image)
    _on_macos(_COMMAND, "status", env={"PUSHER_HOME": str(home)})


def test_the_start_of_the_kernel_is_known_on_macos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sysctl = tmp_path / "sysctl"
    sysctl.write_text("#!/bin/sh\n[ \"$*\" = '-n kern.bootsessionuuid' ] && echo 1B2C3D4E-0000\n")
    sysctl.chmod(0o700)
    monkeypatch.setattr(system, "_BOOT_ID", tmp_path / "proc")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert system.boot_id.__wrapped__() == "1B2C3D4E-0000"
    sysctl.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert system.boot_id.__wrapped__() is None


def test_windows_is_refused_with_a_sentence() -> None:
    """Before anything is imported that cannot be there."""
    script = (
        "import os, sys; os.name = 'nt'; sys.modules['fcntl'] = None; import pusher.__main__ as p; p.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: pusher does not run on Windows")
    assert "\n  hint: " in done.stderr


def test_time_passes() -> None:
    before = elapsed()
    assert 0 < before <= elapsed()


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


def test_the_round_trip_of_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as connected:
            found = tcp_round_trip(connected)
        assert sys.platform != "linux" or (found is not None and 0 < found < PATIENCE)
    with socket.socket() as never_connected, socket.socket(socket.AF_UNIX) as unix:
        assert tcp_round_trip(never_connected) is None
        assert tcp_round_trip(unix) is None


_COUNT_HEAPS = """
import ctypes, threading
from pusher.system import tune_malloc
libc = ctypes.CDLL(None)
tune_malloc()
together = threading.Barrier(6)
kept = []
def allocate():
    together.wait()
    kept.append([bytes(4000) for _ in range(50)])
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="only glibc gives each thread a heap")
@pytest.mark.parametrize(("users", "most"), [({}, 2), ({"MALLOC_ARENA_MAX": "1"}, 1)])
def test_threads_share_the_heaps_of_malloc(users: dict[str, str], most: int) -> None:
    inherited = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    command = [sys.executable, "-c", _COUNT_HEAPS]
    counted = subprocess.run(
        command, env={**inherited, **users}, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert 1 <= counted.stdout.count("<heap nr=") <= most


_COUNT_FAULTS = """
import resource, threading
from pusher.system import tune_malloc
tune_malloc()
def allocate():
    for _ in range(50):
        blocks = [bytes(1 << 20) for _ in range(6)]
        del blocks
threads = [threading.Thread(target=allocate) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="only glibc's malloc is tuned")
def test_freed_blocks_are_kept_for_the_next_ones() -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", _COUNT_FAULTS]
    counted = subprocess.run(
        command, env=inherited, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    pages = 600 * (1 << 20) // os.sysconf("SC_PAGE_SIZE")
    assert int(counted.stdout) < pages / 4
