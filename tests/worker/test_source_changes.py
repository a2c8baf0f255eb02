"""The source is deleted or changed between ``enqueue`` and ``run``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pusher.errors import ExitCode
from pusher.store.records import JobState
from tests.support.fake_engine import FakeEngine
from tests.support.fakeregistry import FakeRegistry
from tests.support.home import Home, pushed
from tests.support.images import SHAPES, Image, Shape, entries, make_image, write_archive, write_tar


def _failed_as_changed(home: Home, registry: FakeRegistry, job_id: int) -> str:
    """The job failed because of its source, with nothing pushed; what it says."""
    assert home.run().exit_code == ExitCode.SOURCE
    job = home.job(job_id)
    assert job.state == JobState.FAILED
    assert job.error is not None
    assert job.error.code == "image-changed"
    assert job.error.hint
    assert registry.manifests == {}
    return job.error.message


def test_the_archive_is_deleted(home: Home, registry: FakeRegistry, archive: Path) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1")
    archive.unlink()
    assert str(archive) in _failed_as_changed(home, registry, job.id)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_archive_holds_another_image(
    home: Home, registry: FakeRegistry, image: Image, tmp_path: Path, shape: Shape
) -> None:
    archive = write_archive(tmp_path / "app.tar", image, shape=shape)
    job = home.enqueue(archive, f"{registry.address}/app:1")
    write_archive(archive, make_image(900, seed=7), shape=shape)
    assert image.config_digest in _failed_as_changed(home, registry, job.id)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_image_in_a_rewritten_file_is_as_good(
    home: Home, registry: FakeRegistry, image: Image, tmp_path: Path, shape: Shape
) -> None:
    """Other offsets, another time stamp, another image beside it: found by its config digest."""
    archive = write_archive(tmp_path / "app.tar", image, shape=shape)
    job = home.enqueue(archive, f"{registry.address}/app:1")
    other = make_image(900, names=["other:1"], seed=7)
    write_archive(archive, other, image, shape=shape)
    os.utime(archive, (1, 1))
    assert home.run([job.id]).exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)


def test_a_failed_job_goes_on_once_the_archive_is_back(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1")
    away = archive.rename(archive.with_name("away.tar"))
    _failed_as_changed(home, registry, job.id)
    away.rename(archive)
    home.store.jobs.retry(job.id)
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)


@pytest.mark.parametrize("shape", ["classic", "docker25", "podman"])
def test_a_layer_whose_bytes_changed_is_not_pushed(
    home: Home, registry: FakeRegistry, image: Image, tmp_path: Path, shape: Shape
) -> None:
    archive = write_archive(tmp_path / "app.tar", image, shape=shape)
    job = home.enqueue(archive, f"{registry.address}/app:1")
    _damage(archive, image.layers[0].tar)
    assert home.run().exit_code == ExitCode.SOURCE
    assert home.state(job.id) == JobState.FAILED
    assert registry.manifests == {}


@pytest.mark.parametrize("shape", ["containerd", "compressed"])
def test_a_final_blob_whose_bytes_changed_is_not_pushed(
    home: Home, registry: FakeRegistry, image: Image, tmp_path: Path, shape: Shape
) -> None:
    """It is sent from the archive without a copy; the registry refuses it, and so do we."""
    archive = write_archive(tmp_path / "app.tar", image, shape=shape)
    job = home.enqueue(archive, f"{registry.address}/app:1")
    before = archive.stat()
    _damage(archive, image.layers[0].gzip)
    os.utime(archive, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert home.run().exit_code == ExitCode.SOURCE
    assert home.state(job.id) == JobState.FAILED
    assert registry.manifests == {}


def test_a_truncated_archive(home: Home, registry: FakeRegistry, image: Image, tmp_path: Path) -> None:
    content = entries("podman", image)
    archive = write_tar(tmp_path / "app.tar", [*content[-2:], *content[:-2]])
    job = home.enqueue(archive, f"{registry.address}/app:1")
    with archive.open("r+b") as file:
        file.truncate(archive.stat().st_size // 2)
    assert home.run().exit_code == ExitCode.SOURCE
    assert home.state(job.id) == JobState.FAILED
    assert registry.manifests == {}


def _damage(archive: Path, part: bytes) -> None:
    """Flip a bit in the middle of ``part``, which lies in the archive."""
    data = bytearray(archive.read_bytes())
    at = data.index(part) + len(part) // 2
    data[at] ^= 1
    archive.write_bytes(data)


# --- engines ----------------------------------------------------------------------------------------------


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(engine.folder))
    return engine


def test_an_image_is_pushed_from_the_pipe(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, docker: FakeEngine
) -> None:
    docker.has(image, archive)
    home.push("app:1", f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)
    assert [call.split()[0] for call in docker.calls()].count("save") == 1


def test_a_second_push_exports_nothing(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, docker: FakeEngine
) -> None:
    docker.has(image, archive)
    home.push("app:1", f"{registry.address}/app:1")
    docker.fails("save", "must not be called")
    home.push("app:1", f"{registry.address}/app:2")
    home.push("app:1", f"{registry.address}/another:1")
    pushed(registry, "another", "1", image)


def test_the_pinned_image_is_asked_for_by_its_id(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, docker: FakeEngine
) -> None:
    docker.has(image, archive)
    home.enqueue("app:1", f"{registry.address}/app:1")
    moved = make_image(100, seed=5)
    docker.has(moved, write_archive(archive.with_name("moved.tar"), moved))
    docker.on("save", f'[ "$2" = {image.config_digest} ] && /bin/cat {archive}')
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)


def test_an_image_deleted_from_docker(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, docker: FakeEngine
) -> None:
    docker.has(image, archive)
    job = home.enqueue("app:1", f"{registry.address}/app:1")
    docker.fails("save", f"Error response from daemon: No such image: {image.config_digest}")
    docker.fails("inspect", f"Error response from daemon: No such image: {image.config_digest}")
    assert "app:1" in _failed_as_changed(home, registry, job.id)


def test_an_export_that_is_cut_off_keeps_what_was_compressed(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, docker: FakeEngine
) -> None:
    """Docker dies in the middle of a save; the next attempt has the first layers already."""
    docker.has(image, archive)
    job = home.enqueue("app:1", f"{registry.address}/app:1")
    cut = archive.with_name("cut.tar")
    data = archive.read_bytes()
    cut.write_bytes(data[: data.index(image.layers[2].tar) + 100])
    docker.on("save", f"/bin/cat {cut}; echo broken >&2; exit 1")
    assert home.run().exit_code == ExitCode.SOURCE
    assert home.state(job.id) == JobState.FAILED
    docker.has(image, archive)
    home.store.jobs.retry(job.id)
    assert home.run().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    home.assert_clean()
