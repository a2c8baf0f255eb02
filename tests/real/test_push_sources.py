"""Real images from real engines to Debian's docker-registry, read back with skopeo."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.errors import ExitCode
from pusher.store.records import BlobState
from tests.support.docker_registry import DockerRegistry
from tests.support.engines import Docker, Engine, Podman
from tests.support.home import Home
from tests.support.real import ReadBack, require
from tests.support.skopeo import ImageRead

_SIZES = [700_000, 30_000, 1_000]
_CHUNK = 150_000


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home", chunk_size=_CHUNK) as home:
        yield home


def _is(read: ImageRead, home: Home, job_id: int, image_id: str, diff_ids: list[str]) -> None:
    assert read.config_digest == image_id
    assert [layer.diff_id for layer in read.layers] == diff_ids
    assert read.digest == home.job(job_id).digest
    home.assert_clean()


def _push(
    home: Home, engine: Engine, image: str, registry: DockerRegistry, read_back: ReadBack, name: str
) -> ImageRead:
    """Push with pusher, read with skopeo, compare with what the engine says of its image."""
    local = f"localhost/{name}:1"
    image_id = engine.build_random(local, _SIZES, seed=len(name))
    to = f"{registry.address}/{name}/{engine.command}:1"
    job = home.push(image.format(local), to)
    read = read_back(to)
    _is(read, home, job.id, image_id, engine.diff_ids(local))
    assert max(layer.size for layer in read.layers) > 4 * _CHUNK
    return read


def test_from_docker(
    home: Home, dockerd: Docker, docker_registry: DockerRegistry, read_back: ReadBack
) -> None:
    _push(home, dockerd, "{}", docker_registry, read_back, "from-docker")


def test_from_podman(
    home: Home, podman: Podman, docker_registry: DockerRegistry, read_back: ReadBack
) -> None:
    _push(home, podman, "podman:{}", docker_registry, read_back, "from-podman")


def test_a_second_push_from_docker_exports_nothing(
    home: Home, dockerd: Docker, docker_registry: DockerRegistry, read_back: ReadBack
) -> None:
    read = _push(home, dockerd, "{}", docker_registry, read_back, "twice")
    for digest, _, _ in list(home.spool.blobs()):
        home.spool.remove(digest)
    to = f"{docker_registry.address}/twice/mounted:2"
    job = home.push("localhost/twice:1", to)
    assert read_back(to).manifest == read.manifest
    assert {layer.state for layer in home.store.blobs.of_job(job.id)} == {BlobState.MOUNTED}
    assert list(home.spool.blobs()) == [] or len(list(home.spool.blobs())) == 1, "the config at most"
    assert home.figures(job.id)[2] == len(read.manifest)


@pytest.mark.parametrize("command", ["docker", "podman"])
def test_from_a_saved_archive(
    home: Home,
    docker_registry: DockerRegistry,
    read_back: ReadBack,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    command: str,
) -> None:
    engine: Engine = request.getfixturevalue({"docker": "dockerd", "podman": "podman"}[command])
    local = f"localhost/saved-{command}:1"
    image_id = engine.build_random(local, _SIZES, seed=77)
    archive = engine.save(tmp_path / "saved.tar", local)
    diff_ids = engine.diff_ids(local)
    engine.remove(local)
    to = f"{docker_registry.address}/saved/{command}:1"
    job = home.push(archive, to)
    _is(read_back(to), home, job.id, image_id, diff_ids)


def test_from_an_archive_that_skopeo_made(
    home: Home,
    podman: Podman,
    docker_registry: DockerRegistry,
    read_back: ReadBack,
    tmp_path: Path,
) -> None:
    require("skopeo")
    local, archive = "localhost/skopeo:1", tmp_path / "skopeo.tar"
    image_id = podman.build_random(local, _SIZES, seed=78)
    saved = podman.save(tmp_path / "saved.tar", local)
    copy = ["skopeo", "copy", "--quiet", f"docker-archive:{saved}", f"docker-archive:{archive}:team/app:1"]
    subprocess.run(copy, check=True, capture_output=True)
    to = f"{docker_registry.address}/by/skopeo:1"
    job = home.push(f"docker-archive:{archive}:team/app:1", to)
    _is(read_back(to), home, job.id, image_id, podman.diff_ids(local))


def test_several_images_in_one_archive(
    home: Home, dockerd: Docker, docker_registry: DockerRegistry, read_back: ReadBack, tmp_path: Path
) -> None:
    names = [f"localhost/many-{n}:1" for n in range(2)]
    ids = [dockerd.build_random(name, _SIZES, seed=n) for n, name in enumerate(names)]
    archive = dockerd.save(tmp_path / "many.tar", *names)
    for name, image_id in zip(names, ids, strict=True):
        to = f"{docker_registry.address}/{name.removeprefix('localhost/')}"
        job = home.push(f"docker-archive:{archive}:{name}", to)
        _is(read_back(to), home, job.id, image_id, dockerd.diff_ids(name))


# --- what happens to the image after enqueue --------------------------------------------------------------


def test_a_tag_moved_after_enqueue_pushes_the_old_image(
    home: Home, dockerd: Docker, docker_registry: DockerRegistry, read_back: ReadBack
) -> None:
    old = dockerd.build_random("localhost/moved:1", _SIZES, seed=1)
    diff_ids = dockerd.diff_ids("localhost/moved:1")
    to = f"{docker_registry.address}/moved/app:1"
    job = home.enqueue("localhost/moved:1", to)
    assert dockerd.build_random("localhost/moved:1", _SIZES, seed=2) != old
    assert home.run([job.id]).exit_code == ExitCode.DONE
    _is(read_back(to), home, job.id, old, diff_ids)


@pytest.mark.parametrize("command", ["docker", "podman"])
def test_an_image_deleted_after_enqueue(
    home: Home, docker_registry: DockerRegistry, request: pytest.FixtureRequest, command: str
) -> None:
    engine: Engine = request.getfixturevalue({"docker": "dockerd", "podman": "podman"}[command])
    local = f"localhost/deleted-{command}:1"
    engine.build_random(local, _SIZES, seed=3)
    image = local if command == "docker" else f"podman:{local}"
    job = home.enqueue(image, f"{docker_registry.address}/deleted/{command}:1")
    engine.remove(local)
    assert home.run([job.id]).exit_code == ExitCode.SOURCE
    error = home.job(job.id).error
    assert error is not None
    assert (error.code, local in error.message) == ("image-changed", True), error
    assert error.hint


def test_an_image_deleted_after_it_was_compressed_is_pushed_all_the_same(
    home: Home,
    dockerd: Docker,
    docker_registry: DockerRegistry,
    read_back: ReadBack,
    tmp_path: Path,
) -> None:
    local = "localhost/gone:1"
    image_id = dockerd.build_random(local, _SIZES, seed=4)
    diff_ids = dockerd.diff_ids(local)
    home.push(local, f"{docker_registry.address}/gone/one:1")
    job = home.enqueue(local, f"{docker_registry.address}/gone/two:1")
    dockerd.remove(local)
    assert home.run([job.id]).exit_code == ExitCode.DONE
    _is(read_back(f"{docker_registry.address}/gone/two:1"), home, job.id, image_id, diff_ids)


def test_what_docker_pushed_is_not_pushed_again(
    home: Home, dockerd: Docker, docker_registry: DockerRegistry, read_back: ReadBack
) -> None:
    to = f"{docker_registry.address}/by-docker:1"
    dockerd.build_random(to, _SIZES, seed=41)
    dockerd.run("push", to)
    before = read_back(to)

    job = home.push(to, to)

    assert job.digest == before.digest
    layers = home.store.blobs.of_job(job.id)
    assert {layer.state for layer in layers} == {BlobState.EXISTS}
    assert [layer.digest for layer in layers[1:]] == [layer.digest for layer in before.layers]
    spooled = {digest for digest, *_ in home.spool.blobs()}
    assert spooled <= {dockerd.image_id(to)}, "at most the config was read, for the manifest"
    home.assert_clean()
