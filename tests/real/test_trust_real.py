"""Attacks of whoever may write to a registry, or gives images away, on Debian's docker-registry."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pusher.oci import media_types
from tests.support.docker_registry import DockerRegistry
from tests.support.home import Home
from tests.support.images import Image, Layer, make_image, sha256, write_archive
from tests.support.layouts import Layout
from tests.support.real import ReadBack, require
from tests.support.waiting import PATIENCE


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    require("skopeo")
    with Home(tmp_path / "home") as home:
        yield home


def evil_layout(image: Image, folder: Path) -> Path:
    """The image's config over other layers."""
    layout = Layout()
    blobs = [gzip.compress(Layer(b"evil %d" % number).tar) for number, _ in enumerate(image.layers)]
    config = layout.blob(image.config, media_types.OCI_CONFIG)
    layout.add(layout.manifest(config, *(layout.blob(blob, media_types.OCI_LAYER_GZIP) for blob in blobs)))
    return layout.write_folder(folder)


def test_a_strangers_manifest_at_the_tag_is_replaced(
    home: Home, docker_registry: DockerRegistry, read_back: ReadBack, tmp_path: Path
) -> None:
    """The stranger pushes first, with a home of his own: same config, so the same image ID."""
    image = make_image(5000, 300, names=["app:1"])
    archive = write_archive(tmp_path / "app.tar", image)
    to = f"{docker_registry.address}/trust/tag:1"
    with Home(tmp_path / "stranger") as stranger:
        evil = stranger.push(f"oci:{evil_layout(image, tmp_path / 'evil')}", to).digest
    url = f"http://{docker_registry.address}/v2/trust/tag/manifests/1"
    there = requests.get(url, headers={"Accept": media_types.OCI_MANIFEST}, timeout=PATIENCE)
    assert json.loads(there.content)["config"]["digest"] == image.config_digest
    job = home.push(archive, to)
    read = read_back(to)  # which compares every layer with its diff ID
    assert read.digest == job.digest != evil
    assert read.config == image.config
    assert read.config_diff_ids == list(image.diff_ids)


def test_a_layout_does_not_choose_what_stands_for_a_layer(
    home: Home, docker_registry: DockerRegistry, read_back: ReadBack, tmp_path: Path
) -> None:
    """The same user pushes a stranger's layout and later an image of his own with the same diff IDs."""
    image = make_image(4000, 200, names=["app:1"], seed=5)
    home.push(f"oci:{evil_layout(image, tmp_path / 'evil')}", f"{docker_registry.address}/trust/evil:1")
    home.push(f"docker://{docker_registry.address}/trust/evil:1", f"{docker_registry.address}/trust/copied:1")
    to = f"{docker_registry.address}/trust/own:1"
    home.push(write_archive(tmp_path / "app.tar", image), to)
    read = read_back(to)
    assert sha256(read.config) == image.config_digest
    assert [layer.diff_id for layer in read.layers] == list(image.diff_ids)
