"""From one real registry to another: images as skopeo writes them, read back with skopeo."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pusher.oci.digest import of_bytes
from pusher.oci.platform import Platform
from pusher.sources.base import Choice
from tests.support.docker_registry import CREDENTIALS, DockerRegistry
from tests.support.home import Home
from tests.support.images import Image, make_image, write_archive
from tests.support.real import ReadBack, require

_ACCEPT = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home", chunk_size=150_000) as home:
        yield home


@pytest.fixture
def origin(make_docker_registry: Callable[..., DockerRegistry]) -> DockerRegistry:
    return make_docker_registry()


@pytest.fixture
def image() -> Image:
    return make_image(700_000, 30_000, 1_000)


def _copied(archive: Path, origin: DockerRegistry, name: str, kind: str) -> str:
    """The image of an archive as skopeo pushes it; its reference."""
    require("skopeo")
    reference = f"{origin.address}/{name}"
    command = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--format", kind]
    subprocess.run([*command, f"docker-archive:{archive}", f"docker://{reference}"], check=True)
    return reference


@pytest.mark.parametrize("kind", ["oci", "v2s2"])
def test_a_copy_has_the_digest_of_its_original(
    home: Home,
    origin: DockerRegistry,
    docker_registry: DockerRegistry,
    read_back: ReadBack,
    image: Image,
    tmp_path: Path,
    kind: str,
) -> None:
    source = _copied(write_archive(tmp_path / "app.tar", image), origin, "team/app:1", kind)
    to = f"{docker_registry.address}/remote/{kind}:1"
    job = home.push(f"docker://{source}", to)
    there, here = read_back(source), read_back(to)
    assert (here.digest, here.manifest) == (there.digest, there.manifest)
    assert here == there
    assert job.digest == here.digest
    assert [layer.diff_id for layer in here.layers] == list(image.diff_ids)
    home.assert_clean()


def test_on_one_registry_nothing_is_fetched_and_nothing_sent(
    home: Home, origin: DockerRegistry, read_back: ReadBack, image: Image, tmp_path: Path
) -> None:
    source = _copied(write_archive(tmp_path / "app.tar", image), origin, "team/app:1", "oci")
    to = f"{origin.address}/other/app:1"
    job = home.push(f"docker://{source}", to)
    assert read_back(to) == read_back(source)
    assert {layer.state for layer in home.store.blobs.of_job(job.id)} == {"mounted"}
    assert home.figures(job.id)[2] == len(read_back(to).manifest)


def test_by_digest_with_a_login(
    home: Home,
    make_docker_registry: Callable[..., DockerRegistry],
    docker_registry: DockerRegistry,
    read_back: ReadBack,
    image: Image,
    tmp_path: Path,
) -> None:
    """The login of the source is found where Docker keeps it, and goes there only."""
    require("skopeo")
    guarded = make_docker_registry(authenticated=True)
    reference = f"{guarded.address}/team/app"
    login = ["--dest-creds", ":".join(CREDENTIALS), "--dest-tls-verify=false"]
    archive = write_archive(tmp_path / "app.tar", image)
    subprocess.run(
        ["skopeo", "copy", "--quiet", *login, f"docker-archive:{archive}", f"docker://{reference}:1"],
        check=True,
    )
    digest = read_back(f"{reference}:1", credentials=CREDENTIALS).digest
    config = tmp_path / "config.json"
    auth = b64encode(":".join(CREDENTIALS).encode()).decode()
    config.write_text(json.dumps({"auths": {guarded.address: {"auth": auth}}}))
    home.settings = replace(home.settings, docker_config=config)
    to = f"{docker_registry.address}/remote/guarded:1"
    assert home.push(f"docker://{reference}@{digest}", to).digest == digest == read_back(to).digest


def test_an_index_and_one_platform_of_it(
    home: Home, origin: DockerRegistry, docker_registry: DockerRegistry, image: Image, tmp_path: Path
) -> None:
    """Two platforms under one index, its bytes as somebody indented them."""
    children = []
    for architecture, size in (("amd64", 200_000), ("arm64", 90_000)):
        one = make_image(size, 500, seed=size)
        archive = write_archive(tmp_path / f"{architecture}.tar", one)
        _copied(archive, origin, f"team/app:{architecture}", "oci")
        raw = _manifest(f"{origin.url}/v2/team/app/manifests/{architecture}")
        platform = {"os": "linux", "architecture": architecture}
        kind = json.loads(raw)["mediaType"] if "mediaType" in json.loads(raw) else _ACCEPT.split(", ")[1]
        children.append({"mediaType": kind, "digest": of_bytes(raw), "size": len(raw), "platform": platform})
    index = json.dumps(
        {"schemaVersion": 2, "mediaType": _ACCEPT.split(",")[0], "manifests": children}, indent=4
    ).encode()
    request = urllib.request.Request(
        f"{origin.url}/v2/team/app/manifests/all",
        data=index,
        method="PUT",
        headers={"Content-Type": _ACCEPT.split(",")[0]},
    )
    urllib.request.urlopen(request).close()
    job = home.push(f"docker://{origin.address}/team/app:all", f"{docker_registry.address}/remote/index:1")
    assert job.digest == of_bytes(index)
    assert _manifest(f"{docker_registry.url}/v2/remote/index/manifests/1") == index
    arm = Choice((Platform.parse("linux/arm64"),))
    to = f"{docker_registry.address}/remote/arm:1"
    job = home.push(f"docker://{origin.address}/team/app:all", to, choice=arm)
    assert job.digest == children[1]["digest"]


def _manifest(url: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": _ACCEPT})) as answer:
        raw: bytes = answer.read()
        return raw
