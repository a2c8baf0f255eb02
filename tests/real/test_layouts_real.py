"""Layouts, folders and archives that real tools wrote, to Debian's docker-registry, read back with skopeo."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pusher.oci.platform import Platform
from pusher.sources.base import Choice
from pusher.store.records import JobRecord
from tests.support.docker_registry import DockerRegistry
from tests.support.engines import Podman
from tests.support.home import Home
from tests.support.images import Image, make_image, make_layer, sha256, write_archive
from tests.support.layouts import Layout, manifest_json, platform_image, two_platforms
from tests.support.real import ReadBack, require
from tests.support.skopeo import ImageRead

NAME = "registry.example.com/team/app:1.2"
IMAGE = make_image(300_000, 1000, 0)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home", chunk_size=100_000) as home:
        yield home


def run(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stderr}"


def made_by_skopeo(to: str, folder: Path) -> str:
    """A copy that skopeo makes of IMAGE; what one would type to push it."""
    require("skopeo")
    saved = write_archive(folder / "saved.tar", IMAGE)
    name = "" if to == "dir" else ":1.2" if to.startswith("oci") else f":{NAME}"
    run("skopeo", "copy", "--quiet", f"docker-archive:{saved}", f"{to}:{folder}/made{name}")
    return f"{to}:{folder}/made"


def is_the_image(read: ImageRead, made: str, job: JobRecord) -> None:
    """See that what was read back is IMAGE, and the manifest that of skopeo's copy if that has one."""
    assert read.digest == job.digest
    assert read.config_diff_ids == list(IMAGE.diff_ids)
    if made.startswith("docker-archive"):
        assert read.config == IMAGE.config
    else:  # skopeo writes another config for OCI
        raw = subprocess.run(["skopeo", "inspect", "--raw", made], check=True, capture_output=True).stdout
        assert read.manifest == raw


@pytest.mark.parametrize("to", ["oci", "oci-archive", "dir", "docker-archive"])
def test_what_skopeo_wrote(
    home: Home, docker_registry: DockerRegistry, read_back: ReadBack, tmp_path: Path, to: str
) -> None:
    image = made_by_skopeo(to, tmp_path)
    for number, typed in enumerate((image, image.partition(":")[2])):
        reference = f"{docker_registry.address}/skopeo/{to}:{number}"
        job = home.push(typed, reference)
        is_the_image(read_back(reference), image, job)
    home.assert_clean()


@pytest.mark.parametrize("command", ["gzip", "zstd", "xz", "bzip2"])
@pytest.mark.parametrize("to", ["oci-archive", "docker-archive"])
def test_archives_that_were_compressed(
    home: Home, docker_registry: DockerRegistry, read_back: ReadBack, tmp_path: Path, to: str, command: str
) -> None:
    require(command)
    image = made_by_skopeo(to, tmp_path)
    with Path(image.partition(":")[2]).open("rb") as data, (tmp_path / "packed").open("wb") as packed:
        subprocess.run([command, "-c"], stdin=data, stdout=packed, check=True)
    reference = f"{docker_registry.address}/packed/{to}:{command}"
    job = home.push(tmp_path / "packed", reference)
    is_the_image(read_back(reference), image, job)
    home.assert_clean()


def test_what_umoci_wrote(
    home: Home, docker_registry: DockerRegistry, read_back: ReadBack, tmp_path: Path
) -> None:
    require("umoci", root=True)
    layout = tmp_path / "layout"
    (tmp_path / "file").write_bytes(b"content" * 10_000)
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:1.2")
    run("umoci", "insert", "--image", f"{layout}:1.2", tmp_path / "file", "/file")
    reference = f"{docker_registry.address}/by/umoci:1"
    job = home.push(f"oci:{layout}:1.2", reference)
    read = read_back(reference)
    listed = json.loads((layout / "index.json").read_bytes())["manifests"]
    assert [job.digest] == [child["digest"] for child in listed] == [read.digest]
    assert len(read.layers) == 1


@pytest.mark.parametrize("form", ["oci-archive", "oci-dir", "docker-dir"])
def test_what_podman_saved(
    home: Home,
    podman: Podman,
    docker_registry: DockerRegistry,
    read_back: ReadBack,
    tmp_path: Path,
    form: str,
) -> None:
    local = "localhost/layouts:1"
    image_id = podman.build_random(local, [200_000, 300], seed=5)
    podman.run("save", "--quiet", "--format", form, "--output", str(tmp_path / "saved"), local)
    reference = f"{docker_registry.address}/podman/{form}:1"
    job = home.push(tmp_path / "saved", reference)
    read = read_back(reference)
    assert read.config_digest == image_id
    assert read.config_diff_ids == podman.diff_ids(local)
    assert read.digest == job.digest


@pytest.mark.parametrize("form", ["oci", "oci-archive", "docker-archive", "dir"])
def test_an_index_of_two_platforms_with_attestations(
    home: Home, docker_registry: DockerRegistry, read_back: ReadBack, tmp_path: Path, form: str
) -> None:
    require("skopeo")
    layout, root = two_platforms()
    write: dict[str, Callable[[Path], Path]] = {
        "oci": layout.write_folder,
        "oci-archive": layout.write_archive,
        "docker-archive": lambda path: layout.write_archive(path, manifest_json(platform_image("amd64"))),
        "dir": lambda path: layout.write_dir(path, root),
    }
    image = f"{form}:{write[form](tmp_path / 'image')}"
    reference = f"{docker_registry.address}/index/{form}:1"
    assert home.push(image, reference).digest == root["digest"]

    back = tmp_path / "back"
    run(
        "skopeo", "copy", "--quiet", "--all", "--src-tls-verify=false", f"docker://{reference}", f"dir:{back}"
    )
    found = {sha256(path.read_bytes()) for path in back.iterdir() if path.name != "version"}
    assert found == set(layout.blobs)
    assert sha256((back / "manifest.json").read_bytes()) == root["digest"]

    alone = f"{docker_registry.address}/index/{form}:arm64"
    home.push(image, alone, choice=Choice((Platform("linux", "arm64"),)))
    assert read_back(alone).config == platform_image("arm64").config


def test_127_layers(home: Home, docker_registry: DockerRegistry, read_back: ReadBack, tmp_path: Path) -> None:
    image = Image(tuple(make_layer(50, seed) for seed in range(127)))
    layout = Layout()
    root = layout.add(layout.image(image))
    reference = f"{docker_registry.address}/many/layers:1"
    home.push(layout.write_folder(tmp_path / "layout"), reference)
    read = read_back(reference)
    assert read.digest == root["digest"]
    assert [hashlib.sha256(layer.tar).hexdigest() for layer in image.layers] == [
        diff_id.removeprefix("sha256:") for diff_id in read.config_diff_ids
    ]
