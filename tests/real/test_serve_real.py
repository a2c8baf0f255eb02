"""``pusher serve`` and the clients that it is for: docker, podman, buildah, skopeo, and pusher itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pusher.store.records import JobState
from tests.benchmarks.bad_link import MB
from tests.benchmarks.serve_bad_link import push_through_serve
from tests.serve.forward.front import Front
from tests.serve.served import Served
from tests.support.docker_registry import DockerRegistry
from tests.support.engines import Docker, Engine, Podman
from tests.support.fakeregistry import SERVERLESS
from tests.support.home import Home
from tests.support.images import make_image, write_archive
from tests.support.layouts import two_platforms
from tests.support.real import ReadBack, require
from tests.support.skopeo import inspect_raw


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("serve") / "registry") as served:
        yield served


@pytest.fixture
def address(served: Served) -> str:
    return f"127.0.0.1:{served.port}"


def push_and_pull(engine: Engine, address: str, read_back: ReadBack, *options: str) -> None:
    remote = f"{address}/{engine.command}/app:1"
    image_id = engine.build_random(remote, [2_500_000, 1_000])
    engine.run("push", *options, remote)
    assert read_back(remote).config_digest == image_id
    engine.remove(remote)
    engine.run("pull", *options, remote)
    assert engine.image_id(remote) == image_id
    other = f"{address}/{engine.command}/again:1"
    engine.run("tag", remote, other)
    engine.run("push", *options, other)  # its layers are mounted
    assert inspect_raw(other) == inspect_raw(remote)


def test_docker(dockerd: Docker, address: str, read_back: ReadBack) -> None:
    push_and_pull(dockerd, address, read_back)


def test_podman(podman: Podman, address: str, read_back: ReadBack) -> None:
    push_and_pull(podman, address, read_back, "--tls-verify=false")


def test_buildah(podman: Podman, address: str, read_back: ReadBack) -> None:
    require("buildah", root=True)
    local, remote = "localhost/buildah:1", f"{address}/buildah/app:1"
    image_id = podman.build_random(local, [100_000])
    subprocess.run(
        ["buildah", "push", "--tls-verify=false", local, f"docker://{remote}"],
        check=True,
        capture_output=True,
    )
    assert read_back(remote).config_digest == image_id


def test_skopeo_copies_every_platform(address: str, tmp_path: Path) -> None:
    copy_every_platform(f"docker://{address}/skopeo/app:1", tmp_path)


def copy_every_platform(remote: str, tmp_path: Path) -> None:
    """There and back again."""
    require("skopeo")
    layout, _ = two_platforms(("app",))
    folder = layout.write_folder(tmp_path / "layout")
    back = f"oci:{tmp_path / 'back'}:app"
    for source, target in ((f"oci:{folder}:app", remote), (remote, back)):
        subprocess.run(
            ["skopeo", "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", source, target],
            check=True,
            capture_output=True,
        )
    blobs = {path.name for path in (folder / "blobs" / "sha256").iterdir()}
    assert {path.name for path in (tmp_path / "back" / "blobs" / "sha256").iterdir()} == blobs


def test_pusher_resumes_there(address: str, tmp_path: Path, read_back: ReadBack) -> None:
    image = make_image(150_000, 30_000, compressible=0.0)
    with Home(tmp_path / "home") as home:
        home.push(write_archive(tmp_path / "app.tar", image), f"{address}/pusher/app:1")
    assert read_back(f"{address}/pusher/app:1").config == image.config


# --- forwarded ----------------------------------------------------------------------------------------------


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with Front(tmp_path / "front") as front:
        yield front


def test_docker_through_serve(dockerd: Docker, front: Front, docker_registry: DockerRegistry) -> None:
    """What arrives is what a direct push sends; a second push sends nothing."""
    engine, registry = dockerd, docker_registry
    through = f"127.0.0.1:{front.port}/{registry.address.replace(':', '_')}/through/{engine.command}:1"
    direct = f"{registry.address}/direct/{engine.command}:1"
    engine.build_random(through, [2_500_000, 1_000])
    engine.run("push", through)
    arrived = inspect_raw(f"{registry.address}/through/{engine.command}:1")
    engine.run("tag", through, direct)
    engine.run("push", direct)
    assert inspect_raw(direct) == arrived
    engine.run("push", through)
    sent = [front.home.figures(job.id)[2] for job in front.home.store.jobs.list()]
    assert sent[0] > 2_500_000
    assert sum(sent[1:]) < 10_000
    engine.remove(through)
    engine.run("pull", through)


def test_skopeo_through_serve(front: Front, docker_registry: DockerRegistry, tmp_path: Path) -> None:
    place = docker_registry.address.replace(":", "_")
    copy_every_platform(f"docker://127.0.0.1:{front.port}/{place}/through/skopeo:1", tmp_path)


def test_podman_and_buildah_through_serve(
    podman: Podman, front: Front, docker_registry: DockerRegistry
) -> None:
    require("buildah", root=True)
    place = f"127.0.0.1:{front.port}/{docker_registry.address.replace(':', '_')}/through"
    podman.build_random("localhost/through:1", [2_500_000, 1_000])
    podman.run("push", "--tls-verify=false", "localhost/through:1", f"{place}/podman:1")
    command = ["buildah", "push", "--tls-verify=false", "localhost/through:1", f"docker://{place}/buildah:1"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **podman.env})
    arrived = inspect_raw(f"{docker_registry.address}/through/podman:1")
    assert inspect_raw(f"{docker_registry.address}/through/buildah:1") == arrived
    assert [job.state for job in front.home.store.jobs.list()] == [JobState.SUCCEEDED] * 2


def test_docker_shows_why_the_destination_refuses(
    dockerd: Docker, front: Front, make_docker_registry: Callable[..., DockerRegistry]
) -> None:
    registry = make_docker_registry(authenticated=True)
    through = f"127.0.0.1:{front.port}/{registry.address.replace(':', '_')}/app:1"
    dockerd.build_random(through, [1_000])
    with pytest.raises(AssertionError, match=r"denied: job 1: .* requires a login.*pusher login"):
        dockerd.run("push", through)


def test_docker_through_serve_that_is_killed_in_both_halves(dockerd: Docker, tmp_path: Path) -> None:
    require("skopeo")
    rules = SERVERLESS.scaled(min=MB // 2, max=5 * MB)
    figures = push_through_serve(dockerd, tmp_path, layer=20 * MB, reset_every=2 * MB, rules=rules)
    assert figures.resets >= 5
    assert figures.pushes <= 3, figures.told
