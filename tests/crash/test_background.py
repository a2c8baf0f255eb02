"""``run --detach`` and ``stop``: a worker in the background, one a home, that outlives its terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.worker.background import BackgroundLock, find_background_worker
from tests.crash.conftest import ROOT, Pusher, ended
from tests.support.fakeregistry import DISTRIBUTION_2, FakeRegistry, Fault, On, Stall
from tests.support.home import CHUNK, Home, blob_bytes, pushed
from tests.support.images import Image
from tests.support.waiting import PATIENCE, wait_until

SMALL_CHUNKS = ("--chunk-size", str(CHUNK), "--parallel", "1")


@pytest.fixture
def place(home: Home) -> Iterator[Path]:
    """The home; no worker in its background outlives the test."""
    folder = home.settings.home
    yield folder
    if (worker := find_background_worker(folder)) is not None:
        os.kill(worker.pid, signal.SIGKILL)
        wait_until(lambda: find_background_worker(folder) is None)


def run(pusher: Pusher, *arguments: str) -> subprocess.CompletedProcess[str]:
    return ended(pusher.start(*arguments))


def detached(pusher: Pusher, *options: str) -> int:
    """Start a worker in the background; return its process ID."""
    started = run(pusher, "run", "--detach", *options)
    assert started.returncode == 0, started.stderr
    return int(started.stdout)


def log(place: Path) -> str:
    return (place / "worker.log").read_text()


def test_it_pushes_what_is_queued_and_ends(
    home: Home, place: Path, pusher: Pusher, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    home.enqueue(archive, f"{registry.address}/app:1")
    started = run(pusher, "run", "--detach", *SMALL_CHUNKS)
    assert started.returncode == 0
    assert f"(pid {started.stdout.strip()})" in started.stderr
    assert str(place / "worker.log") in started.stderr
    wait_until(lambda: find_background_worker(place) is None)
    pushed(registry, "app", "1", image)
    assert "Jobs: 1 pushed." in log(place)
    assert f"{registry.address}/app:1@sha256:" in log(place)
    assert log(place).endswith("Ended with exit code 0.\n")
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w+  ", line) for line in log(place).splitlines())


def test_without_jobs_nothing_goes_to_the_background(place: Path, pusher: Pusher) -> None:
    done = run(pusher, "run", "--detach")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no jobs are queued" in done.stderr
    assert not (place / "worker.log").exists()


def test_there_is_one_a_home(place: Path, pusher: Pusher) -> None:
    pid = detached(pusher, "--forever")
    second = run(pusher, "run", "--detach", "--forever")
    assert (second.returncode, second.stdout) == (2, "")
    assert f"a worker already runs in the background (pid {pid})" in second.stderr
    assert str(place / "worker.log") in second.stderr
    assert "pusher stop" in second.stderr


def test_status_and_log_show_it(place: Path, pusher: Pusher) -> None:
    assert json.loads(run(pusher, "status", "--json").stdout) == {"jobs": []}
    assert "run --detach" in run(pusher, "log", "--worker").stderr
    pid = detached(pusher, "--forever")
    assert f"A worker runs in the background (pid {pid})" in run(pusher, "status").stderr
    for command in (("status",), ("status", "--all"), ("status", "--state", "queued")):
        worker = json.loads(run(pusher, *command, "--json").stdout)["worker"]
        assert (worker["pid"], worker["log"]) == (pid, str(place / "worker.log"))
    following = pusher.start("log", "--worker", "--follow")
    assert f"pid {pid}" in run(pusher, "log", "--worker").stdout
    assert run(pusher, "stop").returncode == 0
    assert "SIGTERM" in ended(following).stdout, "it ends with the worker"
    assert "worker" not in run(pusher, "status").stderr


def test_stop_waits_for_the_chunk(
    home: Home,
    place: Path,
    pusher: Pusher,
    registry: FakeRegistry,
    image: Image,
    archive: Path,
    stall: Stall,
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1")
    detached(pusher, "--forever", *SMALL_CHUNKS)
    registry.wait_for_fault(On.CHUNK)
    stopping = pusher.start("stop")
    wait_until(lambda: "received SIGTERM" in log(place))
    with pytest.raises(subprocess.TimeoutExpired):
        stopping.wait(0.3)
    stall.release()
    done = ended(stopping)
    assert done.returncode == 0
    assert "Left in the queue: job 1. Continue with: pusher run" in done.stderr
    assert home.state(job.id) == "queued"
    assert registry.chunks == [CHUNK, CHUNK]
    assert home.run().exit_code == 0
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "app"), "nothing is sent twice"


def test_stop_now_does_not_wait(
    home: Home, place: Path, pusher: Pusher, registry: FakeRegistry, archive: Path, stall: Stall
) -> None:
    home.enqueue(archive, f"{registry.address}/app:1")
    detached(pusher, "--forever", *SMALL_CHUNKS)
    registry.wait_for_fault(On.CHUNK)
    done = run(pusher, "stop", "--now")
    assert done.returncode == 0
    assert "has stopped" in done.stderr
    stall.release()
    assert home.run().exit_code == 0


def test_stop_now_ends_a_frozen_worker(place: Path, pusher: Pusher) -> None:
    pid = detached(pusher, "--forever")
    os.kill(pid, signal.SIGSTOP)
    stopping = pusher.start("stop")
    assert stopping.stderr is not None
    assert f"The worker is frozen, as by SIGSTOP, and stops once it continues: kill -CONT {pid}; " in (
        stopping.stderr.readline()
    )
    assert run(pusher, "stop", "--now").returncode == 0
    assert find_background_worker(place) is None
    assert ended(stopping).returncode == 0


def test_stop_without_a_worker(place: Path, pusher: Pusher) -> None:
    done = run(pusher, "stop")
    assert (done.returncode, done.stderr) == (0, "No worker runs in the background.\n")


def test_a_stranger_with_its_process_id_is_not_hit(place: Path, pusher: Pusher) -> None:
    pid = detached(pusher, "--forever")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: find_background_worker(place) is None)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        record = json.loads((place / "worker.json").read_text())
        (place / "worker.json").write_text(json.dumps({**record, "pid": stranger.pid}))
        assert run(pusher, "stop", "--now").stderr == "No worker runs in the background.\n"
        assert detached(pusher, "--forever") != pid, "the lock of a killed worker is free"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_worker_on_another_machine_is_not_hit(place: Path, pusher: Pusher) -> None:
    lock = BackgroundLock(place)
    lock.acquire()
    try:
        record = json.loads((place / "worker.json").read_text())
        with (place / "worker.json").open("r+") as file:
            file.write(json.dumps({**record, "host": "other", "machine": "another boot"}))
            file.truncate()
        done = run(pusher, "stop")
        assert done.returncode == 2
        assert "runs on other" in done.stderr
    finally:
        lock.release()


def test_it_outlives_its_terminal(
    home: Home, place: Path, pusher: Pusher, registry: FakeRegistry, image: Image, archive: Path, stall: Stall
) -> None:
    home.enqueue(archive, f"{registry.address}/app:1")
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(PUSHER_HOME=str(place), PYTHONPATH=str(ROOT))
        command = [sys.executable, "-m", "pusher", "run", "--detach", *SMALL_CHUNKS]
        os.execv("/bin/sh", ["/bin/sh", "-c", '"$@"; exec cat', "sh", *command])
    registry.wait_for_fault(On.CHUNK)
    worker = find_background_worker(place)
    assert worker is not None
    assert os.getsid(worker.pid) == worker.pid
    os.close(terminal)
    os.waitpid(child, 0)
    stall.release()
    wait_until(lambda: find_background_worker(place) is None)
    pushed(registry, "app", "1", image)
    assert "terminal" not in log(place)


def test_it_fails_at_once_where_it_cannot_start(
    home: Home,
    place: Path,
    pusher: Pusher,
    registry: FakeRegistry,
    archive: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home.enqueue(archive, f"{registry.address}/app:1")
    done = run(pusher, "run", "--detach", "--username", "alice")
    assert (done.returncode, done.stdout) == (4, "")
    assert "no password" in done.stderr
    done = run(pusher, "run", "--detach", "--metrics", registry.address)
    assert done.returncode == 2
    assert "listen" in done.stderr
    done = run(pusher, "run", "--detach", "--json")
    assert done.returncode == 2
    (place / "worker.log").symlink_to("/etc/passwd")
    done = run(pusher, "run", "--detach")
    assert done.returncode == 8
    assert "symbolic link" in done.stderr
    assert find_background_worker(place) is None


def test_the_password_is_in_no_list_of_processes(
    home: Home, place: Path, pusher: Pusher, image: Image, archive: Path
) -> None:
    stall = Stall(after_bytes=CHUNK // 2)
    with FakeRegistry(
        DISTRIBUTION_2.scaled(min=1_000, max=CHUNK), credentials=("alice", "s3cret-word")
    ) as registry:
        registry.faults.add(Fault(On.CHUNK, stall, nth=2))
        home.enqueue(archive, f"{registry.address}/app:1")
        command = [
            "run",
            "--detach",
            "--username",
            "alice",
            "--password-stdin",
            "--plain-http",
            *SMALL_CHUNKS,
        ]
        started = subprocess.run(
            [sys.executable, "-m", "pusher", *command],
            env={**os.environ, "PUSHER_HOME": str(place), "PYTHONPATH": str(ROOT)},
            input="s3cret-word\n",
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        registry.wait_for_fault(On.CHUNK)
        process = Path("/proc") / started.stdout.strip()
        for name in ("cmdline", "environ"):
            assert b"s3cret-word" not in (process / name).read_bytes()
        stall.release()
        wait_until(lambda: find_background_worker(place) is None)
        pushed(registry, "app", "1", image)
        assert "s3cret-word" not in log(place)
