"""Podman's manifest lists: never taken for one of their images; what is advised pushes all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.errors import ImageUnsupported
from tests.support.docker_registry import DockerRegistry
from tests.support.engines import Podman
from tests.support.home import Home
from tests.support.skopeo import inspect_raw


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home") as home:
        yield home


def test_a_list_is_pushed_whole_or_not_at_all(
    home: Home, podman: Podman, docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    podman.build_random("localhost/single:1", [3000, 200], seed=3)
    podman.run("manifest", "create", "localhost/list:1")
    to = f"{docker_registry.address}/podman/list:1"
    for typed in ("podman:localhost/list:1", "podman:list:1", "containers-storage:localhost/list:1"):
        with pytest.raises(ImageUnsupported, match="manifest list"):
            home.enqueue(typed, to)
    podman.run("manifest", "add", "localhost/list:1", "containers-storage:localhost/single:1")
    with pytest.raises(ImageUnsupported, match="manifest list") as caught:
        home.enqueue("podman:localhost/list:1", to)
    assert "podman manifest push --all localhost/list:1 oci:list:1" in caught.value.hint
    podman.run("manifest", "push", "--all", "localhost/list:1", f"oci:{tmp_path}/list:1")
    job = home.push(f"oci:{tmp_path}/list:1", to)
    listed = json.loads(inspect_raw(to))["manifests"]
    assert len(listed) == 1
    assert job.digest is not None
    home.push("podman:localhost/single:1", f"{docker_registry.address}/podman/single:1")
    home.push("podman:single:1", f"{docker_registry.address}/podman/single:2")
    home.push(f"podman:{podman.image_id('localhost/single:1')}", f"{docker_registry.address}/podman/single:3")
