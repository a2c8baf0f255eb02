"""Indexes and artifacts to Debian's docker-registry, read back with skopeo: every byte as it was."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from pusher.errors import ExitCode
from pusher.sources.base import Choice
from tests.support.docker_registry import DockerRegistry
from tests.support.home import Home
from tests.support.images import OCI_CONFIG, OCI_LAYER, make_image, make_layer
from tests.support.layouts import DOCKER_LIST, EMPTY, FOREIGN, Descriptor, Layout, two_platforms
from tests.support.real import require
from tests.support.skopeo import inspect_raw
from tests.support.waiting import PATIENCE


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    require("skopeo")
    with Home(tmp_path / "home") as home:
        yield home


def pushed(home: Home, layout: Layout, folder: Path, to: str, choice: Choice | None = None) -> str:
    """Push a layout's one image; the digest that the job ends with."""
    image = f"oci:{layout.write_folder(folder / 'layout')}"
    job = home.push(image, to, **({} if choice is None else {"choice": choice}))
    home.assert_clean()
    assert job.digest is not None
    return job.digest


def copied(reference: str, folder: Path) -> dict[str, bytes]:
    """All that skopeo pulls of a reference, by digest."""
    target = folder / "copied"
    command = ["skopeo", "copy", "--quiet", "--all", "--src-tls-verify=false", "--src-no-creds"]
    done = subprocess.run(
        [*command, f"docker://{reference}", f"oci:{target}:copy"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    blobs = target / "blobs/sha256"
    return {f"sha256:{path.name}": path.read_bytes() for path in blobs.iterdir()}


def test_an_index_with_attestations(home: Home, docker_registry: DockerRegistry, tmp_path: Path) -> None:
    layout, root = two_platforms()
    to = f"{docker_registry.address}/documents/index:1"
    assert pushed(home, layout, tmp_path, to) == root["digest"]
    assert inspect_raw(to) == layout.blobs[root["digest"]]
    assert copied(to, tmp_path) == layout.blobs


def test_docker_manifest_list(home: Home, docker_registry: DockerRegistry, tmp_path: Path) -> None:
    layout, _ = two_platforms()
    layout.listed.clear()
    index = json.loads(next(data for data in layout.blobs.values() if b'"manifests"' in data))
    root = layout.add(layout.index(*index["manifests"], media_type=DOCKER_LIST), "app:2")
    to = f"{docker_registry.address}/documents/list:1"
    assert pushed(home, layout, tmp_path, to) == root["digest"]
    assert inspect_raw(to) == layout.blobs[root["digest"]]


def test_an_artifact_and_what_refers_to_it(
    home: Home, docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    """The registry knows nothing of referrers: the list is at the tag that the specification names."""
    layout = Layout()
    image = layout.image(make_image(900, 30))
    reports = [layout.artifact(b"report %d" % n, image) for n in range(2)]
    repository = f"{docker_registry.address}/documents/artifact"
    for number, root in enumerate((image, *reports)):
        layout.listed.clear()
        layout.add(root, f"app:{number}")
        to = f"{repository}:{number}"
        assert pushed(home, layout, tmp_path / str(number), to) == root["digest"]
        assert inspect_raw(to) == layout.blobs[root["digest"]]
    listed = json.loads(inspect_raw(f"{repository}:{image['digest'].replace(':', '-')}"))
    assert [entry["digest"] for entry in listed["manifests"]] == [report["digest"] for report in reports]


def test_an_artifact_of_nothing_but_an_empty_config(
    home: Home, docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    layout = Layout()
    empty = layout.blob(b"{}", EMPTY)
    root = layout.add(layout.manifest(empty, empty, artifactType="application/x.note"), "app:1")
    to = f"{docker_registry.address}/documents/empty:1"
    assert pushed(home, layout, tmp_path, to) == root["digest"]
    assert inspect_raw(to) == layout.blobs[root["digest"]]


def test_sha512(home: Home, docker_registry: DockerRegistry, tmp_path: Path) -> None:
    """Config and layers go by sha512 digests, from a folder and from a registry; this registry takes no
    manifest under such a digest."""
    layout = Layout()
    image = make_image(70_000, 300)
    config = layout.blob(image.config, OCI_CONFIG, algorithm="sha512")
    layers = [layout.blob(each.gzip, f"{OCI_LAYER}+gzip", algorithm="sha512") for each in image.layers]
    root = layout.add(layout.manifest(config, *layers))
    to = f"{docker_registry.address}/sha512/app:1"
    assert pushed(home, layout, tmp_path, to) == root["digest"]
    assert inspect_raw(to) == layout.blobs[root["digest"]]
    for blob in (config, *layers):
        url = f"http://{docker_registry.address}/v2/sha512/app/blobs/{blob['digest']}"
        assert requests.get(url, timeout=PATIENCE).content == layout.blobs[blob["digest"]]
    again = home.push(f"docker://{to}", f"{docker_registry.address}/sha512/copied:1")
    assert again.digest == root["digest"]
    home.assert_clean()


def test_a_build_cache(home: Home, docker_registry: DockerRegistry, tmp_path: Path) -> None:
    layout = Layout()
    layers = [layout.blob(bytes(range(n, n + 90)), "application/x.layer") for n in range(2)]
    config = layout.blob(b'{"layers": []}', "application/vnd.buildkit.cacheconfig.v0")
    root = layout.add(layout.index(*layers, config), "cache:1")
    to = f"{docker_registry.address}/documents/cache:1"
    assert pushed(home, layout, tmp_path, to) == root["digest"]
    assert inspect_raw(to) == layout.blobs[root["digest"]]
    again = home.push(f"docker://{to}", f"{docker_registry.address}/documents/copied:1")
    assert again.digest == root["digest"]


def test_zero_byte_layers_and_127_of_them(
    home: Home, docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    layout = Layout()
    config = layout.blob(b'{"made": "by hand"}', "application/x.config")
    layers = [layout.blob(b"%d" % (n % 60), "application/x.part") for n in range(126)]
    root = layout.add(layout.manifest(config, layout.blob(b"", "application/x.part"), *layers), "app:1")
    to = f"{docker_registry.address}/documents/many:1"
    assert pushed(home, layout, tmp_path, to) == root["digest"]
    assert copied(to, tmp_path) == layout.blobs


def with_foreign_layer() -> tuple[Layout, Descriptor, Descriptor]:
    """An image of one layer of its own and one that lies elsewhere; its manifest and that layer."""
    layout = Layout()
    foreign = layout.blob(make_layer(700, seed=9).gzip, FOREIGN, urls=["https://example.com/layer"])
    config = layout.blob(make_image(30).config, "application/vnd.docker.container.image.v1+json")
    own = layout.blob(make_layer(30).gzip, "application/vnd.docker.image.rootfs.diff.tar.gzip")
    docker = "application/vnd.docker.distribution.manifest.v2+json"
    return layout, layout.add(layout.manifest(config, foreign, own, mediaType=docker), "app:1"), foreign


@pytest.mark.parametrize("sent", [False, True])
def test_foreign_layers(
    home: Home, make_docker_registry: Callable[..., DockerRegistry], tmp_path: Path, sent: bool
) -> None:
    registry = make_docker_registry(foreign=True)
    layout, root, foreign = with_foreign_layer()
    to = f"{registry.address}/foreign:1"
    assert pushed(home, layout, tmp_path, to, Choice(foreign=sent)) == root["digest"]
    assert inspect_raw(to) == layout.blobs[root["digest"]]
    layers = registry.data / "docker/registry/v2/repositories/foreign/_layers/sha256"
    assert (layers / foreign["digest"].removeprefix("sha256:")).is_dir() == sent


@pytest.mark.parametrize("sent", [False, True])
def test_a_registry_that_takes_no_foreign_layers(
    home: Home, docker_registry: DockerRegistry, tmp_path: Path, sent: bool
) -> None:
    """distribution's default: it says 500 and that the layer is unknown, even when it is there."""
    layout, _, foreign = with_foreign_layer()
    image = f"oci:{layout.write_folder(tmp_path / 'layout')}"
    job = home.enqueue(
        image, f"{docker_registry.address}/no-foreign-{sent}:1".lower(), choice=Choice(foreign=sent)
    )
    assert home.run([job.id]).exit_code == ExitCode.REFUSED
    error = home.job(job.id).error
    assert error is not None
    assert sent or foreign["digest"] in error.message
    assert ("validation.manifests.urls" in error.hint) == (not sent)
