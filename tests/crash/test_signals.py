"""SIGTERM and Ctrl-C: the first finishes the chunk in flight, the second leaves at once."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.conftest import ROOT, Pusher, ended, read_until
from tests.support.fakeregistry import DISTRIBUTION_2, FakeRegistry, Fault, On, Stall
from tests.support.fakeregistry.faults import busy
from tests.support.home import CHUNK, Home, blob_bytes, pushed
from tests.support.images import Image, make_image, write_archive
from tests.support.waiting import PATIENCE, wait_until

STOPPING = "stopping after the chunks in flight"


def _in_the_middle_of_a_chunk(pusher: Pusher, registry: FakeRegistry, *command: str) -> subprocess.Popen[str]:
    process = pusher.start(*command, "--chunk-size", str(CHUNK), "--parallel", "1")
    registry.wait_for_fault(On.CHUNK)
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_once_finishes_the_chunk(
    number: signal.Signals,
    code: int,
    home: Home,
    pusher: Pusher,
    registry: FakeRegistry,
    image: Image,
    archive: Path,
    stall: Stall,
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1")
    process = _in_the_middle_of_a_chunk(pusher, registry, "run")
    process.send_signal(number)
    said = read_until(process, STOPPING)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)  # it waits for the chunk
    if number == signal.SIGHUP:  # the shell sends one, and the terminal another
        process.send_signal(number)
    stall.release()
    done = ended(process)

    said += done.stderr
    assert done.returncode == code, said
    assert "pusher run" in said
    assert "Traceback" not in said
    assert ("Ctrl-C" in said) == (number == signal.SIGINT)
    assert (home.state(job.id), home.job(job.id).attempts) == ("queued", 0)
    assert registry.chunks == [CHUNK, CHUNK], "the chunk in flight went through, no other was begun"
    assert registry.requests(On.CANCEL) == []
    home.assert_clean()

    assert home.run().exit_code == 0
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "app"), "nothing is sent twice"


def test_two_signals_of_one_request_are_one(
    home: Home, pusher: Pusher, registry: FakeRegistry, archive: Path, stall: Stall
) -> None:
    """As timeout(1) sends them, at once to the process and to its group."""
    job = home.enqueue(archive, f"{registry.address}/app:1")
    process = _in_the_middle_of_a_chunk(pusher, registry, "run")
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
    said = read_until(process, STOPPING)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)  # it waits for the chunk
    stall.release()
    done = ended(process)
    assert done.returncode == 143, said + done.stderr
    assert "at once" not in said + done.stderr
    assert registry.chunks == [CHUNK, CHUNK]
    assert home.state(job.id) == "queued"


def test_a_stop_ends_the_pauses_of_a_registry_that_limits_requests(
    home: Home, pusher: Pusher, registry: FakeRegistry, tmp_path: Path
) -> None:
    several = write_archive(tmp_path / "several.tar", make_image(3000, 3001, 3002, names=("app:1",)))
    registry.faults.add(Fault(On.HEAD_BLOB, busy("5", status=429), times=None))
    job = home.enqueue(several, f"{registry.address}/app:1")
    process = pusher.start("run", "--progress", "lines")
    read_until(process, "compressed to")  # and the layer's request waits for its turn
    process.send_signal(signal.SIGINT)
    said = read_until(process, STOPPING)
    before = len(registry.requests())
    done = ended(process)
    said += done.stderr
    assert done.returncode == 130, said
    assert "Traceback" not in said
    assert "without a response" not in said, "no thread was left in its pause"
    assert len(registry.requests()) == before
    assert home.state(job.id) == "queued"


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (signal.SIGTERM, signal.SIGTERM, 143),
        (signal.SIGINT, signal.SIGINT, 130),
        (signal.SIGINT, signal.SIGTERM, 143),
    ],
)
def test_twice_leaves_at_once(
    first: signal.Signals,
    second: signal.Signals,
    code: int,
    home: Home,
    pusher: Pusher,
    registry: FakeRegistry,
    image: Image,
    archive: Path,
    stall: Stall,
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1")
    process = _in_the_middle_of_a_chunk(pusher, registry, "run")
    process.send_signal(first)
    said = read_until(process, STOPPING)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(second)
    done = ended(process)  # the chunk still stands still
    assert done.returncode == code, said + done.stderr
    assert "Traceback" not in said + done.stderr

    stall.release()
    assert home.run().exit_code == 0
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + CHUNK
    assert home.state(job.id) == "succeeded"
    home.assert_clean()


def test_leases_are_renewed_until_the_chunk_is_through(
    home: Home,
    pusher: Pusher,
    registry: FakeRegistry,
    archive: Path,
    stall: Stall,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a slow link the last chunk takes longer than a lease; nobody may take the job over meanwhile."""
    monkeypatch.setenv("PUSHER_LEASE", "6")
    job = home.enqueue(archive, f"{registry.address}/app:1")
    process = _in_the_middle_of_a_chunk(pusher, registry, "run")
    process.send_signal(signal.SIGTERM)
    read_until(process, STOPPING)
    for _ in range(2):  # the first renewal may have begun before
        before = home.job(job.id).lease_expires_at
        assert before is not None
        wait_until(lambda before=before: home.job(job.id).lease_expires_at > before)  # type: ignore[misc]
    assert home.store.jobs.claim("somebody else", lease=6) is None
    stall.release()
    assert ended(process).returncode == 143
    assert home.state(job.id) == "queued"


def test_a_push_that_is_stopped_is_continued_by_run(
    home: Home, pusher: Pusher, registry: FakeRegistry, image: Image, archive: Path, stall: Stall
) -> None:
    to = f"{registry.address}/app:1"
    process = _in_the_middle_of_a_chunk(pusher, registry, "push", str(archive), "--to", to)
    process.send_signal(signal.SIGTERM)
    read_until(process, STOPPING)
    stall.release()
    done = ended(process)
    assert (done.returncode, done.stdout) == (143, ""), done.stderr
    assert "pusher run" in done.stderr
    again = pusher.work()
    assert again.returncode == 0, again.stderr
    pushed(registry, "app", "1", image)


def test_a_run_that_waits_for_jobs_leaves_at_once(
    home: Home, pusher: Pusher, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """Nothing is in flight: the first signal is enough, and the exit code still tells of it."""
    process = pusher.start("run", "--forever", "--chunk-size", str(CHUNK))
    job = home.enqueue(archive, f"{registry.address}/app:1")
    registry.wait_for(lambda r: bool(r.manifests))
    process.send_signal(signal.SIGTERM)
    assert ended(process).returncode == 143
    assert home.state(job.id) == "succeeded"
    pushed(registry, "app", "1", image)
    home.assert_clean()


@pytest.fixture
def dear() -> Iterator[FakeRegistry]:
    """A registry that begins a blob again whose connection breaks inside a chunk."""
    with FakeRegistry(DISTRIBUTION_2) as registry:
        yield registry


def test_what_leaving_costs_is_said_before_it_is_paid(
    home: Home, pusher: Pusher, dear: FakeRegistry, image: Image, archive: Path
) -> None:
    stall = Stall(after_bytes=CHUNK // 2)
    dear.faults.add(Fault(On.CHUNK, stall, nth=2))
    home.enqueue(archive, f"{dear.address}/app:1")
    process = _in_the_middle_of_a_chunk(pusher, dear, "run")
    process.send_signal(signal.SIGINT)
    read_until(process, "press Ctrl-C again")
    process.send_signal(signal.SIGINT)
    said = read_until(process, "once more")
    assert "39.1 KiB" in said, "what was acknowledged, and the chunk in flight"
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert ended(process).returncode == 130
    stall.release()
    assert home.run().exit_code == 0
    pushed(dear, "app", "1", image)


def test_a_hangup_that_is_to_be_ignored_is_ignored(
    home: Home, pusher: Pusher, registry: FakeRegistry, image: Image, archive: Path, stall: Stall
) -> None:
    """nohup pusher run &"""
    home.enqueue(archive, f"{registry.address}/app:1")
    usual = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = _in_the_middle_of_a_chunk(pusher, registry, "run")
    finally:
        signal.signal(signal.SIGHUP, usual)
    process.send_signal(signal.SIGHUP)
    stall.release()
    done = ended(process)
    assert (done.returncode, "terminal" in done.stderr) == (0, False), done.stderr
    pushed(registry, "app", "1", image)


def test_a_terminal_that_is_closed(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, stall: Stall
) -> None:
    """All it writes from then on fails; it lets the chunk end, gives the job back and says so by its code."""
    job = home.enqueue(archive, f"{registry.address}/app:1")
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pusher", "run", "--chunk-size", str(CHUNK), "--parallel", "1"],
        env={**os.environ, "PUSHER_HOME": str(home.settings.home), "PYTHONPATH": str(ROOT)},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
    )
    try:
        os.close(follower)
        registry.wait_for_fault(On.CHUNK)
        os.close(leader)
        wait_until(lambda: not _has_pending_signal(process.pid))
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)  # it cannot say that it is stopping
        stall.release()
        assert process.wait(PATIENCE) == 129
    finally:
        process.kill()
        process.wait()
    assert (home.state(job.id), home.job(job.id).attempts) == ("queued", 0)
    assert registry.chunks == [CHUNK, CHUNK]
    home.assert_clean()
    assert home.run().exit_code == 0
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "app")


def _has_pending_signal(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return any(int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd:", "ShdPnd:")))


@pytest.mark.parametrize("module", ["click", "pusher.cli.app", "pusher.store.store"])
def test_an_interrupt_while_it_is_loaded_shows_no_traceback(module: str, home: Home) -> None:
    interrupted = f"""
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["pusher", "status"]
from pusher.__main__ import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", interrupted],
        env={**os.environ, "PUSHER_HOME": str(home.settings.home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (-signal.SIGINT, 130)
    assert (done.stdout, done.stderr.strip()) == ("", "")
