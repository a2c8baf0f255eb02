"""Every compression to Debian's docker-registry, read back by skopeo and pulled by Podman."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.oci import media_types
from tests.support.docker_registry import DockerRegistry
from tests.support.engines import Podman
from tests.support.home import Home
from tests.support.images import Image, Layer, make_image, make_layer, random_bytes, write_archive
from tests.support.real import ReadBack

SIZES = (9_500_000, 50_000, 0)
KINDS = [("gzip", 2), ("gzip", 6), ("zstd", None), ("zstd", 12), ("none", None), ("auto", None)]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home", chunk_size=1_000_000) as home:
        yield home


@pytest.fixture(scope="module")
def image() -> Image:
    """More than a zstd frame, little, and almost nothing."""
    return make_image(*SIZES)


@pytest.mark.parametrize(("kind", "level"), KINDS)
def test_read_back_by_skopeo(
    home: Home,
    docker_registry: DockerRegistry,
    read_back: ReadBack,
    image: Image,
    tmp_path: Path,
    kind: str,
    level: int | None,
) -> None:
    home.store.facts.update(docker_registry.address, link_rate=1_000_000.0)
    to = f"{docker_registry.address}/kinds/{kind}:{level or 0}"
    job = home.push(write_archive(tmp_path / "app.tar", image), to, compression=kind, compression_level=level)
    read = read_back(to)
    assert read.digest == job.digest
    assert read.config == image.config
    assert tuple(layer.diff_id for layer in read.layers) == image.diff_ids
    expected = {"gzip": media_types.DOCKER_MANIFEST, "auto": read.media_type}
    assert read.media_type == expected.get(kind, media_types.OCI_MANIFEST)
    home.assert_clean()


def test_a_layer_of_no_bytes(
    home: Home, docker_registry: DockerRegistry, read_back: ReadBack, tmp_path: Path
) -> None:
    image = Image((make_layer(100), Layer(b"")), names=("app:1",))
    archive = write_archive(tmp_path / "empty.tar", image)
    for kind in ("gzip", "zstd", "none"):
        to = f"{docker_registry.address}/kinds/empty:{kind}"
        home.push(archive, to, compression=kind)
        assert tuple(layer.diff_id for layer in read_back(to).layers) == image.diff_ids


@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
def test_pulled_by_podman(
    home: Home, docker_registry: DockerRegistry, podman: Podman, image: Image, tmp_path: Path, kind: str
) -> None:
    to = f"{docker_registry.address}/kinds/podman:{kind}"
    home.push(write_archive(tmp_path / "app.tar", image), to, compression=kind)
    podman.run("pull", "--quiet", "--tls-verify=false", to)
    assert podman.diff_ids(to) == list(image.diff_ids)
    assert podman.image_id(to) == image.config_digest
    container = podman.run("create", to).strip()
    podman.run("export", "--output", str(tmp_path / "files.tar"), container)
    with tarfile.open(tmp_path / "files.tar") as files:
        for number, size in enumerate(SIZES):
            file = files.extractfile(f"data-{number}.bin")
            assert file is not None
            assert file.read() == random_bytes(size, number)
    podman.run("rm", container)
    podman.remove(to)
