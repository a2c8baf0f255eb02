"""What becomes of manifests and indexes whose layers are compressed anew."""

from __future__ import annotations

import json
from typing import Any

from pusher.oci import media_types as mt
from pusher.oci.digest import of_bytes
from pusher.oci.document import parse_document
from pusher.oci.draft import Draft, fill_drafts
from pusher.oci.manifest import Descriptor
from tests.support.images import sha256

TARS = [sha256(b"tar 0"), sha256(b"tar 1")]
CONFIG = {"mediaType": mt.OCI_CONFIG, "digest": sha256(b"{}"), "size": 2}


def raw(**fields: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, **fields}).encode()


def layer(number: int, media_type: str = mt.OCI_LAYER, **fields: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": TARS[number], "size": 10240, **fields}


def blobs(media_type: str) -> dict[str, Descriptor]:
    """The blobs that were made of the tars."""
    return {tar: Descriptor(media_type, of_bytes(tar.encode()), 100 + n) for n, tar in enumerate(TARS)}


def child(manifest: bytes, **fields: Any) -> dict[str, Any]:
    media_type = json.loads(manifest).get("mediaType", mt.OCI_MANIFEST)
    return {"mediaType": media_type, "digest": of_bytes(manifest), "size": len(manifest), **fields}


def made(
    documents: list[tuple[bytes, list[int]]], found: dict[str, Descriptor]
) -> list[tuple[str, dict[str, Any]]]:
    """Media type and contents of what becomes of the documents; each has the digest of its bytes."""
    drafts = [Draft(parse_document(one), tuple(TARS[n] for n in tars)) for one, tars in documents]
    return [(document.media_type, json.loads(document.raw)) for document in fill_drafts(drafts, found)]


def test_all_but_the_blobs_stays_as_it_was() -> None:
    manifest = raw(
        mediaType=mt.OCI_MANIFEST,
        artifactType="application/vnd.example",
        config=CONFIG,
        layers=[layer(0, annotations={"com.example": "grüße"}), layer(1)],
        annotations={"nested": '{"a": ["b"]}'},
    )
    platform = {"architecture": "arm", "os": "linux", "variant": "v7", "os.features": ["x"]}
    index = raw(
        mediaType=mt.OCI_INDEX,
        manifests=[child(manifest, annotations={"of": "the child"}, platform=platform)],
        annotations={"of": "the list"},
    )
    (_, new), (_, top) = made([(manifest, [0, 1]), (index, [])], blobs(mt.OCI_LAYER_GZIP))
    expected = json.loads(manifest)
    for n, (tar, blob) in enumerate(blobs(mt.OCI_LAYER_GZIP).items()):
        assert expected["layers"][n]["digest"] == tar
        expected["layers"][n] |= {"mediaType": mt.OCI_LAYER_GZIP, "digest": blob.digest, "size": blob.size}
    assert new == expected
    assert list(new) == list(expected)
    bytes_of_new = json.dumps(new, separators=(",", ":"), ensure_ascii=False).encode()
    expected = json.loads(index)
    expected["manifests"][0] |= {"digest": sha256(bytes_of_new), "size": len(bytes_of_new)}
    assert top == expected


def test_the_very_same_blobs_leave_every_byte() -> None:
    """What was never compressed, pushed uncompressed: the list has the digest that Podman calls it."""
    manifest = raw(config=CONFIG, layers=[layer(0)])
    index = raw(manifests=[child(manifest)])
    same = {TARS[0]: Descriptor(mt.OCI_LAYER, TARS[0], 10240)}
    drafts = [Draft(parse_document(manifest), (TARS[0],)), Draft(parse_document(index))]
    assert [document.raw for document in fill_drafts(drafts, same)] == [manifest, index]


def docker(*tars: int) -> bytes:
    layers = [layer(number, mt.DOCKER_LAYER_GZIP) for number in tars]
    return raw(mediaType=mt.DOCKER_MANIFEST, config={**CONFIG, "mediaType": mt.DOCKER_CONFIG}, layers=layers)


def test_dockers_manifests_stay_dockers_while_layers_are_gzip() -> None:
    manifest = docker(0)
    index = raw(mediaType=mt.DOCKER_LIST, manifests=[child(manifest)])
    (kind, new), (top_kind, top) = made([(manifest, [0]), (index, [])], blobs(mt.OCI_LAYER_GZIP))
    assert (kind, top_kind) == (mt.DOCKER_MANIFEST, mt.DOCKER_LIST)
    assert new["layers"][0]["mediaType"] == mt.DOCKER_LAYER_GZIP
    assert top["manifests"][0]["mediaType"] == mt.DOCKER_MANIFEST


def test_docker_has_no_zstd() -> None:
    manifest = docker(0)
    index = raw(mediaType=mt.DOCKER_LIST, manifests=[child(manifest)])
    (kind, new), (top_kind, top) = made([(manifest, [0]), (index, [])], blobs(mt.OCI_LAYER_ZSTD))
    assert (kind, top_kind) == (mt.OCI_MANIFEST, mt.OCI_INDEX)
    assert new["layers"][0]["mediaType"] == mt.OCI_LAYER_ZSTD
    assert new["config"]["mediaType"] == mt.OCI_CONFIG
    assert top["manifests"][0]["mediaType"] == mt.OCI_MANIFEST


def test_what_was_about_the_old_bytes_goes() -> None:
    chunked = {"io.github.containers.zstd-chunked.manifest-checksum": "x", "kept": "y"}
    manifest = raw(config=CONFIG, layers=[layer(0, urls=["https://x"], annotations=chunked)])
    index = raw(manifests=[child(manifest, data="e30=")])
    (_, new), (_, top) = made([(manifest, [0]), (index, [])], blobs(mt.OCI_LAYER_GZIP))
    assert new["mediaType"] == mt.OCI_MANIFEST, "serverless-registry refuses a manifest without it"
    assert new["layers"][0]["annotations"] == {"kept": "y"}
    assert "urls" not in new["layers"][0]
    assert "data" not in top["manifests"][0]


def test_images_that_become_the_same_are_one_document() -> None:
    """A manifest in another spelling, listed under two platforms."""
    fields: dict[str, Any] = {"mediaType": mt.OCI_MANIFEST, "config": CONFIG, "layers": [layer(0)]}
    manifests = [raw(**fields), json.dumps({"schemaVersion": 2, **fields}, indent=2).encode()]
    index = raw(manifests=[child(one) for one in manifests])
    (_, new), (_, top) = made(
        [(manifests[0], [0]), (manifests[1], [0]), (index, [])], blobs(mt.OCI_LAYER_GZIP)
    )
    digest = sha256(json.dumps(new, separators=(",", ":")).encode())
    assert [one["digest"] for one in top["manifests"]] == [digest, digest]


def test_an_image_without_layers() -> None:
    manifest = docker()
    index = raw(mediaType=mt.DOCKER_LIST, manifests=[child(manifest)])
    drafts = [Draft(parse_document(manifest)), Draft(parse_document(index))]
    assert [document.raw for document in fill_drafts(drafts, {})] == [manifest, index]
