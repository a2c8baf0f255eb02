"""The real parts themselves: what the other tests here stand on."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable

import pytest
import requests

from pusher.oci import media_types
from pusher.oci.digest import of_bytes
from pusher.oci.manifest import Descriptor
from tests.support.docker_registry import CREDENTIALS, DockerRegistry
from tests.support.engines import Docker, Engine, Podman
from tests.support.fakeregistry import FakeRegistry
from tests.support.real import ReadBack, require
from tests.support.skopeo import inspect_raw
from tests.support.waiting import PATIENCE


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
        location = requests.post(f"{registry.url}/v2/parts/app/blobs/uploads/", timeout=PATIENCE).headers[
            "Location"
        ]
        registry.restart()
        assert requests.get(location, timeout=PATIENCE).status_code == expected


def test_registry_with_relative_locations(make_docker_registry: Callable[..., DockerRegistry]) -> None:
    registry = make_docker_registry(relative_urls=True)
    opened = requests.post(f"{registry.url}/v2/parts/app/blobs/uploads/", timeout=PATIENCE)
    assert opened.headers["Location"].startswith("/v2/parts/app/blobs/uploads/")


def test_registry_with_credentials(make_docker_registry: Callable[..., DockerRegistry]) -> None:
    registry = make_docker_registry(authenticated=True)
    assert requests.get(f"{registry.url}/v2/", timeout=PATIENCE).status_code == 401
    assert requests.get(f"{registry.url}/v2/", auth=CREDENTIALS, timeout=PATIENCE).status_code == 200


def test_stopped_registry_refuses_connections(make_docker_registry: Callable[..., DockerRegistry]) -> None:
    registry = make_docker_registry()
    registry.stop()
    with pytest.raises(requests.ConnectionError, match="refused"):
        requests.get(f"{registry.url}/v2/", timeout=PATIENCE)


@pytest.mark.parametrize("form", ["gzip", "gzip members", "tar"])
def test_read_back_from_the_fake_registry(read_back: ReadBack, form: str) -> None:
    half = random.Random(1).randbytes(50_000)
    blob = {
        "gzip": gzip.compress(half + half),
        "gzip members": gzip.compress(half) + gzip.compress(half),
        "tar": half + half,
    }[form]
    with FakeRegistry() as registry:
        raw = _put_image(registry, blob, of_bytes(half + half))
        image = read_back(f"{registry.address}/team/app:1")
    assert image.manifest == raw
    assert image.digest == of_bytes(raw)
    assert [(layer.digest, layer.size) for layer in image.layers] == [(of_bytes(blob), len(blob))]
    assert image.config_diff_ids == [of_bytes(half + half)]


def test_read_back_finds_a_wrong_diff_id(read_back: ReadBack) -> None:
    with FakeRegistry() as registry:
        _put_image(registry, gzip.compress(b"layer"), of_bytes(b"another layer"))
        with pytest.raises(AssertionError):
            read_back(f"{registry.address}/team/app:1")


def _put_image(registry: FakeRegistry, blob: bytes, diff_id: str) -> bytes:
    """Put an image of one layer into team/app:1; the bytes of its manifest."""
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    ).encode()
    layer_type = (
        media_types.OCI_LAYER_GZIP if blob.startswith(media_types.GZIP_MAGIC) else media_types.OCI_LAYER
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": Descriptor(media_types.OCI_CONFIG, of_bytes(config), len(config)).to_json(),
        "layers": [Descriptor(layer_type, of_bytes(blob), len(blob)).to_json()],
    }
    raw = json.dumps(manifest).encode()
    registry.add_blob("team/app", config)
    registry.add_blob("team/app", blob)
    registry.add_manifest("team/app", "1", media_types.OCI_MANIFEST, raw)
    return raw
