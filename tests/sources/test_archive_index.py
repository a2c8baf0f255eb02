"""docker-archives that hold an index as well, as `docker save` writes them from containerd's image store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pusher.errors import ArchiveTruncated, ImageChanged, ImageIncomplete, ImageNotFound, ImageUnsupported
from pusher.oci.platform import Platform
from pusher.sources import find, reopen
from pusher.sources.archive.docker_archive import ArchiveSource
from pusher.sources.base import EVERYTHING, Choice, SourceImage
from tests.support.images import UNCOMPRESSED, Shape, make_image, truncated, write_archive
from tests.support.layouts import Layout, manifest_json, platform_image, two_platforms
from tests.support.pins import stored

NAME = "registry.example.com/team/app:1.2"
OWN = platform_image("amd64", (NAME,))


def written(path: Path, *missing: int) -> Path:
    """An archive of two platforms, without some of the manifests that its index lists."""
    layout, root = two_platforms()
    children = json.loads(layout.blobs[root["digest"]])["manifests"]
    return layout.without(*(children[n] for n in missing)).write_archive(path, manifest_json(OWN))


def found(path: Path, choice: Choice = EVERYTHING) -> SourceImage:
    return find(str(path), choice)[0].resolve()


def test_an_index_that_is_whole_is_pushed_as_it_is(tmp_path: Path) -> None:
    layout, root = two_platforms()
    path = written(tmp_path / "a.tar")
    source, name = find(str(path))
    assert isinstance(source, ArchiveSource)
    assert name == NAME
    image = source.resolve()
    assert image.root is not None
    assert image.root.raw == layout.blobs[root["digest"]]
    assert len(image.documents) == 5
    assert image.notes == ()
    assert reopen(stored(image.pin)).resolve() == image


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_one_platform_of_it(tmp_path: Path, architecture: str) -> None:
    image = found(written(tmp_path / "a.tar"), Choice((Platform("linux", architecture),)))
    assert image.config == platform_image(architecture).config
    assert len(image.documents) == 1
    assert reopen(stored(image.pin)).resolve() == image


def test_an_index_that_is_not_whole_gives_the_platform_of_manifest_json(tmp_path: Path) -> None:
    image = found(written(tmp_path / "a.tar", 1, 2, 3))
    assert image.config == OWN.config
    assert len(image.documents) == 1
    assert any("linux/arm64/v8" in note for note in image.notes)
    assert reopen(stored(image.pin)).resolve().documents == image.documents


def test_what_is_there_of_an_index(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar", 1, 2)
    image = found(path, Choice(skip_missing=True))
    assert image.root is not None
    assert len(json.loads(image.root.raw)["manifests"]) == 1
    with pytest.raises(ImageIncomplete):
        found(path, Choice((Platform("linux", "arm64"),)))


def test_an_archive_cut_off_is_not_taken_for_an_index_with_less_in_it(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar")
    truncated(path, path.stat().st_size - 8_000)
    with pytest.raises(ArchiveTruncated):
        found(path, Choice(skip_missing=True))


@pytest.mark.parametrize("shape", UNCOMPRESSED)
def test_a_platform_is_checked_where_there_is_no_manifest(tmp_path: Path, shape: Shape) -> None:
    path = write_archive(tmp_path / "a.tar", make_image(5000), shape=shape)
    assert found(path, Choice((Platform("linux", "amd64"),))).config == make_image(5000).config
    with pytest.raises(ImageNotFound, match="no image for linux/arm64") as caught:
        found(path, Choice((Platform("linux", "arm64"),)))
    assert caught.value.hint == "its image is for linux/amd64"


def test_an_index_of_other_images_is_passed_by(tmp_path: Path) -> None:
    layout, _ = two_platforms()
    other = make_image(30, names=(NAME,))
    root = layout.add(layout.image(other), "other:1")
    image = found(layout.write_archive(tmp_path / "a.tar", manifest_json(other)))
    assert [document.digest for document in image.documents] == [root["digest"]]


def test_an_image_that_index_json_leaves_out_is_pushed_as_it_is(tmp_path: Path) -> None:
    """As Docker 28 saves several images by their IDs: all manifests are there, and one is listed."""
    layout = Layout()
    first, second = (make_image(30, names=(), seed=seed) for seed in (1, 2))
    layout.add(layout.image(first))
    layout.image(second)
    path = layout.write_archive(tmp_path / "a.tar", manifest_json(first, second))
    for number, image in enumerate((first, second)):
        chosen = find(f"docker-archive:{path}:@{number}")[0].resolve()
        assert chosen.config == image.config
        assert [layer.blob and layer.blob.digest for layer in chosen.layers] == [image.layers[0].digest]
        assert chosen.root is not None
        assert chosen.root.raw in layout.blobs.values()
        assert reopen(stored(chosen.pin)).resolve() == chosen


def test_an_image_without_a_manifest(tmp_path: Path) -> None:
    """Its layers are compressed, as the head of each shows; the digests are computed."""
    layout = Layout()
    manifest = layout.image(OWN)
    del layout.blobs[manifest["digest"]]
    image = found(layout.write_archive(tmp_path / "a.tar", manifest_json(OWN)))
    assert image.documents == ()
    assert [layer.file and layer.file.digest for layer in image.layers] == [
        layer.digest for layer in OWN.layers
    ]


def test_an_archive_of_another_image_is_a_change(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar")
    pinned = found(path).pin
    write_archive(path, make_image(5, names=(NAME,)), shape="containerd")
    with pytest.raises(ImageChanged):
        reopen(pinned).resolve()


def test_an_oci_archive_is_none(tmp_path: Path) -> None:
    layout, _ = two_platforms()
    path = layout.write_archive(tmp_path / "a.tar")
    with pytest.raises(ImageUnsupported) as caught:
        find(f"docker-archive:{path}")
    assert caught.value.hint == f"use: oci-archive:{path}"
