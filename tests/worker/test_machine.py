"""What this machine cannot give: jobs wait for it as for room on the disk, and none fails."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pusher.errors import ExitCode, MachineExhausted, SourceError, find_machine_error, home_error
from pusher.registry.http import body, watchdog
from pusher.spool import pipeline, temporary
from pusher.store.records import JobState
from pusher.worker import job_attempts, job_loop, pool
from tests.support.fakeregistry import FakeRegistry
from tests.support.home import CHUNK, Home, blob_bytes, pushed
from tests.support.images import Image
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]


def _raising(error: BaseException) -> Callable[..., Any]:
    def fail(*args: object, **kwargs: object) -> Any:
        raise error

    return fail


def _system(number: int) -> OSError:
    return OSError(number, os.strerror(number), "somewhere")


FAULTS: list[tuple[str, object, str, BaseException]] = [
    ("machine-exhausted", pipeline, "read_block", MemoryError()),
    ("machine-exhausted", pipeline, "read_block", _system(errno.EIO)),
    ("machine-exhausted", pipeline, "ThreadPoolExecutor", RuntimeError("can't start new thread")),
    ("machine-exhausted", body.BlobFile, "open", _system(errno.EMFILE)),
    ("machine-exhausted", body.BlobFile, "open", _system(errno.ENOTCONN)),
    ("machine-exhausted", temporary.TemporaryFile, "commit", _system(errno.ENOTCONN)),
    ("machine-exhausted", body.BlobFile, "open", _system(errno.ENOMEM)),
    ("machine-exhausted", temporary.TemporaryFile, "write", _system(errno.EFBIG)),
    ("machine-exhausted", temporary.TemporaryFile, "commit", _system(errno.EMFILE)),
    ("home-unusable", temporary.TemporaryFile, "write", _system(errno.EROFS)),
    ("home-unusable", temporary.TemporaryFile, "commit", _system(errno.EACCES)),
    ("disk-full", temporary.TemporaryFile, "write", _system(errno.ENOSPC)),
]


@pytest.mark.parametrize(("code", "place", "name", "error"), FAULTS)
def test_the_job_waits_and_a_later_run_goes_on(
    code: str,
    place: object,
    name: str,
    error: BaseException,
    home: Home,
    registry: FakeRegistry,
    image: Image,
    archive: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1")
    with monkeypatch.context() as patch:
        patch.setattr(place, name, _raising(error))
        assert home.run().exit_code == ExitCode.UNFINISHED
    waiting = home.job(job.id)
    assert waiting.error is not None
    assert (waiting.state, waiting.error.code) == (JobState.WAITING, code)
    assert home.run().exit_code == ExitCode.DONE, "at once, not when the pause ends"
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "app")
    home.assert_clean()


def test_a_spool_that_goes_away(home: Home, registry: FakeRegistry, image: Image, archive: Path) -> None:
    """While blobs are sent from it, and others written into it."""
    job = home.enqueue(archive, f"{registry.address}/app:1")
    home.progress.hooks["blob_started"] = lambda *_: shutil.rmtree(home.settings.spool, ignore_errors=True)
    result = home.run()
    assert home.state(job.id) in (JobState.WAITING, JobState.SUCCEEDED)
    assert result.failed == []
    home.progress.hooks.clear()
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)


@pytest.mark.parametrize("is_empty", [True, False])
def test_a_shared_spool_that_is_unmounted(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, tmp_path: Path, is_empty: bool
) -> None:
    """Its mount point is an empty folder then, or the place of another file system."""
    spool, away, first = tmp_path / "shared", tmp_path / "away", threading.Lock()
    home.settings = replace(home.settings, spool_folder=spool)
    job = home.enqueue(archive, f"{registry.address}/app:1")

    def unmount(*_: object) -> None:
        if not first.acquire(blocking=False):
            return
        spool.rename(away)
        spool.mkdir(mode=0o700)
        if not is_empty:
            (spool / "spool-id").write_text(f"{uuid.uuid4()}\n")

    home.progress.hooks["blob_started"] = unmount
    assert home.run().exit_code == ExitCode.UNFINISHED
    waiting = home.job(job.id)
    assert waiting.error is not None
    assert (waiting.state, waiting.error.code) == (JobState.WAITING, "home-unusable")
    assert f"{spool} is not the spool that it was" in waiting.error.message
    assert "findmnt" in waiting.error.hint
    shutil.rmtree(spool)
    away.rename(spool)
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)


def test_no_thread_for_a_job(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1")
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("job-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert home.run().exit_code == ExitCode.UNFINISHED
    assert home.state(job.id) == JobState.WAITING
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)


def test_a_spool_that_fails_after_the_push_changes_nothing_about_it(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1")
    broken = _raising(home_error(_system(errno.EIO), home.settings.spool, "cannot be read"))
    monkeypatch.setattr(job_attempts, "evict_blobs", broken)
    monkeypatch.setattr(job_loop, "keep_limits", broken)
    assert home.run().exit_code == ExitCode.DONE
    assert home.state(job.id) == JobState.SUCCEEDED
    pushed(registry, "app", "1", image)


def test_no_thread_for_the_time_limits_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one request fails; the next one has its limits, and closing finds nothing half begun."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    requests = watchdog.Watchdog()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"), requests.watch(watchdog.PendingRequest("host")):
            pass
    requests.close()
    with requests.watch(watchdog.PendingRequest("host")):
        assert any(thread.name == "watchdog" for thread in threading.enumerate())
    requests.close()


def test_fewer_threads_than_asked_for_send_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def two(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", two)
        blobs = pool.BlobPool(8)
    results = [blobs.submit(number, (number,), lambda: "sent") for number in range(5)]
    assert [future.result(PATIENCE) for future in results] == ["sent"] * 5
    blobs.close()


@pytest.mark.parametrize("limit", [16, 20])
def test_a_process_that_may_open_few_files(
    limit: int, home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1")
    command = [sys.executable, "-m", "pusher", "run", "--chunk-size", str(CHUNK)]
    done = subprocess.run(
        ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *command],
        env={**os.environ, "PUSHER_HOME": str(home.settings.home), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr
    assert done.returncode in (ExitCode.DONE, ExitCode.UNFINISHED, ExitCode.STORE), done.stderr
    assert home.state(job.id) != JobState.FAILED, done.stderr
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    home.assert_clean()


def test_a_fault_is_known_by_its_causes() -> None:
    error = SourceError("cannot run `docker`")
    error.__context__ = _system(errno.EMFILE)
    assert isinstance(find_machine_error(error), MachineExhausted)
    opened = ImportError("/x/_deflate.so: cannot open shared object file: Too many open files")
    assert isinstance(find_machine_error(opened), MachineExhausted), "the dynamic loader gives no number"
    assert find_machine_error(ImportError("cannot import name 'x' from 'y'")) is None
    assert find_machine_error(SourceError("no such file")) is None
    assert find_machine_error(ConnectionResetError(errno.ECONNRESET, "reset")) is None
    assert find_machine_error(RuntimeError("dictionary changed size during iteration")) is None
