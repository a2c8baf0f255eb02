"""What another tool pushed to the same tag is found and used: nothing of it is exported or sent again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pusher.oci import media_types
from tests.support.fakeregistry import FakeRegistry, Fault, On, bad_gateway
from tests.support.home import Home, manifest_digest, pushed
from tests.support.images import Image, make_layer, sha256, write_archive


def push_as_docker_does(registry: FakeRegistry, image: Image, media_type: str) -> str:
    """The image with blobs that pusher would never make; returns its manifest's digest."""
    registry.add_blob("app", image.config)
    layers = [
        {"mediaType": media_type, "size": len(layer.gzip), "digest": registry.add_blob("app", layer.gzip)}
        for layer in image.layers
    ]
    config = {
        "mediaType": media_types.DOCKER_CONFIG,
        "size": len(image.config),
        "digest": image.config_digest,
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.DOCKER_MANIFEST,
        "config": config,
        "layers": layers,
    }
    raw = json.dumps(manifest, indent=3).encode()
    registry.add_manifest("app", "1", media_types.DOCKER_MANIFEST, raw)
    return sha256(raw)


@pytest.mark.parametrize("media_type", [media_types.DOCKER_LAYER_GZIP, media_types.OCI_LAYER_GZIP])
def test_an_image_that_docker_pushed_is_there(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, media_type: str
) -> None:
    digest = push_as_docker_does(registry, image, media_type)
    job = home.push(archive, f"{registry.address}/app:1")
    assert job.digest == digest == manifest_digest(registry, "app", "1"), "its manifest stays as it is"
    assert registry.requests(On.OPEN, On.CHUNK) == []
    assert [digest for digest, _, _ in home.spool.blobs()] == [image.config_digest], "nothing was compressed"


def test_only_the_new_layer_of_a_new_version_is_sent(
    home: Home, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    push_as_docker_does(registry, image, media_types.DOCKER_LAYER_GZIP)
    newer = Image((*image.layers, make_layer(3000, seed=99)), names=image.names)
    job = home.push(write_archive(tmp_path / "newer.tar", newer), f"{registry.address}/app:1")
    pushed(registry, "app", "1", newer)
    states = [str(layer.state) for layer in home.store.layers.of(job.id)]
    assert states == ["uploaded", *["exists"] * len(image.layers), "uploaded"]


def test_a_blob_that_is_gone_is_made_anew(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    push_as_docker_does(registry, image, media_types.DOCKER_LAYER_GZIP)
    registry.remove_blob("app", image.layers[0].digest)
    home.push(archive, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)


@pytest.mark.parametrize("media_type", [media_types.DOCKER_FOREIGN_LAYER, "application/x-unknown"])
def test_layers_of_a_kind_that_does_not_fit_are_left_alone(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, media_type: str
) -> None:
    push_as_docker_does(registry, image, media_type)
    home.push(archive, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)


@pytest.mark.parametrize("raw", [b"{}", b"[]", b"not JSON", b""])
def test_nonsense_at_the_tag_does_no_harm(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, raw: bytes
) -> None:
    registry.add_manifest("app", "1", media_types.DOCKER_MANIFEST, raw)
    home.push(archive, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)


@pytest.mark.parametrize("kind", [On.GET_MANIFEST, On.GET_BLOB])
def test_a_registry_that_does_not_show_it_is_pushed_to_all_the_same(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, kind: On
) -> None:
    push_as_docker_does(registry, image, media_types.DOCKER_LAYER_GZIP)
    registry.faults.add(Fault(kind, bad_gateway(500), times=None))
    home.push(archive, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)


def test_what_one_registry_says_does_not_count_at_another(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    push_as_docker_does(registry, image, media_types.DOCKER_LAYER_GZIP)
    home.push(archive, f"{registry.address}/app:1")
    assert not any(home.store.memos.all_of(image.diff_ids).values())
