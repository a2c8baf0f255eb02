"""containerd's content store: blobs as files, which image is which told by an engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pusher.errors import ImageChanged, ImageIncomplete
from pusher.oci.platform import Platform
from pusher.sources import reopen
from pusher.sources.base import EVERYTHING, Choice
from pusher.sources.engine.content_store import ContentStoreSource, find_store, usual_roots
from tests.support.images import make_image
from tests.support.layouts import Descriptor, Layout, two_platforms
from tests.support.pins import stored

NAME = "registry.example.com/team/app:1.2"
AMD64 = Platform("linux", "amd64")


def of_store(
    layout: Layout,
    root: Descriptor,
    path: Path,
    choice: Choice = EVERYTHING,
    platform: Platform | None = AMD64,
) -> ContentStoreSource:
    return ContentStoreSource(layout.write_store(path), root["digest"], NAME, choice, platform=platform)


def children(layout: Layout, root: Descriptor) -> list[Descriptor]:
    found: list[Descriptor] = json.loads(layout.blobs[root["digest"]])["manifests"]
    return found


def test_the_index_with_all_its_platforms(tmp_path: Path) -> None:
    layout, root = two_platforms()
    source = of_store(layout, root, tmp_path / "store")
    image = source.resolve()
    assert source.own_name() == NAME
    documents = {document.digest: document.raw for document in image.documents}
    slices = {
        layer.file.digest: layer.file.path.read_bytes() for layer in image.layers if layer.file is not None
    }
    assert {**documents, **slices, image.config_digest: image.config} == layout.blobs
    assert image.notes == ()
    with source.export(set(slices)) as pieces:
        assert list(pieces) == []
    assert reopen(stored(image.pin)).resolve() == image


def test_after_an_ordinary_pull_this_machines_platform(tmp_path: Path) -> None:
    layout, root = two_platforms()
    first, *others = children(layout, root)
    image = of_store(layout.without(*others), root, tmp_path / "store").resolve()
    assert [document.digest for document in image.documents] == [first["digest"]]
    assert any("--skip-missing" in note for note in image.notes)
    again = reopen(stored(image.pin)).resolve()
    assert again.documents == image.documents, "though nobody tells the platform any more"


def test_what_is_there_as_a_smaller_index(tmp_path: Path) -> None:
    layout, root = two_platforms()
    layout = layout.without(children(layout, root)[1])
    image = of_store(layout, root, tmp_path / "store", Choice(skip_missing=True)).resolve()
    assert image.root is not None
    assert len(json.loads(image.root.raw)["manifests"]) == 2
    assert reopen(stored(image.pin)).resolve() == image


def test_layers_thrown_away_after_unpacking_are_named(tmp_path: Path) -> None:
    """As Kubernetes' containerd does where discard_unpacked_layers is set."""
    image = make_image(10, 20)
    layout = Layout()
    root = layout.image(image)
    layout = layout.without(*({"digest": layer.digest} for layer in image.layers))
    with pytest.raises(ImageIncomplete, match=f"the image {NAME} lacks 2 blobs"):
        of_store(layout, root, tmp_path / "store").resolve()


def test_an_image_deleted_since_is_a_change(tmp_path: Path) -> None:
    layout = Layout()
    root = layout.image(make_image(10))
    image = of_store(layout, root, tmp_path / "store").resolve()
    (tmp_path / "store").rename(tmp_path / "gone")
    with pytest.raises(ImageChanged, match=f"{NAME} was deleted"):
        reopen(image.pin).resolve()


def test_an_image_of_which_a_part_is_deleted_since_is_a_change(tmp_path: Path) -> None:
    """containerd deletes blob by blob, what its build cache holds much later than the rest."""
    layout, root = two_platforms()
    store = layout.write_store(tmp_path / "store")
    source = ContentStoreSource(store, root["digest"], NAME, EVERYTHING, platform=AMD64)
    image = source.resolve()
    gone = children(layout, root)[-1]["digest"].removeprefix("sha256:")
    (found,) = store.rglob(gone)
    found.unlink()
    with pytest.raises(ImageChanged, match=f"{NAME} was deleted"):
        reopen(image.pin).resolve()
    with pytest.raises(ImageIncomplete, match="lacks"):
        ContentStoreSource(store, root["digest"], NAME, Choice(every=True), platform=AMD64).resolve()


def test_the_store_that_has_the_image_is_found(tmp_path: Path) -> None:
    layout = Layout()
    root = layout.image(make_image(10))
    store = layout.write_store(tmp_path / "store")
    assert find_store(root["digest"], [tmp_path / "none", store]) == store
    assert find_store("sha256:" + "0" * 64, [store]) is None


def test_known_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert usual_roots()[0] == Path("/var/lib/containerd")
    assert Path("/var/lib/rancher/k3s/agent/containerd") in usual_roots()
    assert usual_roots()[-1] == Path("/data/containerd")


def test_an_image_id_is_no_name_to_push_to(tmp_path: Path) -> None:
    assert ContentStoreSource(tmp_path, "sha256:" + "0" * 64, "0" * 12).own_name() is None
