"""``dir:`` folders, as skopeo writes them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pusher.errors import (
    ArchiveInvalid,
    ImageChanged,
    ImageIncomplete,
    ImageNotFound,
    ImageUnsupported,
    InvalidOption,
    PusherError,
)
from pusher.oci.platform import Platform
from pusher.sources import find, reopen
from pusher.sources.base import Choice
from pusher.sources.docker_dir import DirSource
from pusher.sources.pins import DirPin
from tests.support.images import make_image
from tests.support.layouts import Layout, platform_image, two_platforms
from tests.support.pins import stored, stored_as

IMAGE = make_image(5000, 6000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    layout = Layout()
    return layout.write_dir(tmp_path / "image", layout.image(IMAGE))


def test_an_image_lies_where_it_lies(path: Path) -> None:
    source, name = find(f"dir:{path}")
    assert name is None
    image = source.resolve()
    assert image.config == IMAGE.config
    assert tuple(layer.diff_id for layer in image.layers) == IMAGE.diff_ids
    assert [layer.file and layer.file.path.read_bytes() for layer in image.layers] == [
        layer.gzip for layer in IMAGE.layers
    ]
    with source.export(IMAGE.diff_ids) as pieces:
        assert list(pieces) == []
    assert source.fall_back() is None


def test_a_path_is_enough(path: Path) -> None:
    assert isinstance(find(str(path))[0], DirSource)


def test_an_index_and_one_of_its_platforms(tmp_path: Path) -> None:
    layout, root = two_platforms()
    path = layout.write_dir(tmp_path / "image", root)
    image = find(f"dir:{path}")[0].resolve()
    assert [document.raw for document in image.documents if document.digest == root["digest"]] == [
        layout.blobs[root["digest"]]
    ]
    assert len(image.documents) == 5
    one = find(f"dir:{path}", Choice((Platform("linux", "arm64"),)))[0].resolve()
    assert one.config == platform_image("arm64").config
    assert reopen(stored(one.pin)).resolve() == one


def test_an_index_of_which_one_platform_was_copied(tmp_path: Path) -> None:
    layout, root = two_platforms()
    gone = json.loads(layout.blobs[root["digest"]])["manifests"][1]
    path = layout.without(gone).write_dir(tmp_path / "image", root)
    with pytest.raises(ImageIncomplete, match="linux/arm64/v8"):
        find(f"dir:{path}")[0].resolve()


def test_it_has_no_names(path: Path) -> None:
    with pytest.raises(InvalidOption) as caught:
        find(f"dir:{path}:1.2")
    assert caught.value.hint == "leave out :1.2"


def test_another_image_in_its_place_is_a_change(path: Path) -> None:
    pinned = stored_as(DirPin, find(f"dir:{path}")[0].resolve().pin)
    assert reopen(pinned).resolve().config == IMAGE.config
    manifest = path / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    with pytest.raises(ImageChanged, match=pinned.root_digest):
        reopen(pinned).resolve()
    manifest.unlink()
    with pytest.raises(ImageChanged, match="was removed after"):
        reopen(pinned).resolve()


def refused(image: str, kind: type[PusherError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        find(image)[0].resolve()
    assert type(caught.value) is kind
    for word in words:
        assert word in f"{caught.value.message} {caught.value.hint}"


def test_folders_that_are_none(tmp_path: Path) -> None:
    refused(f"dir:{tmp_path}", ArchiveInvalid, str(tmp_path), "no manifest.json", "skopeo copy")
    refused(f"dir:{tmp_path}/none", ImageNotFound, "no file")
    (tmp_path / "manifest.json").write_text('[{"Config": "x.json"}]')
    refused(f"dir:{tmp_path}", ArchiveInvalid, "unpacked docker-archive", f"tar -C {tmp_path}")
    (tmp_path / "manifest.json").write_text("nonsense")
    refused(f"dir:{tmp_path}", ImageUnsupported, "not JSON")


def test_a_blob_that_is_missing_another_or_no_file(path: Path, tmp_path: Path) -> None:
    digest = IMAGE.layers[0].digest
    blob = path / digest.removeprefix("sha256:")
    blob.write_bytes(b"more" + blob.read_bytes())
    refused(f"dir:{path}", ArchiveInvalid, "is inconsistent", digest)
    blob.unlink()
    refused(f"dir:{path}", ImageIncomplete, digest)
    blob.symlink_to("/etc/passwd")
    refused(f"dir:{path}", ArchiveInvalid, "symbolic link")
    blob.unlink()
    os.mkfifo(blob)
    refused(f"dir:{path}", ArchiveInvalid, "not a regular file")
