"""Pushing from an engine's disk: only what is needed is read; what is doubtful is asked of the engine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pusher.errors import ExitCode
from pusher.sources.engine import local_engine
from pusher.store.records import JobState
from tests.support.fake_engine import FakeEngine
from tests.support.fakeregistry import FakeRegistry
from tests.support.home import Home, pushed
from tests.support.images import Image, make_image, make_layer, write_archive
from tests.support.storage import DockerRoot, PodmanRoot, StorageRoot


@pytest.fixture(params=[DockerRoot, PodmanRoot])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> StorageRoot:
    made: StorageRoot = request.param(tmp_path / "storage")
    return made


@pytest.fixture
def image() -> Image:
    return make_image(70_000, 15_000, 300, names=["app:1"], compressible=0.0)


@pytest.fixture
def engine(storage: StorageRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The only command that there is; it has no image."""
    engine = FakeEngine(tmp_path / "bin", "docker" if isinstance(storage, DockerRoot) else "podman")
    monkeypatch.setenv("PATH", str(engine.folder))
    return engine


def notes(home: Home) -> list[str]:
    """The notes, but for those about the compression, which depends on the processors that are free."""
    return [text for (text,) in home.progress.of("note") if "compressed with" not in text]


def saves(engine: FakeEngine) -> int:
    return sum(call.startswith("save") for call in engine.calls())


def test_an_image_is_pushed_without_its_engine(
    home: Home, registry: FakeRegistry, storage: StorageRoot, image: Image, engine: FakeEngine
) -> None:
    storage.add(image)
    home.push(storage.source("app:1"), f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)
    assert engine.calls() == []
    assert notes(home) == []
    home.assert_clean()


def test_only_the_new_layer_of_a_new_version_is_read(
    home: Home, registry: FakeRegistry, storage: StorageRoot, image: Image
) -> None:
    """The base was pushed before: its files may be gone, and its bytes are not sent again."""
    storage.add(image)
    home.push(storage.source("app:1"), f"{registry.address}/app:1")
    newer = storage.add(Image((*image.layers, make_layer(3000, seed=99)), ("app:2",)))
    for position in range(len(image.layers)):
        shutil.rmtree(storage.files(image, position))
        storage.tar_split(image, position).unlink()
    for digest, _, _ in list(home.spool.blobs()):
        home.spool.remove(digest)
    before = registry.body_bytes_received()
    home.push(storage.source("app:2"), f"{registry.address}/app:2")
    pushed(registry, "app", "2", newer)
    assert registry.body_bytes_received() - before < 3000 + len(newer.config) + 1000


def test_the_base_that_docker_pushed_is_not_read(
    home: Home, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    """Without any memo: Docker's records tell which blobs of the image at the tag its layers are."""
    storage = DockerRoot(tmp_path / "storage")
    storage.add(image)
    with Home(tmp_path / "another") as another:
        job = another.push(storage.source("app:1"), f"{registry.address}/app:1")
        for layer in another.store.blobs.of_job(job.id):
            storage.record(layer.key, str(layer.digest))
    newer = storage.add(Image((*image.layers, make_layer(3000, seed=99)), ("app:2",)))
    for position in range(len(image.layers)):
        shutil.rmtree(storage.files(image, position))
    home.push(storage.source("app:2"), f"{registry.address}/app:1")
    pushed(registry, "app", "1", newer)


# --- doubt ------------------------------------------------------------------------------------------------


def _missing(storage: StorageRoot, image: Image) -> None:
    (storage.files(image, 1) / "data-1.bin").unlink()


def _changed(storage: StorageRoot, image: Image) -> None:
    path = storage.files(image, 1) / "data-1.bin"
    path.write_bytes(bytes(path.stat().st_size))


def _no_tar_split(storage: StorageRoot, image: Image) -> None:
    storage.tar_split(image, 1).unlink()


def _cut(storage: StorageRoot, image: Image) -> None:
    path = storage.tar_split(image, 1)
    os.truncate(path, path.stat().st_size // 2)


def _wrong_checksum_of_a_header(storage: StorageRoot, image: Image) -> None:
    entries = storage.entries(image, 1)
    entries[0]["payload"] = entries[0]["payload"].replace("A", "B", 1)
    storage.put_entries(image, 1, entries)


DAMAGES = [_missing, _changed, _no_tar_split, _cut, _wrong_checksum_of_a_header]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_doubtful_is_asked_of_the_engine(
    home: Home,
    registry: FakeRegistry,
    storage: StorageRoot,
    image: Image,
    engine: FakeEngine,
    tmp_path: Path,
    damage: Callable[[StorageRoot, Image], None],
) -> None:
    storage.add(image)
    engine.has(image, write_archive(tmp_path / "app.tar", image))
    damage(storage, image)
    home.push(storage.source("app:1"), f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)
    assert saves(engine) == 1
    (note,) = notes(home)
    assert note.endswith("asking the engine for the image instead")
    told = [call[1] for call in home.progress.of("prepared")]
    assert told.count(image.diff_ids[0]) == 1, "what was done is not done again"
    home.assert_clean()


@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_wrong_is_pushed_where_nobody_else_has_it(
    home: Home,
    registry: FakeRegistry,
    storage: StorageRoot,
    image: Image,
    engine: FakeEngine,
    damage: Callable[[StorageRoot, Image], None],
) -> None:
    storage.add(image)
    damage(storage, image)
    job = home.enqueue(storage.source("app:1"), f"{registry.address}/app:1")
    assert home.run().exit_code == ExitCode.SOURCE
    error = home.job(job.id).error
    assert error is not None
    assert error.hint
    assert registry.manifests == {}
    assert saves(engine) == 0


def test_an_engine_with_another_image_is_not_asked(
    home: Home, registry: FakeRegistry, storage: StorageRoot, image: Image, engine: FakeEngine, tmp_path: Path
) -> None:
    storage.add(image)
    other = make_image(50, names=["app:1"], seed=7)
    engine.has(other, write_archive(tmp_path / "app.tar", other))
    _missing(storage, image)
    job = home.enqueue(storage.source("app:1"), f"{registry.address}/app:1")
    assert home.run().exit_code == ExitCode.SOURCE
    assert home.state(job.id) == JobState.FAILED
    assert saves(engine) == 0


# --- plain names ------------------------------------------------------------------------------------------


@pytest.fixture
def local(
    storage: StorageRoot, image: Image, engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The image as it is typed, in an engine that says where its storage is; we are root."""
    storage.add(image)
    engine.has(image, write_archive(tmp_path / "app.tar", image))
    monkeypatch.setattr(
        local_engine.LocalEngineSource, "_info", lambda _: (storage.root, storage.driver), raising=True
    )
    monkeypatch.setattr(local_engine, "is_root", lambda: True)
    return "app:1" if engine.command == "docker" else "podman:app:1"


def test_a_plain_name_chooses_the_disk(
    home: Home, registry: FakeRegistry, image: Image, engine: FakeEngine, local: str
) -> None:
    home.push(local, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)
    assert saves(engine) == 0
    assert notes(home) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_plain_name_in_doubt(
    home: Home,
    registry: FakeRegistry,
    storage: StorageRoot,
    image: Image,
    engine: FakeEngine,
    local: str,
    damage: Callable[[StorageRoot, Image], None],
) -> None:
    damage(storage, image)
    told: list[str] = []
    job = home.enqueue(local, f"{registry.address}/app:1", note=told.append)
    assert home.run([job.id]).exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert saves(engine) == 1
    assert len(told) + len(notes(home)) == 1, "one line says so"


def test_only_root_reads_the_disk(
    home: Home,
    registry: FakeRegistry,
    image: Image,
    engine: FakeEngine,
    local: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_engine, "is_root", lambda: False)
    home.push(local, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)
    assert saves(engine) == 1


@pytest.mark.parametrize("part", ["image", "storage"])
def test_the_image_is_deleted_before_it_is_read(
    home: Home,
    registry: FakeRegistry,
    storage: StorageRoot,
    image: Image,
    engine: FakeEngine,
    local: str,
    part: str,
) -> None:
    job = home.enqueue(local, f"{registry.address}/app:1")
    if part == "image":
        storage.config(image).unlink()
    else:
        shutil.rmtree(storage.root)
    for command in ("save", "inspect"):
        engine.fails(command, f"Error: No such image: {image.config_digest}: image not known")
    assert home.run([job.id]).exit_code == ExitCode.SOURCE
    error = home.job(job.id).error
    assert error is not None
    assert (error.code, "app:1" in error.message) == ("image-changed", True)
