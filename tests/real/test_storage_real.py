"""Images read straight from the disks of real engines, pushed to docker-registry, read back with skopeo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pusher.errors import ExitCode
from tests.sources.test_engine_disk import odd_layer
from tests.support.docker_registry import DockerRegistry
from tests.support.engines import Docker, Engine, Podman
from tests.support.home import Home
from tests.support.images import Image, Layer, make_layer, tar_of, write_archive
from tests.support.processes import unmount_below
from tests.support.real import ReadBack, require

Named = Callable[[str], str]
"""How an image in the storage is typed."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home", chunk_size=150_000) as home:
        yield home


@pytest.fixture(scope="module")
def docker_vfs() -> Iterator[Docker]:
    require("dockerd", "docker", root=True)
    with Docker("vfs") as docker:
        yield docker


@pytest.fixture(scope="module")
def podman_overlay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    require("podman", root=True)
    folder = tmp_path_factory.mktemp("podman-overlay")
    yield Podman(folder, "overlay")
    unmount_below(folder)


@pytest.fixture(params=["docker overlay2", "docker vfs", "podman overlay", "podman vfs"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    fixture = {
        "docker overlay2": "docker_engine",
        "docker vfs": "docker_vfs",
        "podman overlay": "podman_overlay",
        "podman vfs": "podman_engine",
    }[request.param]
    engine: Engine = request.getfixturevalue(fixture)
    for name, value in engine.env.items():
        monkeypatch.setenv(name, value)
    return engine


def stored(engine: Engine, name: str) -> str:
    """An image as it is typed to read it from disk."""
    if isinstance(engine, Docker):
        return f"docker-storage:[{engine.folder / 'data'}]{name}"
    return f"containers-storage:{name}"


def plain(engine: Engine, name: str) -> str:
    return name if isinstance(engine, Docker) else f"podman:{name}"


def name_of(engine: Engine) -> str:
    """A component of a repository for each engine of this module."""
    return f"{engine.command}-{engine.driver}"


def odd_image(name: str, *more: Layer) -> Image:
    """Everything a tar can hold, whiteouts for it, an empty layer, and a layer that comes twice."""
    whiteouts = Layer(tar_of([("usr/bin/.wh.tool", b""), ("deep/.wh..wh..opq", b""), (".wh.empty", b"")]))
    twice = make_layer(40_000, seed=3)
    layers = (odd_layer(), twice, whiteouts, Layer(tar_of([])), twice, make_layer(700_000, seed=4), *more)
    return Image(layers, (name,), comment=name)


def loaded(engine: Engine, image: Image, folder: Path) -> Image:
    archive = write_archive(folder / "load.tar", image, shape="podman")
    engine.load(archive)
    archive.unlink()
    assert engine.image_id(image.names[0]) == image.config_digest
    return image


@pytest.mark.parametrize("typed", [stored, plain])
def test_an_image_of_many_odd_files(
    home: Home,
    engine: Engine,
    docker_registry: DockerRegistry,
    read_back: ReadBack,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    typed: Callable[[Engine, str], str],
) -> None:
    image = loaded(engine, odd_image("localhost/odd:1"), tmp_path)
    to = f"{docker_registry.address}/odd/{typed.__name__}-{name_of(engine)}:1"
    job = home.push(typed(engine, image.names[0]), to)
    read = read_back(to)
    assert read.config == image.config
    assert [layer.diff_id for layer in read.layers] == list(image.diff_ids)
    assert read.digest == job.digest
    assert home.progress.of("note") == [], "the engine was not asked for a layer"
    if typed is plain:
        assert job.source["storage"]
    home.assert_clean()


def test_an_image_that_the_engine_built(
    home: Home, engine: Engine, docker_registry: DockerRegistry, read_back: ReadBack
) -> None:
    local = "localhost/built:1"
    files = {"a/b/one": b"1" * 5000, "empty": b"", "größe": bytes(100_000)}
    image_id = engine.build(local, files)
    to = f"{docker_registry.address}/built/{name_of(engine)}:1"
    home.push(stored(engine, local), to)
    read = read_back(to)
    assert read.config_digest == image_id
    assert [layer.diff_id for layer in read.layers] == engine.diff_ids(local)


def test_an_image_of_nothing_but_labels(
    home: Home, engine: Engine, docker_registry: DockerRegistry, read_back: ReadBack
) -> None:
    local = "localhost/labels:1"
    image_id = engine.build(local, {}, "FROM scratch\nLABEL a=b\n")
    for number, typed in enumerate((stored(engine, local), plain(engine, local))):
        to = f"{docker_registry.address}/labels/{name_of(engine)}:{number}"
        home.push(typed, to)
        assert read_back(to).config_digest == image_id


def test_an_image_imported_from_files(
    home: Home, engine: Engine, docker_registry: DockerRegistry, read_back: ReadBack, tmp_path: Path
) -> None:
    """`docker import` writes the tar-split itself, from a tar of ours."""
    local, path = "localhost/imported:1", tmp_path / "root.tar"
    path.write_bytes(odd_layer().tar)
    engine.run("import", str(path), local)
    to = f"{docker_registry.address}/imported/{name_of(engine)}:1"
    home.push(stored(engine, local), to)
    read = read_back(to)
    assert read.config_digest == engine.image_id(local)
    assert [layer.diff_id for layer in read.layers] == engine.diff_ids(local)


def test_a_new_version_reads_only_its_new_layer(
    home: Home, engine: Engine, docker_registry: DockerRegistry, read_back: ReadBack, tmp_path: Path
) -> None:
    name = f"increment-{name_of(engine)}"
    base = loaded(engine, odd_image(f"localhost/{name}:1"), tmp_path)
    home.push(stored(engine, base.names[0]), f"{docker_registry.address}/{name}:1")
    newer = loaded(
        engine, Image((*base.layers, make_layer(9000, seed=8)), (f"localhost/{name}:2",)), tmp_path
    )
    for digest, _, _ in list(home.spool.blobs()):
        home.spool.remove(digest)
    told = len(home.progress.of("prepared"))
    home.push(stored(engine, newer.names[0]), f"{docker_registry.address}/{name}:2")
    assert [call[1] for call in home.progress.of("prepared")[told:]] == [newer.diff_ids[-1]]
    assert read_back(f"{docker_registry.address}/{name}:2").config == newer.config


def test_the_image_is_deleted_before_it_is_read(
    home: Home, engine: Engine, docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    image = loaded(engine, Image((make_layer(500, seed=61),), ("localhost/deleted:1",)), tmp_path)
    for typed in (stored, plain):
        to = f"{docker_registry.address}/deleted/{name_of(engine)}:{typed.__name__}"
        home.enqueue(typed(engine, image.names[0]), to)
    engine.remove(image.names[0])
    assert home.run().exit_code == ExitCode.SOURCE
    for job in home.store.jobs.list():
        assert job.error is not None
        assert (job.error.code, image.names[0] in job.error.message) == ("image-changed", True)


def test_without_the_daemon(
    home: Home,
    docker_vfs: Docker,
    docker_registry: DockerRegistry,
    read_back: ReadBack,
    tmp_path: Path,
) -> None:
    image = loaded(docker_vfs, odd_image("localhost/stopped:1"), tmp_path)
    docker_vfs.stop()
    try:
        home.settings = replace(home.settings, docker_root=docker_vfs.folder / "data")
        to = f"{docker_registry.address}/stopped:1"
        home.push("docker-storage:localhost/stopped:1", to)
        assert read_back(to).config == image.config
    finally:
        docker_vfs.start()


def test_a_damaged_layer_is_never_pushed(
    home: Home, docker_vfs: Docker, docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    """The daemon cannot export it either, so nobody can."""
    image = loaded(docker_vfs, Image((make_layer(5000, seed=71),), ("localhost/damaged:1",)), tmp_path)
    for path in (docker_vfs.folder / "data/vfs/dir").rglob("data-71.bin"):
        path.write_bytes(bytes(5000))
    job = home.enqueue(stored(docker_vfs, image.names[0]), f"{docker_registry.address}/damaged:1")
    assert home.run([job.id]).exit_code == ExitCode.SOURCE
    assert not list(docker_registry.data.rglob("repositories/damaged/_manifests"))
