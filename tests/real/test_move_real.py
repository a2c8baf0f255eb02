"""``pusher move`` between two machines that share a PostgreSQL, where the image is in real engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.errors import ImageChanged
from pusher.worker.move import move_here
from tests.support.databases import PostgresServer, postgres
from tests.support.docker_registry import DockerRegistry
from tests.support.engines import Docker, Engine
from tests.support.home import Home
from tests.support.real import ReadBack

__all__ = ["postgres"]

_SIZES = [300_000, 20_000]


@pytest.fixture
def machines(tmp_path: Path, postgres: PostgresServer) -> Iterator[tuple[Home, Home]]:
    url = postgres.create("head")
    with Home(tmp_path / "a", database_url=url) as a, Home(tmp_path / "b", database_url=url) as b:
        yield a, b
    postgres.drop(url)


@pytest.mark.parametrize("name", ["dockerd", "podman"])
def test_a_job_is_moved_to_a_machine_whose_engine_has_the_image(
    machines: tuple[Home, Home],
    docker_registry: DockerRegistry,
    read_back: ReadBack,
    request: pytest.FixtureRequest,
    name: str,
) -> None:
    engine: Engine = request.getfixturevalue(name)
    local, (a, b) = f"localhost/moved-{name}:1", machines
    prefix = "" if name == "dockerd" else "podman:"
    image_id = engine.build_random(local, _SIZES, seed=21)
    to = f"{docker_registry.address}/moved/{name}:1"
    job = a.enqueue(f"{prefix}{local}", to)
    b.run()
    assert b.job(job.id).attempts == 0, "it is another machine's"
    moved = move_here(b.store, b.settings, job.id)
    assert moved.machine != job.machine
    b.run()
    read = read_back(to)
    assert (read.config_digest, read.digest) == (image_id, b.job(job.id).digest)
    assert b.kinds(job.id).count("moved") == 1


def test_a_job_from_docker_is_moved_to_a_machine_that_has_podman(
    machines: tuple[Home, Home],
    dockerd: Docker,
    docker_registry: DockerRegistry,
    read_back: ReadBack,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    local, (a, b) = "localhost/moved-between:1", machines
    image_id = dockerd.build_random(local, _SIZES, seed=22)
    saved = dockerd.save(tmp_path / "saved.tar", local)
    to = f"{docker_registry.address}/moved/between:1"
    job = a.enqueue(local, to)
    podman: Engine = request.getfixturevalue("podman")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    podman.load(saved)
    podman.build_random("localhost/another:1", _SIZES, seed=23)
    with pytest.raises(ImageChanged):
        move_here(b.store, b.settings, job.id, "podman:localhost/another:1")
    move_here(b.store, b.settings, job.id, f"podman:{local}")
    b.run()
    read = read_back(to)
    assert (read.config_digest, read.digest) == (image_id, b.job(job.id).digest)
