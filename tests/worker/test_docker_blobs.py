"""What Docker pushed to the same tag is found and used: nothing of it is exported or sent again.

What only the tag says of a layer is not believed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pusher.oci import media_types
from pusher.worker.dry_run import plan_pushes
from pusher.worker.enqueue import prepare
from tests.support.fakeregistry import FakeRegistry, Fault, On, bad_gateway
from tests.support.home import Home, manifest_digest, pushed
from tests.support.images import Image, Layer, make_layer, sha256, write_archive
from tests.support.layouts import Layout
from tests.support.storage import DockerRoot


@pytest.fixture
def docker(home: Home, tmp_path: Path) -> DockerRoot:
    """Docker's data root on this machine."""
    root = DockerRoot(tmp_path / "docker")
    home.settings = replace(home.settings, docker_root=root.root)
    return root


def manifest_of(image: Image, blobs: list[bytes], media_type: str) -> dict[str, Any]:
    """A manifest of Docker's, with these blobs as the layers."""
    layers = [{"mediaType": media_type, "size": len(blob), "digest": sha256(blob)} for blob in blobs]
    config = {
        "mediaType": media_types.DOCKER_CONFIG,
        "size": len(image.config),
        "digest": image.config_digest,
    }
    return {"schemaVersion": 2, "mediaType": media_types.DOCKER_MANIFEST, "config": config, "layers": layers}


def put_at_tag(registry: FakeRegistry, image: Image, blobs: list[bytes], raw: bytes) -> str:
    """Have the registry hold a manifest with all it needs; its digest."""
    registry.add_blob("app", image.config)
    for blob in blobs:
        registry.add_blob("app", blob)
    registry.add_manifest("app", "1", media_types.DOCKER_MANIFEST, raw)
    return sha256(raw)


def push_as_docker_does(
    registry: FakeRegistry, docker: DockerRoot | None, image: Image, media_type: str
) -> str:
    """The image with blobs that pusher would never make; returns its manifest's digest."""
    blobs = [layer.gzip for layer in image.layers]
    if docker is not None:
        for layer in image.layers:
            docker.record(layer.diff_id, layer.digest)
    raw = json.dumps(manifest_of(image, blobs, media_type), indent=3).encode()
    return put_at_tag(registry, image, blobs, raw)


@pytest.mark.parametrize("media_type", [media_types.DOCKER_LAYER_GZIP, media_types.OCI_LAYER_GZIP])
def test_an_image_that_docker_pushed_is_there(
    home: Home, registry: FakeRegistry, docker: DockerRoot, image: Image, archive: Path, media_type: str
) -> None:
    digest = push_as_docker_does(registry, docker, image, media_type)
    job = home.push(archive, f"{registry.address}/app:1")
    assert job.digest == digest == manifest_digest(registry, "app", "1"), "its manifest stays as it is"
    assert registry.requests(On.OPEN, On.CHUNK) == []
    assert [digest for digest, _, _ in home.spool.blobs()] == [image.config_digest], "nothing was compressed"


def test_a_dry_run_finds_it_too(
    home: Home, registry: FakeRegistry, docker: DockerRoot, image: Image, archive: Path
) -> None:
    push_as_docker_does(registry, docker, image, media_types.DOCKER_LAYER_GZIP)
    prepared = prepare(None, str(archive), settings=home.settings, to=[f"{registry.address}/app:1"])
    (plan,) = plan_pushes([prepared], None, home.settings)
    assert (plan.tag, {blob.action for blob in plan.blobs}) == ("current", {"exists"})
    zstd = replace(home.settings, compression="zstd")
    (plan,) = plan_pushes([prepared], None, zstd)
    assert (plan.tag, {blob.action for blob in plan.blobs}) == ("same_config", {"exists", "compress"})


def test_only_the_new_layer_of_a_new_version_is_sent(
    home: Home, registry: FakeRegistry, docker: DockerRoot, image: Image, tmp_path: Path
) -> None:
    push_as_docker_does(registry, docker, image, media_types.DOCKER_LAYER_GZIP)
    newer = Image((*image.layers, make_layer(3000, seed=99)), names=image.names)
    job = home.push(write_archive(tmp_path / "newer.tar", newer), f"{registry.address}/app:1")
    pushed(registry, "app", "1", newer)
    states = [str(layer.state) for layer in home.store.blobs.of_job(job.id)]
    assert states == ["uploaded", *["exists"] * len(image.layers), "uploaded"]


def test_a_blob_that_is_gone_is_made_anew(
    home: Home, registry: FakeRegistry, docker: DockerRoot, image: Image, archive: Path
) -> None:
    push_as_docker_does(registry, docker, image, media_types.DOCKER_LAYER_GZIP)
    registry.remove_blob("app", image.layers[0].digest)
    home.push(archive, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)


@pytest.mark.parametrize(
    "media_type",
    [media_types.DOCKER_FOREIGN_LAYER, "application/x-unknown", media_types.OCI_LAYER_ZSTD],
)
def test_layers_of_a_kind_that_does_not_fit_are_left_alone(
    home: Home, registry: FakeRegistry, docker: DockerRoot, image: Image, archive: Path, media_type: str
) -> None:
    push_as_docker_does(registry, docker, image, media_type)
    home.push(archive, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)
    found = json.loads(registry.manifests["app"]["1"][1])
    assert {layer["mediaType"] for layer in found["layers"]} == {media_types.DOCKER_LAYER_GZIP}


@pytest.mark.parametrize("raw", [b"{}", b"[]", b"not JSON", b""])
def test_nonsense_at_the_tag_does_no_harm(
    home: Home, registry: FakeRegistry, docker: DockerRoot, image: Image, archive: Path, raw: bytes
) -> None:
    docker.record(image.diff_ids[0], image.layers[0].digest)
    registry.add_manifest("app", "1", media_types.DOCKER_MANIFEST, raw)
    home.push(archive, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)


@pytest.mark.parametrize("kind", [On.GET_MANIFEST, On.GET_BLOB])
def test_a_registry_that_does_not_show_it_is_pushed_to_all_the_same(
    home: Home, registry: FakeRegistry, docker: DockerRoot, image: Image, archive: Path, kind: On
) -> None:
    push_as_docker_does(registry, docker, image, media_types.DOCKER_LAYER_GZIP)
    registry.faults.add(Fault(kind, bad_gateway(500), times=None))
    home.push(archive, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)


def test_what_one_registry_says_does_not_count_at_another(
    home: Home, registry: FakeRegistry, docker: DockerRoot, image: Image, archive: Path
) -> None:
    push_as_docker_does(registry, docker, image, media_types.DOCKER_LAYER_GZIP)
    home.push(archive, f"{registry.address}/app:1")
    assert not any(home.store.known_blobs.of_layers(image.diff_ids).values())


# --- what is not believed ---------------------------------------------------------------------------------


def evil_blobs(image: Image) -> list[bytes]:
    """What a stranger would like to stand for the image's layers."""
    return [gzip.compress(Layer(b"evil %d" % n).tar) for n, _ in enumerate(image.layers)]


@pytest.mark.parametrize("indent", [None, 3])
def test_the_tag_of_a_stranger_is_mended(
    home: Home, registry: FakeRegistry, docker: DockerRoot, image: Image, archive: Path, indent: int | None
) -> None:
    """The same config over other blobs: nobody who pulls could tell by the image ID."""
    for layer in image.layers:
        docker.record(layer.diff_id, layer.digest)
    blobs = evil_blobs(image)
    manifest = manifest_of(image, blobs, media_types.DOCKER_LAYER_GZIP)
    evil = put_at_tag(registry, image, blobs, json.dumps(manifest, indent=indent).encode())
    job = home.push(archive, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)
    assert evil != job.digest == manifest_digest(registry, "app", "1")


def test_what_another_tool_pushed_is_compressed_and_looked_for_under_its_own_digest(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, tmp_path: Path
) -> None:
    """Nobody on this machine knows whether those blobs are the layers."""
    theirs = push_as_docker_does(registry, None, image, media_types.DOCKER_LAYER_GZIP)
    job = home.push(archive, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)
    assert job.digest != theirs
    sent = len(registry.requests(On.CHUNK))
    assert home.push(archive, f"{registry.address}/app:1").digest == job.digest
    assert len(registry.requests(On.CHUNK)) == sent, "and the second time nothing is sent"


def _wrong_size(manifest: dict[str, Any]) -> bytes:
    manifest["layers"][0]["size"] += 1
    return json.dumps(manifest).encode()


def _wrong_size_of_the_config(manifest: dict[str, Any]) -> bytes:
    manifest["config"]["size"] += 1
    return json.dumps(manifest).encode()


def _says_more(manifest: dict[str, Any]) -> bytes:
    manifest["annotations"] = {"org.opencontainers.image.source": "https://evil.example"}
    return json.dumps(manifest).encode()


def _elsewhere(manifest: dict[str, Any]) -> bytes:
    manifest["layers"][0]["urls"] = ["https://evil.example/layer"]
    return json.dumps(manifest).encode()


def _two_lists(manifest: dict[str, Any]) -> bytes:
    return json.dumps(manifest).replace('"layers"', '"layers": [], "layers"', 1).encode()


def _other_order(manifest: dict[str, Any]) -> bytes:
    manifest["layers"].reverse()
    return json.dumps(manifest).encode()


@pytest.mark.parametrize(
    "lie", [_wrong_size, _wrong_size_of_the_config, _says_more, _elsewhere, _two_lists, _other_order]
)
def test_a_manifest_that_says_anything_else_is_replaced(
    home: Home,
    registry: FakeRegistry,
    docker: DockerRoot,
    image: Image,
    archive: Path,
    lie: Callable[[dict[str, Any]], bytes],
) -> None:
    """The blobs are the layers, by Docker's records; what is said about them is not."""
    for layer in image.layers:
        docker.record(layer.diff_id, layer.digest)
    blobs = [layer.gzip for layer in image.layers]
    theirs = put_at_tag(registry, image, blobs, lie(manifest_of(image, blobs, media_types.DOCKER_LAYER_GZIP)))
    job = home.push(archive, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)
    assert job.digest != theirs


@pytest.mark.parametrize("place", ["", "image/overlay2", "image/overlay2/distribution", "file"])
def test_records_that_others_may_write_are_none(
    home: Home, registry: FakeRegistry, docker: DockerRoot, image: Image, archive: Path, place: str
) -> None:
    blobs = evil_blobs(image)
    files = [
        docker.record(layer.diff_id, sha256(blob)) for layer, blob in zip(image.layers, blobs, strict=True)
    ]
    for path in files if place == "file" else [docker.root / place]:
        path.chmod(0o777)
    manifest = manifest_of(image, blobs, media_types.DOCKER_LAYER_GZIP)
    put_at_tag(registry, image, blobs, json.dumps(manifest).encode())
    home.push(archive, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)


def test_a_link_in_the_records_is_not_followed(
    home: Home, registry: FakeRegistry, docker: DockerRoot, image: Image, archive: Path, tmp_path: Path
) -> None:
    blobs = evil_blobs(image)
    for layer, blob in zip(image.layers, blobs, strict=True):
        docker.record(layer.diff_id, sha256(blob))
    away = (docker.images / "distribution").rename(tmp_path / "away")
    (docker.images / "distribution").symlink_to(away)
    manifest = manifest_of(image, blobs, media_types.DOCKER_LAYER_GZIP)
    put_at_tag(registry, image, blobs, json.dumps(manifest).encode())
    home.push(archive, f"{registry.address}/app:1")
    pushed(registry, "app", "1", image)


# --- what images say of their own blobs -------------------------------------------------------------------


def poisoned(image: Image) -> Layout:
    """An image whose config lists the layers of ``image`` over other blobs."""
    layout = Layout()
    config = layout.blob(image.config, "application/vnd.oci.image.config.v1+json")
    blobs = [layout.blob(blob, media_types.OCI_LAYER_GZIP) for blob in evil_blobs(image)]
    layout.add(layout.manifest(config, *blobs), "evil:1")
    return layout


@pytest.mark.parametrize("kind", ["oci", "oci-archive", "docker"])
def test_what_a_strangers_image_calls_a_layer_is_not_remembered(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, tmp_path: Path, kind: str
) -> None:
    folder = poisoned(image).write_folder(tmp_path / "evil")
    if kind == "oci":
        home.push(f"oci:{folder}", f"{registry.address}/app:evil")
    elif kind == "oci-archive":
        home.push(
            f"oci-archive:{poisoned(image).write_archive(tmp_path / 'evil.tar')}",
            f"{registry.address}/app:evil",
        )
    else:
        with Home(tmp_path / "theirs") as theirs:
            theirs.push(f"oci:{folder}", f"{registry.address}/theirs:evil")
        home.push(f"docker://{registry.address}/theirs:evil", f"{registry.address}/app:evil")
    for repository in ("app", "other"):
        home.push(archive, f"{registry.address}/{repository}:1")
        pushed(registry, repository, "1", image)
    assert all(home.store.known_blobs.of_layers(image.diff_ids).values()), (
        "what was compressed here is remembered"
    )


def test_a_layer_that_was_unpacked_and_compared_is_remembered(
    home: Home, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    """Some tools compress the layers in an archive without a manifest: their diff IDs are computed."""
    home.push(write_archive(tmp_path / "gz.tar", image, shape="compressed"), f"{registry.address}/app:1")
    home.push(write_archive(tmp_path / "app.tar", image), f"{registry.address}/app:2")
    pushed(registry, "app", "2", image)
    assert manifest_digest(registry, "app", "1") == manifest_digest(registry, "app", "2")
    assert home.progress.of("prepared") == [], "nothing was compressed"


def _with_fields(data: bytes, flags: int, fields: bytes) -> bytes:
    return data[:3] + bytes([flags]) + data[4:10] + fields + data[10:]


@pytest.mark.parametrize(
    "odd",
    [
        lambda data: data + b"\0" * 512,
        lambda data: data + gzip.compress(b""),
        lambda data: gzip.compress(b"") + data,
        lambda data: _with_fields(data, 0x08, b"n" * 600 + b"\0"),
        lambda data: _with_fields(data, 0x10, b"comment\0"),
        lambda data: _with_fields(data, 0x04, b"\x04\x00SG\x00\x00"),
        lambda data: _with_fields(data, 0x80, b""),
    ],
    ids=["zeros behind", "a member behind", "a member before", "name", "comment", "extra", "reserved"],
)
def test_what_programs_unpack_in_several_ways_is_not_remembered(
    home: Home, registry: FakeRegistry, image: Image, tmp_path: Path, odd: Callable[[bytes], bytes]
) -> None:
    """Its diff ID is right for us; containerd may find it damaged, and would in every image."""
    theirs = Image(tuple(Layer(layer.tar) for layer in image.layers), names=image.names)
    for layer in theirs.layers:
        vars(layer)["gzip"] = odd(layer.gzip)
    odd_digests = {layer.digest for layer in theirs.layers}
    path = write_archive(tmp_path / "gz.tar", theirs, shape="compressed")
    for repository in ("app", "other"):
        home.push(path, f"{registry.address}/{repository}:1")
        remembered = [
            one for each in home.store.known_blobs.of_layers(image.diff_ids).values() for one in each
        ]
        assert odd_digests.isdisjoint(one.digest for one in remembered)
    job = home.push(write_archive(tmp_path / "app.tar", image), f"{registry.address}/app:2")
    pushed(registry, "app", "2", image)
    used = {layer.digest for layer in home.store.blobs.of_job(job.id)}
    assert used.isdisjoint(odd_digests)
