"""The real parts themselves: what the other tests here stand on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests

from tests.support.docker_registry import CREDENTIALS, DockerRegistry
from tests.support.engines import Docker, Engine, Podman
from tests.support.real import ReadBack, require
from tests.support.skopeo import inspect_raw


def _push_and_read(engine: Engine, registry: DockerRegistry, read_back: ReadBack, *options: str) -> None:
    """What the engine pushes with its own command is what skopeo reads back."""
    local, remote = f"localhost/parts-{engine.command}:1", f"{registry.address}/parts/{engine.command}:1"
    image_id = engine.build_random(local, [70_000, 1_000])
    engine.run("tag", local, remote)
    engine.run("push", *options, remote)
    image = read_back(remote)
    assert image.config_digest == image_id
    assert [layer.diff_id for layer in image.layers] == engine.diff_ids(local)
    assert image.layers[0].size > 70_000
    assert inspect_raw(remote) == image.manifest


def test_docker_image_comes_back(
    dockerd: Docker, docker_registry: DockerRegistry, read_back: ReadBack
) -> None:
    _push_and_read(dockerd, docker_registry, read_back)


def test_podman_image_comes_back(
    podman: Podman, docker_registry: DockerRegistry, read_back: ReadBack
) -> None:
    _push_and_read(podman, docker_registry, read_back, "--tls-verify=false")


def test_docker_images_outlive_a_killed_daemon() -> None:
    require("dockerd", "docker", root=True)
    with Docker() as docker:
        image_id = docker.build("localhost/kept:1", {"file": b"x" * 100})
        docker.stop(kill=True)
        docker.start()
        assert docker.image_id("localhost/kept:1") == image_id


def test_registry_keeps_sessions_over_a_restart_only_with_a_fixed_secret(
    make_docker_registry: Callable[..., DockerRegistry],
) -> None:
    for secret, expected in ((None, 404), ("fixed", 204)):
        registry = make_docker_registry(secret=secret)
        location = requests.post(f"{registry.url}/v2/parts/app/blobs/uploads/", timeout=10).headers[
            "Location"
        ]
        registry.restart()
        assert requests.get(location, timeout=10).status_code == expected


def test_registry_with_relative_locations(make_docker_registry: Callable[..., DockerRegistry]) -> None:
    registry = make_docker_registry(relative_urls=True)
    opened = requests.post(f"{registry.url}/v2/parts/app/blobs/uploads/", timeout=10)
    assert opened.headers["Location"].startswith("/v2/parts/app/blobs/uploads/")


def test_registry_with_credentials(make_docker_registry: Callable[..., DockerRegistry]) -> None:
    registry = make_docker_registry(authenticated=True)
    assert requests.get(f"{registry.url}/v2/", timeout=10).status_code == 401
    assert requests.get(f"{registry.url}/v2/", auth=CREDENTIALS, timeout=10).status_code == 200


def test_stopped_registry_refuses_connections(make_docker_registry: Callable[..., DockerRegistry]) -> None:
    registry = make_docker_registry()
    registry.stop()
    with pytest.raises(requests.ConnectionError, match="refused"):
        requests.get(f"{registry.url}/v2/", timeout=10)
