"""Digests and manifests: pure data."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from pusher.oci import media_types
from pusher.oci.digest import hex_of, is_digest, of_bytes, short
from pusher.oci.index import parse_index
from pusher.oci.manifest import Descriptor, build_manifest, diff_ids_of, parse_descriptor, parse_manifest

A = "sha256:" + "a" * 64
B = "sha256:" + "b" * 64


def test_digest_of_bytes() -> None:
    assert of_bytes(b"abc") == "sha256:" + hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", "sha256:" + "a" * 63, "sha256:" + "A" * 64, "sha512:" + "a" * 64, A + "\n", "../" + A],
)
def test_what_is_no_digest_becomes_no_file_name(text: str) -> None:
    assert not is_digest(text)
    with pytest.raises(ValueError):
        hex_of(text)


def test_hex_and_short() -> None:
    assert hex_of(A) == "a" * 64
    assert short(A) == "a" * 12


def test_a_built_manifest_reads_back() -> None:
    config = Descriptor(media_types.DOCKER_CONFIG, A, 7)
    layers = [
        Descriptor(media_types.DOCKER_LAYER_GZIP, B, 5),
        Descriptor(media_types.DOCKER_LAYER_GZIP, A, 7),
    ]
    built = build_manifest(config, layers)
    assert parse_manifest(built.raw) == built
    assert json.loads(built.raw)["mediaType"] == media_types.DOCKER_MANIFEST
    assert built.digest == of_bytes(built.raw)
    assert build_manifest(config, layers).raw == built.raw


@pytest.mark.parametrize(
    ("given", "built"),
    [
        ([], []),
        ([media_types.OCI_LAYER_GZIP], [media_types.DOCKER_LAYER_GZIP]),
        ([media_types.OCI_LAYER_GZIP, media_types.DOCKER_LAYER_GZIP], [media_types.DOCKER_LAYER_GZIP] * 2),
        ([media_types.OCI_LAYER_ZSTD], [media_types.OCI_LAYER_ZSTD]),
        ([media_types.DOCKER_LAYER], [media_types.OCI_LAYER]),
        (
            [media_types.DOCKER_LAYER_GZIP, media_types.OCI_LAYER_ZSTD, media_types.OCI_LAYER],
            [media_types.OCI_LAYER_GZIP, media_types.OCI_LAYER_ZSTD, media_types.OCI_LAYER],
        ),
    ],
)
def test_a_built_manifest_is_dockers_if_every_layer_is_gzip(given: list[str], built: list[str]) -> None:
    layers = [Descriptor(media_type, B, 5) for media_type in given]
    manifest = build_manifest(Descriptor(media_types.DOCKER_CONFIG, A, 7), layers)
    docker = set(built) <= {media_types.DOCKER_LAYER_GZIP}
    assert [layer.media_type for layer in manifest.layers] == built
    assert manifest.media_type == (media_types.DOCKER_MANIFEST if docker else media_types.OCI_MANIFEST)
    assert manifest.config == Descriptor(
        media_types.DOCKER_CONFIG if docker else media_types.OCI_CONFIG, A, 7
    )
    assert parse_manifest(manifest.raw) == manifest


def test_a_manifests_bytes_are_kept_as_they_are() -> None:
    raw = (
        b'{ "schemaVersion": 2,\n "layers": [], "config": {"digest": "%s", "size": 1, "mediaType": "x"} }'
        % A.encode()
    )
    manifest = parse_manifest(raw)
    assert manifest.raw == raw
    assert manifest.media_type == media_types.OCI_MANIFEST


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{", "it is not JSON"),
        (b"\xff\xfe\xff", "it is not JSON"),
        (b"[]", "the manifest is not of schema version 2"),
        (b'{"schemaVersion": 3}', "the manifest is not of schema version 2"),
        (
            b'{"schemaVersion": 1}',
            "the manifest is of schema version 1, which registries no longer take",
        ),
        (b'{"schemaVersion": 2}', "the manifest has no config and layers"),
        (b'{"schemaVersion": 2, "config": {}, "layers": {}}', "the manifest has no config and layers"),
        (
            b'{"schemaVersion": 2, "config": {}, "layers": [], "mediaType": 1}',
            "the manifest's mediaType is not a string",
        ),
        (b'{"schemaVersion": 2, "config": 5, "layers": []}', "a descriptor is not an object"),
    ],
)
def test_what_is_no_manifest(raw: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        parse_manifest(raw)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({}, "a descriptor has no sha256 digest: None"),
        ({"digest": "x"}, "a descriptor has no sha256 digest: 'x'"),
        ({"digest": A}, f"the descriptor of {A} has no size"),
        ({"digest": A, "size": -1}, f"the descriptor of {A} has no size"),
        ({"digest": A, "size": True}, f"the descriptor of {A} has no size"),
        ({"digest": A, "size": 1}, f"the descriptor of {A} has no mediaType"),
    ],
)
def test_what_is_no_descriptor(data: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_descriptor(data)
    assert str(caught.value) == reason


def test_diff_ids() -> None:
    assert diff_ids_of(json.dumps({"rootfs": {"diff_ids": [A, B]}}).encode()) == (A, B)


@pytest.mark.parametrize("config", [b"", b"[]", b"{}", b'{"rootfs": []}', b'{"rootfs": {"diff_ids": ["x"]}}'])
def test_a_config_without_diff_ids(config: bytes) -> None:
    with pytest.raises(ValueError, match=r"rootfs\.diff_ids"):
        diff_ids_of(config)


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"\x1f\x8b\x08", media_types.DOCKER_LAYER_GZIP),
        (b"\x28\xb5\x2f\xfd", media_types.OCI_LAYER_ZSTD),
        (b"PK", None),
    ],
)
def test_compressed_heads(head: bytes, media_type: str | None) -> None:
    assert media_types.of_layer(head) == media_type


def test_a_media_type_of_null_is_none_as_go_reads_it() -> None:
    descriptor = {"mediaType": media_types.OCI_CONFIG, "digest": A, "size": 2}
    raw = b'{"schemaVersion":2,"mediaType":null,"config":%s,"layers":[]}' % json.dumps(descriptor).encode()
    assert parse_manifest(raw).media_type == media_types.OCI_MANIFEST
    assert (
        parse_index(b'{"schemaVersion":2,"mediaType":null,"manifests":[]}').media_type
        == media_types.OCI_INDEX
    )
