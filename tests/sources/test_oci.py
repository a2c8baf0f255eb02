"""OCI layouts, as folders and as archives: the choice among images, and every way to be wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from pusher.errors import (
    ArchiveInvalid,
    ArchiveTruncated,
    ImageAmbiguous,
    ImageChanged,
    ImageIncomplete,
    ImageNotFound,
    ImageUnsupported,
    LayerMismatch,
    PusherError,
    SourceError,
)
from pusher.oci.platform import Platform
from pusher.sources import find, reopen
from pusher.sources.base import EVERYTHING, Choice, SourceImage
from pusher.sources.oci import LayoutSource
from pusher.sources.pins import LayoutPin
from tests.support.images import make_image, sha256, truncated
from tests.support.layouts import Layout, on, platform_image, two_platforms
from tests.support.pins import stored, stored_as

NAME = "registry.example.com/team/app:1.2"
IMAGE = make_image(5000, 6000)

Written = Callable[[Layout], str]
"""Writes a layout; gives ``oci:PATH`` or ``oci-archive:PATH``."""


@pytest.fixture(params=["oci", "oci-archive"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Written:
    def write(layout: Layout) -> str:
        if request.param == "oci":
            return f"oci:{layout.write_folder(tmp_path / 'layout')}"
        return f"oci-archive:{layout.write_archive(tmp_path / 'layout.tar')}"

    return write


def path_of(image: str) -> Path:
    return Path(image.partition(":")[2])


def sliced(image: SourceImage) -> dict[str, bytes]:
    """The bytes of each layer by digest, from where they lie."""
    found: dict[str, bytes] = {}
    for layer in image.layers:
        assert layer.file is not None
        with layer.file.path.open("rb") as file:
            file.seek(layer.file.start)
            found[layer.file.digest] = file.read(layer.file.size)
    return found


def one(*names: str) -> Layout:
    layout = Layout()
    layout.add(layout.image(IMAGE), *names)
    return layout


def test_an_image_lies_where_it_lies(written: Written) -> None:
    source, name = find(written(one(NAME)))
    image = source.resolve()
    assert name == NAME
    assert image.config == IMAGE.config
    assert tuple(layer.diff_id for layer in image.layers) == IMAGE.diff_ids
    assert sliced(image) == {layer.digest: layer.gzip for layer in IMAGE.layers}
    with source.export({layer.digest for layer in IMAGE.layers}) as pieces:
        assert list(pieces) == []


def test_a_path_is_enough(written: Written) -> None:
    image = written(one(NAME))
    source, name = find(str(path_of(image)))
    assert isinstance(source, LayoutSource)
    assert (source.kind, name) == (image.partition(":")[0], NAME)


def test_every_platform_is_pushed_bytes_unchanged(written: Written) -> None:
    layout, root = two_platforms()
    image = find(written(layout))[0].resolve()
    assert image.root is not None
    assert image.root.raw == layout.blobs[root["digest"]]
    blobs = {**sliced(image), image.config_digest: image.config}
    documents = {document.digest: document.raw for document in image.documents}
    assert {**blobs, **documents} == layout.blobs


def test_a_tag_alone_is_no_name_to_push_to(written: Written) -> None:
    assert find(written(one("1.2")))[1] is None


def test_zero_bytes_and_equal_blobs(written: Written) -> None:
    layout = Layout()
    empty, twice = layout.blob(b"", "x"), layout.blob(b"twice", "x")
    layout.add(layout.manifest(layout.blob(b"{}", "x"), empty, twice, twice, empty))
    image = find(written(layout))[0].resolve()
    assert sliced(image) == {sha256(b""): b"", sha256(b"twice"): b"twice"}
    assert len(image.layers) == 2


class TestChoice:
    """A layout of three images: one with a whole name, one with a tag, one without."""

    @pytest.fixture
    def several(self, written: Written) -> str:
        layout = Layout()
        for seed, names in enumerate([(NAME,), ("nightly",), ()]):
            layout.add(layout.image(make_image(9, seed=seed)), *names)
        return written(layout)

    @pytest.mark.parametrize(
        ("name", "seed"),
        [(NAME, 0), ("1.2", 0), ("nightly", 1), ("@0", 0), ("@2", 2)],
    )
    def test_one_is_chosen(self, several: str, name: str, seed: int) -> None:
        assert find(f"{several}:{name}")[0].resolve().config == make_image(9, seed=seed).config

    def test_by_digest(self, several: str) -> None:
        digest = find(f"{several}:@2")[0].resolve().documents[0].digest
        assert find(f"{several}:@{digest}")[0].resolve().config == make_image(9, seed=2).config

    def test_none_chosen(self, several: str) -> None:
        with pytest.raises(ImageAmbiguous, match="contains 3 images: @0 to @2") as caught:
            find(several)
        assert caught.value.hint == f"choose one: {several}:@0"

    @pytest.mark.parametrize("name", ["nigthly", "@3", "@sha256:" + "0" * 64, "@x"])
    def test_none_found(self, several: str, name: str) -> None:
        with pytest.raises(ImageNotFound, match=f"contains no image {name}") as caught:
            find(f"{several}:{name}")
        assert caught.value.hint == "did you mean nightly?" or "nightly" in caught.value.hint


def test_names_are_listed_where_all_have_one(written: Written) -> None:
    layout = Layout()
    for seed in range(2):
        layout.add(layout.image(make_image(9, seed=seed)), f"v{seed}")
    image = written(layout)
    with pytest.raises(ImageAmbiguous, match="2 images: v0, v1") as caught:
        find(image)
    assert caught.value.hint == f"choose one: {image}:v0"
    with pytest.raises(ImageNotFound) as missing:
        find(f"{image}:v9")
    assert "v0" in missing.value.hint


def test_numbers_are_offered_where_none_has_a_name(written: Written) -> None:
    layout = Layout()
    for seed in range(2):
        layout.add(layout.image(make_image(9, seed=seed)))
    with pytest.raises(ImageNotFound) as caught:
        find(f"{written(layout)}:v1")
    assert caught.value.hint == "it has @0 to @1"


def test_two_names_of_one_image_are_one(written: Written) -> None:
    assert find(written(one(NAME, "registry.example.com/team/app:latest")))[1] == NAME


def test_a_platforms_manifest_by_its_digest(written: Written) -> None:
    layout, root = two_platforms()
    digest = json.loads(layout.blobs[root["digest"]])["manifests"][1]["digest"]
    image = find(f"{written(layout)}:@{digest}")[0].resolve()
    assert image.config == platform_image("arm64").config
    assert reopen(stored(image.pin)).resolve() == image


class TestFlatIndex:
    """index.json itself lists the platforms of one image."""

    @pytest.fixture(params=[(), ("1.2",)], ids=["nameless", "one name"])
    def layout(self, request: pytest.FixtureRequest) -> Layout:
        layout = Layout()
        for name in ("amd64", "arm64"):
            layout.add(on(f"linux/{name}", layout.image(platform_image(name))), *request.param)
        return layout

    def test_it_is_the_index(self, layout: Layout, written: Written) -> None:
        image = find(written(layout))[0].resolve()
        assert image.root is not None
        assert image.root.raw == layout.index_json
        assert len(image.documents) == 3

    def test_one_platform(self, layout: Layout, written: Written) -> None:
        source, _ = find(written(layout), Choice((Platform("linux", "arm64"),)))
        assert source.resolve().config == platform_image("arm64").config

    def test_it_is_found_again(self, layout: Layout, written: Written) -> None:
        image = find(written(layout))[0].resolve()
        assert reopen(stored(image.pin)).resolve() == image

    def test_other_names_are_left_out(self, layout: Layout, written: Written) -> None:
        for entry in layout.listed:
            entry["annotations"] = {"org.opencontainers.image.ref.name": "1.2"}
        layout.add(layout.image(make_image(3)), "other")
        image = find(f"{written(layout)}:1.2")[0].resolve()
        assert image.root is not None
        listed = [child["digest"] for child in json.loads(image.root.raw)["manifests"]]
        assert listed == [child["digest"] for child in layout.listed[:2]]

    def test_one_more_of_a_platform_is_ambiguous(self, layout: Layout, written: Written) -> None:
        names = ["1.2"] if layout.listed[0].get("annotations") else []
        layout.add(on("linux/amd64", layout.image(make_image(3))), *names)
        with pytest.raises(ImageAmbiguous, match="3 images"):
            find(written(layout))


class TestPinned:
    def test_it_is_found_again_under_another_name(self, written: Written) -> None:
        layout, root = two_platforms()
        image = find(written(layout), Choice((Platform("linux", "arm64"),)))[0].resolve()
        pinned = stored_as(LayoutPin, image.pin)
        assert pinned.root_digest == root["digest"]
        path = pinned.path
        if path.is_dir():
            layout.listed.clear()
            layout.add(layout.image(make_image(1)), "other")
            (path / "index.json").write_bytes(layout.index_json)
        assert reopen(pinned).resolve() == image

    def test_another_image_in_its_place_is_a_change(self, written: Written) -> None:
        pinned = stored_as(LayoutPin, find(written(one()))[0].resolve().pin)
        path = pinned.path
        path.rename(path.with_suffix(".old"))
        other = Layout()
        other.add(other.image(make_image(3)))
        written(other)
        with pytest.raises(ImageChanged, match=pinned.root_digest):
            reopen(pinned).resolve()

    def test_a_layout_that_is_gone_is_a_change(self, written: Written) -> None:
        pinned = stored_as(LayoutPin, find(written(one()))[0].resolve().pin)
        path = pinned.path
        path.rename(path.with_suffix(".old"))
        with pytest.raises(ImageChanged, match="was removed after"):
            reopen(pinned).resolve()

    def test_a_blob_that_is_gone_is_named(self, written: Written) -> None:
        image = written(one())
        pinned = stored_as(LayoutPin, find(image)[0].resolve().pin)
        path = pinned.path
        path.rename(path.with_suffix(".old"))
        written(one().without({"digest": IMAGE.layers[0].digest}))
        with pytest.raises(ImageIncomplete, match=IMAGE.layers[0].digest):
            reopen(pinned).resolve()


# --- what is wrong ----------------------------------------------------------------------------------------


def refused(image: str, kind: type[PusherError], *words: str, choice: Choice = EVERYTHING) -> PusherError:
    with pytest.raises(kind) as caught:
        find(image, choice)[0].resolve()
    assert type(caught.value) is kind
    for word in (str(path_of(image)), *words):
        assert word in caught.value.message
    return caught.value


@pytest.mark.parametrize("data", [b"", b"nonsense", b"[]", b"{}", b'{"manifests": [{}]}', b"[" * 100_000])
def test_nonsense_in_index_json(written: Written, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layout, "index_json", data)
    refused(written(one()), ArchiveInvalid, "index.json")


def test_no_image(written: Written) -> None:
    refused(written(Layout()), ImageNotFound, "no image")


def test_a_digest_of_an_algorithm_that_registries_do_not_know(written: Written) -> None:
    layout = Layout()
    layout.add({"mediaType": "x", "digest": "blake3:" + "0" * 64, "size": 1})
    refused(written(layout), ImageUnsupported, "blake3")


@pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "sha256:" + "A" * 64, "../x", "md5:1"])
def test_digests_that_are_none_are_no_paths(written: Written, digest: str) -> None:
    layout = Layout()
    layout.add({"mediaType": "x", "digest": digest, "size": 1})
    refused(written(layout), ArchiveInvalid, "index.json")


def test_a_missing_document(written: Written) -> None:
    layout = one()
    refused(written(layout.without(layout.listed[0])), ImageIncomplete, layout.listed[0]["digest"])


def test_a_blob_of_another_size(written: Written) -> None:
    layout = one()
    layout.blobs[IMAGE.layers[1].digest] += b"more"
    refused(written(layout), ArchiveInvalid, "is inconsistent", IMAGE.layers[1].digest)


def test_a_damaged_manifest(written: Written) -> None:
    layout = one()
    digest = layout.listed[0]["digest"]
    layout.blobs[digest] = layout.blobs[digest].replace(b"schemaVersion", b"schemaversion")
    refused(written(layout), LayerMismatch, digest)


def test_a_manifest_of_100_mb_is_not_read(written: Written) -> None:
    layout = Layout()
    big = layout.blob(b"{}", "application/vnd.oci.image.manifest.v1+json")
    layout.add({**big, "size": 100 << 20})
    refused(written(layout), ImageUnsupported, str(100 << 20))


def test_an_index_json_of_100_mb_is_not_read(tmp_path: Path) -> None:
    path = one().write_folder(tmp_path / "layout")
    os.truncate(path / "index.json", 100 << 20)
    refused(f"oci:{path}", ArchiveInvalid, "too large")


def test_an_archive_cut_at_every_block(tmp_path: Path) -> None:
    path = one().write_archive(tmp_path / "a.tar")
    whole = find(str(path))[0].resolve()
    data = path.read_bytes()
    end = 0
    for length in range(0, len(data), 512):
        path.write_bytes(data)
        truncated(path, length)
        with suppress(ArchiveTruncated, ArchiveInvalid):
            assert find(f"oci-archive:{path}")[0].resolve().documents == whole.documents
            continue
        end = length
    assert end > len(data) - 12_000, "only padding is dispensable"


class TestFolders:
    """What only a folder can be."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return one().write_folder(tmp_path / "layout")

    def blob(self, path: Path) -> Path:
        return path / "blobs/sha256" / IMAGE.layers[0].digest.removeprefix("sha256:")

    def test_a_blob_that_is_a_link_is_refused(self, path: Path, tmp_path: Path) -> None:
        self.blob(path).rename(tmp_path / "secret")
        self.blob(path).symlink_to(tmp_path / "secret")
        refused(f"oci:{path}", ArchiveInvalid, "symbolic link")

    @pytest.mark.timeout(60)
    def test_fifos_do_not_hang(self, path: Path) -> None:
        for name in (self.blob(path), path / "index.json"):
            name.unlink()
            os.mkfifo(name)
            refused(f"oci:{path}", ArchiveInvalid, "not a regular file")

    def test_an_index_json_that_is_a_link_out_of_the_folder_is_refused(
        self, path: Path, tmp_path: Path
    ) -> None:
        (path / "index.json").rename(tmp_path / "elsewhere")
        (path / "index.json").symlink_to(tmp_path / "elsewhere")
        assert "--follow-links" in refused(f"oci:{path}", ArchiveInvalid, "symbolic link").hint

    @pytest.mark.parametrize("absolute", [False, True])
    def test_links_inside_the_folder_are_followed(self, path: Path, absolute: bool) -> None:
        """As Bazel lays images out: every blob is a link to where the layer was built."""
        built = path / "built" / "layers"
        built.mkdir(parents=True)
        for number, blob in enumerate((path / "blobs/sha256").iterdir()):
            blob.rename(built / str(number))
            blob.symlink_to(built / str(number) if absolute else f"../../built/layers/{number}")
        (path / "index.json").rename(path / "built/index")
        (path / "index.json").symlink_to("built/index")
        image = find(f"oci:{path}")[0].resolve()
        assert image.config == IMAGE.config
        for layer in image.layers:
            assert layer.file is not None
            with layer.file.open() as file:
                assert sha256(file.read()) == layer.file.digest

    def test_links_out_of_the_folder_are_followed_where_somebody_says_so(
        self, path: Path, tmp_path: Path
    ) -> None:
        (path / "blobs").rename(tmp_path / "cas")
        (path / "blobs").symlink_to(tmp_path / "cas")
        hint = refused(f"oci:{path}", ArchiveInvalid, "leads out of").hint
        assert "--follow-links" in hint
        assert f"cp -RL {path}" in hint
        choice = Choice(follow_links=True)
        image = find(f"oci:{path}", choice)[0].resolve()
        assert image.config == IMAGE.config
        assert reopen(image.pin).resolve() == image, "a job keeps what was said"

    def test_links_that_lead_nowhere(self, path: Path) -> None:
        blob = self.blob(path)
        blob.unlink()
        blob.symlink_to("none")
        refused(f"oci:{path}", ImageIncomplete, "lacks")
        blob.unlink()
        blob.symlink_to(blob.name)
        refused(f"oci:{path}", ArchiveInvalid, "not a regular file")

    def test_an_index_json_that_is_a_folder_is_refused(self, path: Path) -> None:
        (path / "index.json").unlink()
        (path / "index.json").mkdir()
        refused(f"oci:{path}", ArchiveInvalid, "not a regular file")

    def test_no_layout(self, tmp_path: Path) -> None:
        refused(f"oci:{tmp_path}", ArchiveInvalid, "no index.json")
        refused(f"oci:{tmp_path}/none", ImageNotFound, "no folder")
        with pytest.raises(ArchiveInvalid, match=r"neither index.json nor manifest.json"):
            find(str(tmp_path))

    def test_what_may_not_be_read(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def denied(*arguments: object, **options: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pusher.sources.blob_places.os.open", denied)
        refused(f"oci:{path}", SourceError, "Permission denied")
