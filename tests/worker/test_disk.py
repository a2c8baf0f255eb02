"""The disk is full: while compressing, and while the job store writes. Needs root, to make a small disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pusher.config.load import sqlite_url
from pusher.errors import DiskFull, ExitCode
from pusher.store.records import JobState
from pusher.store.store import Store
from tests.support.fakeregistry import FakeRegistry
from tests.support.home import Home, blob_bytes, pushed
from tests.support.images import Image, make_image, write_archive
from tests.support.processes import unmount_below
from tests.support.quick import QUICK
from tests.support.real import require

SIZE = 12_000_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB."""
    require("mount", root=True)
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=0700,size={SIZE}", "tmpfs", str(folder)], check=True)
    yield folder
    unmount_below(folder)


@pytest.fixture
def home(tmp_path: Path, small_disk: Path) -> Iterator[Home]:
    """The spool lies on the small disk, the job store does not."""
    (small_disk / "home").mkdir()
    with Home(tmp_path / "home", chunk_size=1_000_000) as home:
        home.settings = replace(home.settings, home=small_disk / "home")
        yield home


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


def _fill(disk: Path, leave: int) -> Path:
    """Take all room but ``leave`` bytes; the file that takes it."""
    ballast = disk / "ballast"
    free = os.statvfs(disk)
    ballast.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - leave)))
    return ballast


@pytest.fixture
def image() -> Image:
    return make_image(4_000_000, 4_800_000, 3_600_000, 2_800_000, compressible=0.0)


def test_room_is_made_from_blobs_that_are_pushed(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """An image larger than the disk: what is uploaded makes room for what is compressed next."""
    assert sum(len(layer.gzip) for layer in image.layers) > SIZE
    job = home.push(archive, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)
    assert home.figures(job.id)[0] == blob_bytes(registry, "app") > SIZE
    assert home.kinds(job.id) == ["queued", "running", "succeeded"]
    assert registry.body_bytes_received() == blob_bytes(registry, "app")


def test_a_job_waits_for_room_and_a_later_run_goes_on(
    home: Home, small_disk: Path, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    ballast = _fill(small_disk, 5_000_000)
    job = home.enqueue(archive, f"{registry.address}/app:1")
    result = home.run()
    assert result.exit_code == ExitCode.UNFINISHED
    waiting = home.job(job.id)
    assert waiting.error is not None
    assert (waiting.state, waiting.error.code) == (JobState.WAITING, "disk-full")
    assert "PUSHER_HOME" in waiting.error.hint
    assert list((home.settings.spool / "tmp").iterdir()) == []
    total = registry.body_bytes_received()
    assert total > 0, "what fitted was compressed and pushed"

    ballast.unlink()
    assert home.run().exit_code == ExitCode.DONE, "the run that the hint names tries at once"
    assert home.kinds(job.id)[-4:] == ["waiting", "queued", "running", "succeeded"], (
        "not when the pause ended"
    )
    assert ("queued", "tried again: a run has started, or a job has freed space") in home.events(job.id)
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "app"), "and sends nothing twice"


def test_a_full_disk_stops_no_other_job(
    home: Home, small_disk: Path, registry: FakeRegistry, archive: Path, tmp_path: Path
) -> None:
    _fill(small_disk, 1_800_000)
    big = home.enqueue(archive, f"{registry.address}/app:1")
    little = home.enqueue(
        write_archive(tmp_path / "l.tar", make_image(500, seed=6)), f"{registry.address}/little:1"
    )
    assert home.run(parallel=1).exit_code == ExitCode.UNFINISHED
    assert (home.state(big.id), home.state(little.id)) == (JobState.WAITING, JobState.SUCCEEDED)


def test_the_job_store_on_the_full_disk(
    small_disk: Path, registry: FakeRegistry, tmp_path: Path, image: Image, archive: Path
) -> None:
    """Blobs leave room for it; where somebody else takes that, the run ends with a sentence, and the next one
    finds the job at once."""
    retry = replace(QUICK, store_run=1.0)
    with Home(small_disk / "home", chunk_size=1_000_000, retry=retry) as home:
        job = home.enqueue(archive, f"{registry.address}/app:1")
        ballast = _fill(small_disk, 40_000)
        try:
            result = home.run()
            assert result.exit_code == ExitCode.UNFINISHED
        except DiskFull as error:
            assert error.hint  # noqa: PT017 - both ends are right, which comes depends on who needs a page first
        ballast.unlink()
        assert home.settings.database_url == sqlite_url(small_disk / "home" / "jobs.db")
        assert home.run().exit_code == ExitCode.DONE, home.events(job.id)
        pushed(registry, "app", "1", image)
        assert home.state(job.id) == JobState.SUCCEEDED


def test_a_spool_full_of_unneeded_blobs_has_room_for_the_first_byte(
    home: Home, small_disk: Path, registry: FakeRegistry, archive: Path, tmp_path: Path
) -> None:
    """The config is written before any layer."""
    home.settings = replace(home.settings, spool_limit=1 << 40)
    home.push(
        write_archive(tmp_path / "old.tar", make_image(4_000_000, compressible=0.0)),
        f"{registry.address}/old:1",
    )
    _fill(small_disk, 1000)
    small = write_archive(tmp_path / "new.tar", make_image(500_000, seed=6, compressible=0.0))
    home.push(small, f"{registry.address}/new:1")


def test_blobs_pushed_a_moment_ago_make_room_for_a_layer(
    home: Home, small_disk: Path, registry: FakeRegistry, tmp_path: Path
) -> None:
    """They fill the disk and no job needs them any more, however young they are."""
    home.settings = replace(home.settings, spool_limit=1 << 40)
    for seed in (1, 2):
        image = make_image(4_000_000, 800_000, seed=seed, compressible=0.0)
        home.push(write_archive(tmp_path / f"{seed}.tar", image), f"{registry.address}/old:{seed}")
    new = make_image(4_500_000, seed=3, compressible=0.0)
    home.push(write_archive(tmp_path / "new.tar", new), f"{registry.address}/new:1")
    pushed(registry, "new", "1", new)
    notes = [str(note) for note, *_ in home.progress.of("note") if "no space" in str(note)]
    assert notes[-1].endswith("removed 9.2 MiB of blobs that no job needs any more")
    assert " are free for it, and it needs up to 4.3 MiB; " in notes[-1]


def test_blobs_that_another_job_needs_make_no_room(
    home: Home, small_disk: Path, registry: FakeRegistry, tmp_path: Path
) -> None:
    old = make_image(4_000_000, 4_000_000, seed=1, compressible=0.0)
    archive = write_archive(tmp_path / "old.tar", old)
    registry.stop()
    waits = home.enqueue(archive, f"{registry.address}/old:1")
    home.run(give_up_after=0.05)
    needed = {digest for digest, _, _ in home.spool.blobs()}
    with FakeRegistry() as other:
        new = write_archive(tmp_path / "new.tar", make_image(4_500_000, seed=3, compressible=0.0))
        home.enqueue(new, f"{other.address}/new:1")
        assert home.run(give_up_after=0.05).exit_code == ExitCode.UNFINISHED
    assert home.state(waits.id) == JobState.WAITING
    assert needed <= {digest for digest, _, _ in home.spool.blobs()}


def test_a_job_store_that_a_full_disk_left_empty(small_disk: Path) -> None:
    """It has no schema, and gets one once there is room."""
    (small_disk / "store").mkdir(mode=0o700)
    url = sqlite_url(small_disk / "store" / "jobs.db")
    ballast = _fill(small_disk, 0)
    for _ in range(2):
        with pytest.raises(DiskFull, match="no space left on the disk of the job store"):
            Store.open(url)
    ballast.unlink()
    with Store.open(url) as store:
        assert store.jobs.list() == []
