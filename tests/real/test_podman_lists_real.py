"""Podman's manifest lists, beside what Podman itself pushes, read back with skopeo."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pusher.errors import ImageIncomplete, ImageUnsupported
from pusher.oci.platform import Platform
from pusher.sources.base import Choice
from pusher.sources.engine import local_engine
from pusher.sources.engine.podman_manifest import listed_digests
from tests.support.docker_registry import DockerRegistry
from tests.support.engines import Podman
from tests.support.home import Home
from tests.support.real import require
from tests.support.skopeo import inspect_raw

LIST = "localhost/list:1"
DOCKERFILE = "FROM scratch\nARG TARGETARCH\nCOPY data /data\nLABEL for=$TARGETARCH\n"
PLATFORMS = ("linux/amd64", "linux/arm64/v8")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home") as home:
        yield home


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Podman:
    """A Podman with a list of an image for each platform, which are ``localhost/<architecture>:1``."""
    require("podman", root=True)
    (tmp_path / "podman").mkdir()
    podman = Podman(tmp_path / "podman")
    for name, value in podman.env.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "data").write_bytes(bytes(range(256)) * 400)
    podman.run("manifest", "create", LIST)
    for platform in PLATFORMS:
        _, architecture, *variant = platform.split("/")
        # the cache of a build does not tell platforms apart
        options = ["--quiet", "--layers=false", "--network=none", f"--platform={platform}"]
        named = [f"--annotation=com.example={platform}", f"--tag=localhost/{architecture}:1"]
        podman.run("build", *options, *named, str(tmp_path))
        more = [f"--annotation=com.example.child={platform}", *(f"--variant={name}" for name in variant)]
        podman.run("manifest", "add", *more, LIST, f"containers-storage:localhost/{architecture}:1")
    return podman


def as_listed(reference: str) -> list[Any]:
    """A list and its manifests, without what depends on how layers were compressed."""
    found = [json.loads(inspect_raw(reference))]
    for child in found[0]["manifests"]:
        digest = child.pop("digest")
        child.pop("size")
        found.append(json.loads(inspect_raw(f"{reference.rpartition(':')[0]}@{digest}")))
        for layer in found[-1]["layers"]:
            del layer["digest"], layer["size"]
    return found


def test_a_list_is_pushed_as_podman_does_it(
    home: Home, made: Podman, docker_registry: DockerRegistry
) -> None:
    ours, theirs = f"{docker_registry.address}/list:ours", f"{docker_registry.address}/list:theirs"
    made.run("manifest", "push", "--quiet", "--all", "--tls-verify=false", LIST, f"docker://{theirs}")
    for typed in (f"podman:{LIST}", "podman:list:1", "containers-storage:list:1"):
        home.push(typed, ours)
        assert as_listed(ours) == as_listed(theirs)
    made.run("pull", "--quiet", "--tls-verify=false", f"--platform={PLATFORMS[1]}", ours)
    assert made.image_id(ours) == made.image_id("localhost/arm64:1")


def test_what_only_podman_can_read_is_read_by_podman(
    home: Home, made: Podman, docker_registry: DockerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers of users' images belong to users of their containers."""
    ours, theirs = f"{docker_registry.address}/list:saved", f"{docker_registry.address}/list:theirs"
    made.run("manifest", "push", "--quiet", "--all", "--tls-verify=false", LIST, f"docker://{theirs}")
    monkeypatch.setattr(local_engine, "is_root", lambda: False)
    home.push(f"podman:{LIST}", ours)
    assert as_listed(ours) == as_listed(theirs)


def test_an_image_that_is_only_in_a_registry(
    home: Home, made: Podman, docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    there = f"docker://{docker_registry.address}/arm64:1"
    made.run("push", "--quiet", "--tls-verify=false", "localhost/arm64:1", there)
    made.run("manifest", "rm", LIST)
    made.run("manifest", "create", LIST)
    made.run("manifest", "add", LIST, "containers-storage:localhost/amd64:1")
    made.run("manifest", "add", "--tls-verify=false", LIST, there)
    to = f"{docker_registry.address}/partial:1"
    with pytest.raises(ImageIncomplete, match="linux/arm64") as caught:
        home.enqueue(f"podman:{LIST}", to)
    assert f"podman manifest push --all {LIST} oci:list:1" in caught.value.hint
    home.push(f"podman:{LIST}", to, choice=Choice((Platform.parse("linux/amd64"),)))
    assert json.loads(inspect_raw(to))["annotations"]["com.example"] == "linux/amd64"
    home.push(f"podman:{LIST}", to, choice=Choice(skip_missing=True))
    assert len(json.loads(inspect_raw(to))["manifests"]) == 1
    made.run("manifest", "push", "--all", "--tls-verify=false", LIST, f"oci:{tmp_path}/list:1")
    home.push(f"oci:{tmp_path}/list:1", to)
    assert len(json.loads(inspect_raw(to))["manifests"]) == 2


def test_a_list_whose_disk_is_elsewhere(
    home: Home, made: Podman, docker_registry: DockerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another Podman's disk, which may have another list of that name."""
    monkeypatch.setattr(local_engine, "listed_digests", lambda *asked: listed_digests(*asked)[:1])
    with pytest.raises(ImageUnsupported, match="is another Podman's") as caught:
        home.enqueue(f"podman:{LIST}", f"{docker_registry.address}/list:1")
    assert f"podman manifest push --all {LIST} oci:list:1" in caught.value.hint


def test_single_images_are_still_single(home: Home, made: Podman, docker_registry: DockerRegistry) -> None:
    to = f"{docker_registry.address}/single:1"
    for typed in (
        "podman:localhost/arm64:1",
        "podman:arm64:1",
        f"podman:{made.image_id('localhost/arm64:1')}",
    ):
        home.push(typed, to)
        assert json.loads(inspect_raw(to))["config"]["digest"] == made.image_id("localhost/arm64:1")


def test_an_image_without_layers_beside_a_list(
    home: Home, made: Podman, docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    """Podman takes the list for an image of which it is made, and fails to describe it."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\nLABEL only=labels\n")
    made.run("build", "--quiet", "--network=none", "--tag=localhost/labels:1", str(tmp_path))
    to = f"{docker_registry.address}/labels:1"
    for typed in ("podman:localhost/labels:1", "containers-storage:labels:1"):
        home.push(typed, to)
        assert json.loads(inspect_raw(to))["layers"] == []
