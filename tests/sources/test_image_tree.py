"""What of a manifest or an index is pushed: platforms, attestations, artifacts, what is missing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pusher.errors import ImageIncomplete, ImageNotFound
from pusher.oci.manifest import parse_descriptor
from pusher.oci.platform import Platform
from pusher.sources.base import EVERYTHING, Choice, SourceImage
from pusher.sources.image_tree import Tree, tree_or_own
from tests.support.images import OCI_LAYER, Image, make_image, make_layer, sha256
from tests.support.layouts import (
    DOCKER_LIST,
    FOREIGN,
    Descriptor,
    Layout,
    on,
    platform_image,
    two_platforms,
)
from tests.support.pins import ANY_PIN


def tree_of(layout: Layout, root: Descriptor, choice: Choice = EVERYTHING) -> Tree:
    blobs = layout.blobs
    return Tree(
        parse_descriptor(root),
        lambda blob: blobs.get(blob.digest),
        lambda blob: blob.digest in blobs,
        choice,
        where="the test",
    )


def image_of(layout: Layout, root: Descriptor, choice: Choice = EVERYTHING) -> SourceImage:
    return tree_of(layout, root, choice).image(lambda blob: None, ANY_PIN)


def platforms(*texts: str, **more: Any) -> Choice:
    return Choice(tuple(map(Platform.parse, texts)), **more)


def pushed(image: SourceImage) -> list[str]:
    return [document.digest for document in image.documents]


def listed(image: SourceImage) -> list[str]:
    """The digests that the root lists."""
    assert image.root is not None
    return [child["digest"] for child in json.loads(image.root.raw)["manifests"]]


def test_everything_is_the_default_and_its_bytes_are_unchanged() -> None:
    layout, root = two_platforms()
    image = image_of(layout, root)
    assert pushed(image)[-1] == root["digest"]
    assert sorted(pushed(image)[:-1]) == sorted(listed(image))
    assert all(layout.blobs[document.digest] == document.raw for document in image.documents)
    blobs = {image.config_digest, *(layer.blob.digest for layer in image.layers if layer.blob)}
    assert blobs == set(layout.blobs) - set(pushed(image))
    assert len(image.layers) == len(blobs) - 1, "each blob once"
    assert image.notes == ()


def test_the_first_manifests_config_is_the_images() -> None:
    layout, root = two_platforms()
    image = image_of(layout, root)
    assert image.config == platform_image("amd64").config
    assert image.config_digest == sha256(image.config or b"")


def test_layers_go_by_their_diff_ids_where_configs_tell_them() -> None:
    image = make_image(5000, 6000)
    layout = Layout()
    found = image_of(layout, layout.image(image))
    assert tuple(layer.key for layer in found.layers) == image.diff_ids
    assert [layer.blob and layer.blob.digest for layer in found.layers] == [
        layer.digest for layer in image.layers
    ]


def test_a_layer_compressed_in_two_ways_is_two_blobs() -> None:
    image = make_image(5000)
    layout = Layout()
    root = layout.index(layout.image(image), layout.image(image, zstd=True))
    found = image_of(layout, root)
    digests = {layer.blob.digest for layer in found.layers if layer.blob}
    assert len(digests) == 2
    assert {layer.key for layer in found.layers} == digests


# --- platforms --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["linux/arm64", "linux/arm64/v8", "linux/aarch64"])
def test_one_platform_is_its_manifest_alone(wanted: str) -> None:
    layout, root = two_platforms()
    image = image_of(layout, root, platforms(wanted))
    assert image.config == platform_image("arm64").config
    (only,) = image.documents
    assert only.raw == layout.blobs[only.digest]
    (note,) = image.notes
    assert "linux/arm64" in note
    assert only.digest in note
    assert root["digest"] in note


def test_several_platforms_are_a_smaller_index() -> None:
    layout = Layout()
    children = [
        on(f"linux/{name}", layout.image(platform_image(name))) for name in ("amd64", "arm64", "s390x")
    ]
    attested = [layout.attestation(child) for child in children]
    image = image_of(layout, layout.index(*children, *attested), platforms("linux/amd64", "linux/s390x"))
    kept = [child["digest"] for child in (children[0], children[2], attested[0], attested[2])]
    assert listed(image) == kept
    assert image.root is not None
    (note,) = image.notes
    assert "left out of the index: linux/arm64, an attestation" in note
    assert f"to {image.root.digest}" in note


def test_all_platforms_by_name_are_the_index_as_it_is() -> None:
    layout, root = two_platforms()
    image = image_of(layout, root, platforms("linux/amd64", "linux/arm64"))
    assert pushed(image)[-1] == root["digest"]
    assert image.notes == ()


def test_a_platform_that_is_not_there() -> None:
    layout, root = two_platforms()
    with pytest.raises(ImageNotFound, match="no image for windows/amd64") as caught:
        tree_of(layout, root, platforms("windows/amd64"))
    assert "linux/amd64, linux/arm64/v8" in caught.value.hint


def test_a_single_manifest_is_checked_against_the_platform() -> None:
    layout = Layout()
    root = layout.image(platform_image("arm64"))
    assert pushed(image_of(layout, root, platforms("linux/arm64"))) == [root["digest"]]
    with pytest.raises(ImageNotFound) as caught:
        tree_of(layout, root, platforms("linux/amd64"))
    assert caught.value.hint == "its image is for linux/arm64"


def test_a_platform_only_the_config_tells() -> None:
    layout = Layout()
    children = [layout.image(platform_image(name)) for name in ("amd64", "arm64")]
    image = image_of(layout, layout.index(*children), platforms("linux/arm64"))
    assert pushed(image) == [children[1]["digest"]]


def test_what_the_index_says_of_a_platform_holds_whatever_its_config_says() -> None:
    layout = Layout()
    children = [on(f"linux/arm/{variant}", layout.image(platform_image("arm"))) for variant in ("v6",)]
    children.append(on("linux/arm64", layout.image(platform_image("amd64"))))
    root = layout.index(*children)
    assert pushed(image_of(layout, root, platforms("linux/arm/v6"))) == [children[0]["digest"]]
    assert pushed(image_of(layout, root, platforms("linux/arm64"))) == [children[1]["digest"]]


def test_two_images_of_one_platform_are_both_kept() -> None:
    layout = Layout()
    children = [on("windows/amd64", layout.image(make_image(10, seed=seed))) for seed in range(2)]
    other = on("linux/amd64", layout.image(platform_image("amd64")))
    image = image_of(layout, layout.index(*children, other), platforms("windows/amd64"))
    assert listed(image) == [child["digest"] for child in children]


def test_a_nested_index_is_looked_into() -> None:
    layout, inner = two_platforms()
    outer = layout.index(inner, layout.image(make_image(10)))
    everything = image_of(layout, outer)
    assert pushed(everything)[-1] == outer["digest"]
    assert pushed(everything).index(inner["digest"]) > 3
    image = image_of(layout, outer, platforms("linux/arm64"))
    assert image.config == platform_image("arm64").config
    assert len(image.documents) == 1


# --- what is missing --------------------------------------------------------------------------------------


def test_a_missing_platform_is_named_and_can_be_left_out() -> None:
    layout, root = two_platforms()
    image = image_of(layout, root)
    gone = {"digest": listed(image)[1]}
    layout = layout.without(gone)
    with pytest.raises(ImageIncomplete, match=r"lacks 1 of the 4 manifests.*: linux/arm64/v8") as caught:
        tree_of(layout, root)
    assert "--platform linux/amd64" in caught.value.hint
    assert "--skip-missing" in caught.value.hint
    smaller = image_of(layout, root, Choice(skip_missing=True))
    assert listed(smaller) == [listed(image)[0], listed(image)[2]], "nor what is attested of it"
    assert "its digest changes" in smaller.notes[0]


def test_a_platform_with_a_missing_layer_is_missing() -> None:
    layout, root = two_platforms()
    image = image_of(layout, root)
    zstd = next(layer.blob for layer in image.layers if layer.blob and "zstd" in layer.blob.media_type)
    layout = layout.without({"digest": zstd.digest})
    with pytest.raises(ImageIncomplete, match="linux/arm64/v8"):
        tree_of(layout, root)
    assert len(listed(image_of(layout, root, Choice(skip_missing=True)))) == 2


def test_nothing_left_is_an_error() -> None:
    layout, root = two_platforms()
    layout = layout.without(*({"digest": digest} for digest in listed(image_of(layout, root))))
    with pytest.raises(ImageIncomplete, match="nothing of the index"):
        tree_of(layout, root, Choice(skip_missing=True))


def test_a_missing_platform_that_was_asked_for() -> None:
    layout, root = two_platforms()
    layout = layout.without({"digest": listed(image_of(layout, root))[1]})
    with pytest.raises(ImageIncomplete) as caught:
        tree_of(layout, root, platforms("linux/arm64"))
    assert caught.value.hint.endswith(": docker pull --platform linux/arm64/v8 IMAGE")


def test_a_missing_root_and_a_missing_layer() -> None:
    layout = Layout()
    image = make_image(10, 20)
    root = layout.image(image)
    with pytest.raises(ImageIncomplete, match=f"lacks the manifest {root['digest']}"):
        tree_of(layout.without(root), root)
    with pytest.raises(ImageIncomplete, match=f"lacks a blob of the image: {image.layers[1].digest}"):
        tree_of(layout.without({"digest": image.layers[1].digest}), root)


def test_where_only_some_platforms_were_pulled_this_machines_is_meant() -> None:
    layout, root = two_platforms()
    layout = layout.without({"digest": listed(image_of(layout, root))[1]})

    def own(platform: str | None, choice: Choice = EVERYTHING) -> Tree:
        return tree_or_own(
            parse_descriptor(root),
            lambda blob: layout.blobs.get(blob.digest),
            lambda blob: blob.digest in layout.blobs,
            choice,
            own=None if platform is None else Platform.parse(platform),
            where="the test",
        )

    tree = own("linux/amd64")
    assert len(tree.documents) == 1
    assert str(tree.choice.platforms[0]) == "linux/amd64"
    assert root["digest"] in tree.notes[0]
    assert "lacks 1 of the 4" in tree.notes[1]
    assert "--skip-missing" in tree.notes[1]
    assert len(own("linux/amd64", Choice(skip_missing=True)).documents) == 3
    for platform in (None, "linux/riscv64"):
        with pytest.raises(ImageIncomplete, match="lacks 1 of the 4"):
            own(platform)
    with pytest.raises(ImageIncomplete, match="lacks 1 of the 4"):
        own("linux/amd64", Choice(every=True))


# --- attestations, artifacts, other content ---------------------------------------------------------------


def test_attestations_can_be_dropped() -> None:
    layout, root = two_platforms()
    image = image_of(layout, root, Choice(drop_attestations=True))
    assert listed(image) == listed(image_of(layout, root))[:2]
    assert "an attestation (2 times)" in image.notes[0]
    assert "in-toto" not in str(image.layers)


def test_attestations_of_platforms_that_are_dropped_need_not_be_there() -> None:
    layout, root = two_platforms()
    manifests = listed(image_of(layout, root))
    layout = layout.without({"digest": manifests[3]})
    third = on("linux/s390x", layout.image(platform_image("s390x")))
    index = layout.index(*json.loads(layout.blobs[root["digest"]])["manifests"], third)
    image = image_of(layout, index, platforms("linux/amd64", "linux/s390x"))
    assert listed(image) == [manifests[0], manifests[2], third["digest"]]


def test_an_artifact_with_an_empty_config_and_a_subject() -> None:
    layout = Layout()
    subject = layout.image(make_image(10))
    root = layout.artifact(b"signature", subject)
    image = image_of(layout, root, platforms("linux/amd64"))
    assert pushed(image) == [root["digest"]]
    assert image.config == b"{}"
    assert [layer.key for layer in image.layers] == [sha256(b"signature")]


def test_an_artifact_of_nothing() -> None:
    layout = Layout()
    image = image_of(layout, layout.artifact(b""))
    assert [(layer.key, layer.blob and layer.blob.size) for layer in image.layers] == [(sha256(b""), 0)]


def test_a_config_that_is_also_a_layer_comes_once() -> None:
    layout = Layout()
    empty = layout.blob(b"{}", "application/vnd.oci.empty.v1+json")
    image = image_of(layout, layout.manifest(empty, empty))
    assert (image.config, image.layers) == (b"{}", ())


def test_127_layers() -> None:
    layers = tuple(make_layer(100, seed) for seed in range(127))
    image = Image(layers)
    layout = Layout()
    assert tuple(layer.diff_id for layer in image_of(layout, layout.image(image)).layers) == image.diff_ids


def test_foreign_layers_stay_where_they_are() -> None:
    layout = Layout()
    base = layout.blob(b"windows", FOREIGN, urls=["https://example.com/windows"])
    root = layout.manifest(layout.blob(b"{}", "x"), base, layout.blob(b"own", f"{OCI_LAYER}+gzip"))
    without = layout.without(base)
    assert [layer.key for layer in image_of(without, root).layers] == [sha256(b"own")]
    allowed = image_of(layout, root, Choice(foreign=True))
    assert [layer.key for layer in allowed.layers] == [sha256(b"windows"), sha256(b"own")]
    with pytest.raises(ImageIncomplete, match=sha256(b"windows")):
        tree_of(without, root, Choice(foreign=True))


def test_a_foreign_layer_without_an_address_is_pushed() -> None:
    layout = Layout()
    root = layout.manifest(layout.blob(b"{}", "x"), layout.blob(b"windows", FOREIGN))
    assert [layer.key for layer in image_of(layout, root).layers] == [sha256(b"windows")]


def test_dockers_manifest_list() -> None:
    layout = Layout()
    root = layout.index(layout.image(make_image(10)), media_type=DOCKER_LIST)
    image = image_of(layout, root)
    assert image.root is not None
    assert image.root.media_type == DOCKER_LIST


def test_an_index_may_list_blobs_and_manifests_of_unknown_types() -> None:
    """As build caches do."""
    layout = Layout()
    cache = layout.blob(b"cached layer", f"{OCI_LAYER}+gzip")
    strange = {**layout.image(make_image(10, seed=4)), "mediaType": "application/x.manifest"}
    root = layout.index(layout.image(make_image(10)), cache, strange)
    image = image_of(layout, root)
    assert pushed(image) == [listed(image)[0], strange["digest"], root["digest"]]
    assert cache["digest"] in {layer.key for layer in image.layers}
    with pytest.raises(ImageIncomplete):
        tree_of(layout.without(cache), root)


def test_a_build_cache_lists_nothing_but_blobs() -> None:
    """What `docker buildx build --cache-to` writes: layers, and a config of its own kind."""
    layout = Layout()
    layers = [layout.blob(bytes(range(n, n + 90)), f"{OCI_LAYER}+gzip") for n in range(2)]
    config = layout.blob(b'{"layers": []}', "application/vnd.buildkit.cacheconfig.v0")
    root = layout.index(*layers, config)
    image = image_of(layout, root)
    assert pushed(image) == [root["digest"]]
    assert image.config_digest == config["digest"]
    assert {layer.key for layer in image.layers} == {layer["digest"] for layer in layers}


def test_no_layers_may_be_written_as_null() -> None:
    layout = Layout()
    config = layout.blob(b'{"rootfs": {"type": "layers"}}', "application/vnd.oci.image.config.v1+json")
    root = layout.document({"schemaVersion": 2, "config": config, "layers": None})
    assert image_of(layout, root).layers == ()
