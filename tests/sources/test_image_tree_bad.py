"""Manifests and indexes that are refused: damaged, too large, nested without end, of other kinds."""

from __future__ import annotations

import json

import pytest

from pusher.errors import ImageIncomplete, ImageNotFound, ImageUnsupported, LayerMismatch
from pusher.oci.manifest import parse_descriptor
from pusher.sources.base import EVERYTHING
from pusher.sources.image_tree import Tree
from tests.sources.test_image_tree import image_of, platforms, tree_of
from tests.support.images import OCI_LAYER, make_image
from tests.support.layouts import Descriptor, Layout, on
from tests.support.pins import ANY_PIN


def refused(layout: Layout, root: Descriptor, *words: str) -> None:
    with pytest.raises(ImageUnsupported) as caught:
        image_of(layout, root)
    for word in words:
        assert word in caught.value.message


def test_schema_1() -> None:
    layout = Layout()
    old = layout.blob(b'{"schemaVersion": 1}', "application/vnd.docker.distribution.manifest.v1+prettyjws")
    refused(layout, old, "schema version 1")
    refused(layout, {**old, "mediaType": "application/json"}, "schema version 1")
    refused(layout, layout.index(layout.image(make_image(1)), old), "schema version 1")


@pytest.mark.parametrize("data", [b"", b"nonsense", b"[]", b"{}", b'{"schemaVersion": 2}', b"[" * 100_000])
def test_documents_that_are_none(data: bytes) -> None:
    layout = Layout()
    refused(layout, layout.blob(data, "application/vnd.oci.image.manifest.v1+json"), "cannot be pushed")


def test_a_digest_of_an_algorithm_that_registries_do_not_know() -> None:
    layout = Layout()
    layer = {"mediaType": OCI_LAYER, "digest": "blake3:" + "0" * 64, "size": 1}
    refused(layout, layout.manifest(layout.blob(b"{}", "x"), layer), "blake3")


def test_an_index_of_nothing() -> None:
    layout = Layout()
    refused(layout, layout.index(), "lists no image")


HEADERLESS = {
    "blank before": " application/x",
    "blank after": "application/x ",
    "line break": "application/x\r\nHost: evil.example",
    "nul": "application/x\0",
    "latin-1": "application/\u00e9",
    "surrogate": "\u00e9\ud83d\ude00\ud800",
    "nothing": "",
    "long": "application/" + 300 * "x",
    "no string": 5,
}


@pytest.mark.parametrize("media_type", HEADERLESS.values(), ids=HEADERLESS)
def test_a_media_type_that_no_header_can_carry(media_type: object) -> None:
    """The manifest's own is sent in a header; there is nothing to try."""
    layout = Layout()
    config = layout.blob(b"{}", "x")
    manifest = layout.document({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": []})
    manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json"
    refused(layout, manifest, "mediaType")
    index = layout.document(
        {"schemaVersion": 2, "mediaType": media_type, "manifests": [layout.image(make_image(3))]}
    )
    index["mediaType"] = "application/vnd.oci.image.index.v1+json"
    refused(layout, index, "mediaType")


@pytest.mark.parametrize("size", [2**63, 10**30, -1, 1.5, True, "1", None])
def test_sizes_that_nothing_can_count(size: object) -> None:
    layout = Layout()
    refused(layout, layout.manifest({**layout.blob(b"{}", "x"), "size": size}), "size")


def test_blobs_that_are_too_large_together() -> None:
    """A registry may say of its blobs what it likes."""
    layout = Layout()
    layers = [{**layout.blob(b"%d" % n, OCI_LAYER), "size": 2**62} for n in range(3)]
    root = layout.manifest(layout.blob(b"{}", "x"), *layers)

    def read(blob: object) -> bytes | None:
        return layout.blobs.get(blob.digest)  # type: ignore[attr-defined]

    tree = Tree(parse_descriptor(root), read, lambda blob: True, EVERYTHING, where="x")
    with pytest.raises(ImageUnsupported, match="more bytes than can be counted"):
        tree.image(lambda blob: None, ANY_PIN)


def test_a_manifest_of_100_mb_is_not_read() -> None:
    root = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:" + "0" * 64}

    def never(blob: object) -> bytes:
        raise AssertionError("read")

    with pytest.raises(ImageUnsupported, match="104857600"):
        Tree(parse_descriptor({**root, "size": 100 << 20}), never, lambda blob: True, EVERYTHING, where="x")


def test_a_config_of_100_mb_is_not_read() -> None:
    layout = Layout()
    refused(layout, layout.manifest({**layout.blob(b"{}", "x"), "size": 100 << 20}), "config", "104857600")


@pytest.mark.parametrize("which", ["manifest", "config"])
def test_a_damaged_document(which: str) -> None:
    layout = Layout()
    image = make_image(10)
    root = layout.image(image)
    digest = root["digest"] if which == "manifest" else image.config_digest
    layout.blobs[digest] += b" "
    with pytest.raises(LayerMismatch, match=f"the {which} {digest} .* is damaged"):
        image_of(layout, root)


def test_indexes_nested_without_end() -> None:
    """A chain stands for a circle, which digests make impossible."""
    layout = Layout()
    root = layout.image(make_image(10))
    for _ in range(1200):
        root = layout.index(root)
    refused(layout, root, "nested")
    with pytest.raises(ImageUnsupported, match="nested"):
        tree_of(layout, root, platforms("linux/amd64"))


def test_indexes_nested_without_end_that_name_a_platform() -> None:
    layout = Layout()
    root = on("linux/amd64", layout.image(make_image(10)))
    for _ in range(1200):
        root = on("linux/amd64", layout.index(root))
    with pytest.raises(ImageUnsupported, match="nested"):
        tree_of(layout, root, platforms("linux/amd64"))


@pytest.mark.parametrize("why", ["platform", "missing"])
def test_what_indexes_list_together_is_looked_at_once(why: str) -> None:
    layout = Layout()
    image = layout.image(make_image(10))
    level = [layout.index(image, annotations={"n": str(n)}) for n in range(12)]
    for depth in range(6):
        level = [layout.index(*level, annotations={"n": f"{depth}.{n}"}) for n in range(12)]
    root = layout.index(*level)
    if why == "platform":
        with pytest.raises(ImageNotFound, match="no image for linux/s390x"):
            tree_of(layout, root, platforms("linux/s390x"))
    else:
        layer = json.loads(layout.blobs[image["digest"]])["layers"][0]
        with pytest.raises(ImageIncomplete) as caught:
            tree_of(layout.without(layer), root)
        assert caught.value.missing == (layer["digest"],)


def test_indexes_that_list_each_others_children_do_not_multiply() -> None:
    layout = Layout()
    level = [layout.image(make_image(10, seed=seed)) for seed in range(12)]
    for depth in range(7):
        level = [layout.index(*level, annotations={"n": f"{depth}.{n}"}) for n in range(12)]
    image = image_of(layout, layout.index(*level))
    assert len(image.documents) == 12 * 8 + 1


def test_an_index_of_too_many_documents() -> None:
    layout = Layout()
    config = layout.blob(b"{}", "x")
    refused(
        layout,
        layout.index(*(layout.manifest(config, annotations={"n": str(n)}) for n in range(2100))),
        "too much",
    )
