"""Archives that come through a pipe: read once, kept while their job needs them."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from pusher import system
from pusher.errors import InvalidOption
from pusher.sources import find
from pusher.sources.archive import stream
from pusher.spool.spool import Spool
from pusher.store.store import Store
from pusher.units import human_bytes
from pusher.worker import piped_archives
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry
from tests.support.home import pushed
from tests.support.images import make_image, sha256, write_archive

IMAGE = make_image(50_000, names=("registry.example.com/team/app:1.2",))


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    return write_archive(tmp_path / "a.tar", IMAGE).read_bytes()


def piped(data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "pusher", *arguments]
    return subprocess.run(command, input=data, capture_output=True, check=False, timeout=60)


def kept(home: Path) -> list[Path]:
    return sorted((home / "spool" / "incoming").glob("*"))


@pytest.mark.parametrize(
    "image", ["-", "/dev/stdin", "docker-archive:-", "docker-archive:-:registry.example.com/team/app:1.2"]
)
def test_an_archive_from_standard_input_is_queued(home: Path, archive: bytes, image: str) -> None:
    done = piped(archive, "enqueue", image)
    assert done.returncode == 0, done.stderr
    assert b"reading the archive from standard input" in done.stderr
    assert f"kept {human_bytes(len(archive))} from standard input".encode() in done.stderr
    (file,) = kept(home)
    assert file.read_bytes() == archive
    assert file.name == f"{sha256(archive)[7:]}.tar"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    with Store.open(f"sqlite:///{home}/jobs.db") as store:
        (job,) = store.jobs.list()
        assert job.destination == "registry.example.com/team/app:1.2"
        assert job.source["path"] == str(file)
        assert job.image == "standard input"
    said = done.stderr.decode().splitlines()
    assert said[-1].startswith("Job 1: standard input -> registry.example.com/team/app:1.2, ")


def test_an_archive_from_standard_input_is_pushed_with_the_login_of_the_command_line(
    home: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSHER_PASSWORD", "s3cr3t")
    with FakeRegistry(DISTRIBUTION_3, credentials=("ann", "s3cr3t")) as registry:
        to = f"{registry.address}/team/app:1.2"
        done = piped(archive, "push", "-", "--to", to, "--username", "ann", "--progress", "none")
        assert done.returncode == 0, done.stderr
        pushed(registry, "team/app", "1.2", IMAGE)


def test_a_pipe_that_has_a_name(home: Path, archive: bytes, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(archive,))
    writer.start()
    done = piped(b"", "enqueue", str(fifo))
    writer.join()
    assert done.returncode == 0, done.stderr
    assert kept(home)[0].read_bytes() == archive


def test_what_a_shell_makes_of_a_command(home: Path, archive: bytes, tmp_path: Path) -> None:
    command = f"{sys.executable} -m pusher enqueue <(cat {tmp_path}/a.tar)"
    subprocess.run(["bash", "-c", command], check=True, capture_output=True, timeout=60)
    assert kept(home)[0].read_bytes() == archive


def test_a_terminal_is_told_what_is_wanted(home: Path, archive: bytes) -> None:
    leader, terminal = pty.openpty()
    try:
        command = [sys.executable, "-m", "pusher", "push", "-", "--to", "registry.example.com/app:1"]
        done = subprocess.run(command, stdin=terminal, capture_output=True, check=False, timeout=60)
    finally:
        os.close(leader)
        os.close(terminal)
    assert done.returncode == 2
    assert b"standard input, but that is a terminal" in done.stderr
    assert b"docker save app:1.2 | pusher push - --to" in done.stderr
    assert archive
    assert not home.joinpath("spool/incoming").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: b"", b"no data came from standard input"),
        (lambda data: data[:20_000], b"cut off"),
        (lambda _: b"Error response from daemon: No such image\n", b"is a text file"),
    ],
)
def test_what_is_no_archive_is_not_kept(
    home: Path, archive: bytes, change: Callable[[bytes], bytes], words: bytes
) -> None:
    done = piped(change(archive), "enqueue", "-", "--to", "registry.example.com/app:1")
    assert done.returncode == 7
    assert words in done.stderr
    assert kept(home) == []


def test_archive_and_password_cannot_both_come(home: Path, archive: bytes) -> None:
    done = piped(archive, "push", "-", "--to", "r.example/app:1", "--username", "x", "--password-stdin")
    assert done.returncode == 2
    assert b"both the archive and the password" in done.stderr
    assert not home.joinpath("spool/incoming").exists()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"FROM scratch\n", b"error: standard input is a text file"),
        (b"\x04\x22\x4d\x18" + bytes(600), b"hint: unpack it first: lz4 -dc -\n"),
        (b"", b"hint: choose one: docker-archive:-:a:1\n"),
    ],
)
def test_errors_name_the_pipe_and_not_the_file_that_goes(
    home: Path, tmp_path: Path, data: bytes, words: bytes
) -> None:
    two = [make_image(100, names=("a:1",)), make_image(200, names=("b:1",))]
    done = piped(
        data or write_archive(tmp_path / "two.tar", *two).read_bytes(),
        "enqueue",
        "-",
        "--to",
        "r.example/a:1",
    )
    assert done.returncode == 7
    assert words in done.stderr
    assert str(home).encode() not in done.stderr.partition(b"error: ")[2]
    assert kept(home) == []


def test_nothing_else_waits_for_a_pipe() -> None:
    for image in ("-", "/dev/stdin", "oci-archive:-"):
        with pytest.raises(InvalidOption, match="only push and enqueue read"):
            find(image)


def test_it_is_kept_until_its_job_succeeded(home: Path, archive: bytes) -> None:
    assert piped(archive, "enqueue", "-").returncode == 0
    folder = home / "spool" / piped_archives.FOLDER
    with Store.open(f"sqlite:///{home}/jobs.db") as store:
        (job,) = store.jobs.list()
        piped_archives.remove_if_unneeded(store, folder, job.source)
        assert len(kept(home)) == 1, "a queued job needs it"
        store.jobs.cancel(job.id)
        piped_archives.remove_if_unneeded(store, folder, job.source)
        assert len(kept(home)) == 1, "a cancelled job can be put back"
        store.retention.prune(store.now() + timedelta(1))
        with piped_archives.receiving(folder), piped_archives.receiving(folder):
            piped_archives.remove_unneeded(store, Spool(home / "spool"))
        piped_archives.remove_unneeded(store, Spool(home / "spool", is_shared=True))
        assert len(kept(home)) == 1, "it came just now, its job may not be recorded yet"
        piped_archives.remove_unneeded(store, Spool(home / "spool"))
        assert kept(home) == []


def test_an_old_archive_without_a_job_is_removed_also_while_another_is_received(
    home: Path, archive: bytes
) -> None:
    folder = home / "spool" / piped_archives.FOLDER
    assert piped(archive, "enqueue", "-").returncode == 0
    with Store.open(f"sqlite:///{home}/jobs.db") as store, piped_archives.receiving(folder):
        (job,) = store.jobs.list()
        store.jobs.cancel(job.id)
        store.retention.prune(store.now() + timedelta(1))
        os.utime(kept(home)[0], (1, 1))
        piped_archives.remove_unneeded(store, Spool(home / "spool"))
    assert kept(home) == []


def test_the_archive_of_a_command_that_was_killed_before_it_recorded_its_job(
    home: Path, archive: bytes
) -> None:
    dying = (
        "import os; from pusher.cli import main; from pusher.store.jobs import Jobs;"
        "Jobs.add = lambda *_: os.kill(os.getpid(), 9); main(['enqueue', '-', '--to', 'r.example/app:1'])"
    )
    command = [sys.executable, "-c", dying]
    killed = subprocess.run(command, input=archive, capture_output=True, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert [file.suffix for file in kept(home)] == [".tar"]
    assert piped(b"", "run").returncode == 0
    assert kept(home) == []


def test_what_a_killed_command_had_read_is_removed_by_the_next_run(home: Path, archive: bytes) -> None:
    command = [sys.executable, "-m", "pusher", "enqueue", "-", "--to", "r.example/app:1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        assert b"reading the archive" in process.stderr.readline()
        process.stdin.write(archive)
        process.stdin.flush()
        while not any(file.stat().st_size for file in kept(home)):
            time.sleep(0.01)
        spool = Spool(home / "spool")
        assert spool.sweep() == 0, "its process lives"
        assert [file.suffix for file in kept(home)] == [".part"]
        process.kill()
    assert piped(b"", "run").returncode == 0
    assert kept(home) == []


def test_a_file_swept_before_it_is_locked_is_made_anew(
    tmp_path: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, fifo = Spool(tmp_path / "home" / "spool"), tmp_path / "fifo"
    swept: list[int] = []

    def try_lock(descriptor: int) -> bool:
        if not swept:
            swept.append(1)
            spool.sweep()
        return system.try_lock(descriptor)

    monkeypatch.setattr("pusher.sources.archive.stream.try_lock", try_lock)
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(archive,))
    writer.start()
    image = stream.receive(str(fifo), spool.root / piped_archives.FOLDER, lambda text: None)
    writer.join()
    assert swept
    assert Path(image).read_bytes() == archive


def test_a_damaged_archive_is_kept_while_another_job_reads_it(home: Path, archive: bytes) -> None:
    for tag in "12":
        assert piped(archive, "enqueue", "-", "--to", f"r.example/app:{tag}").returncode == 0
    folder = home / "spool" / piped_archives.FOLDER
    with Store.open(f"sqlite:///{home}/jobs.db") as store:
        first, second = store.jobs.list()
        store.jobs.cancel(first.id)
        piped_archives.remove_damaged(store, folder, first)
        assert len(kept(home)) == 1
        store.jobs.cancel(second.id)
        piped_archives.remove_damaged(store, folder, second)
        assert kept(home) == []
