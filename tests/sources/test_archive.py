"""docker-archive files in every shape: the image, its layers, and the choice among several."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard

from pusher.errors import (
    ArchiveInvalid,
    ArchiveTruncated,
    ImageAmbiguous,
    ImageChanged,
    ImageNotFound,
    ImageUnsupported,
)
from pusher.oci import media_types
from pusher.oci.manifest import Descriptor
from pusher.sources.archive.docker_archive import ArchiveSource
from pusher.sources.base import SourceImage
from pusher.sources.pins import ArchivePin
from tests.support.images import (
    SHAPES,
    UNCOMPRESSED,
    Entry,
    Image,
    Layer,
    Shape,
    entries,
    make_image,
    sha256,
    tar_of,
    write_archive,
    write_tar,
)
from tests.support.pins import stored_as

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def exported(source: ArchiveSource, wanted: object) -> dict[str, bytes]:
    """What an export gives, by name; every piece is a layer with a name, comes once and has its size."""
    found: dict[str, bytes] = {}
    with source.export(wanted) as pieces:  # type: ignore[arg-type]
        for piece in pieces:
            assert piece.kind == "layer"
            assert piece.name is not None
            assert piece.name not in found
            found[piece.name] = piece.stream.read()
            assert len(found[piece.name]) == piece.size
    return found


def contents(source: ArchiveSource, image: SourceImage) -> list[bytes]:
    """The bytes of each layer, as a slice or from an export."""
    streams = exported(source, {layer.diff_id for layer in image.layers if layer.file is None})
    result = []
    for layer in image.layers:
        if layer.file is None:
            result.append(streams[layer.key])
            continue
        with layer.file.path.open("rb") as file:
            file.seek(layer.file.start)
            data = file.read(layer.file.size)
        assert sha256(data) == layer.file.digest
        result.append(data)
    return result


@pytest.mark.parametrize("tar_format", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_image(tmp_path: Path, shape: Shape, tar_format: int) -> None:
    image = make_image(5000, 0, 200_000)
    source = ArchiveSource(write_archive(tmp_path / "a.tar", image, shape=shape, tar_format=tar_format))
    found = source.resolve()
    assert found.config == image.config
    assert found.config_digest == image.config_digest
    assert tuple(layer.diff_id for layer in found.layers) == image.diff_ids
    data = contents(source, found)
    if shape in UNCOMPRESSED:
        assert data == [layer.tar for layer in image.layers]
        assert all(layer.blob is None for layer in found.layers)
    else:
        assert data == [layer.gzip for layer in image.layers]
    assert source.own_name() == image.names[0]


def test_the_containerd_stores_manifest_is_given_unchanged(tmp_path: Path) -> None:
    image = make_image(5000, 6000)
    found = ArchiveSource(write_archive(tmp_path / "a.tar", image, shape="containerd")).resolve()
    assert found.root is not None
    assert found.root.raw == image.manifest
    assert [layer.blob and layer.blob.media_type for layer in found.layers] == [
        media_types.OCI_LAYER_GZIP
    ] * 2
    assert [layer.file and layer.file.digest for layer in found.layers] == [
        layer.digest for layer in image.layers
    ]


@pytest.mark.parametrize("shape", UNCOMPRESSED)
def test_uncompressed_layers_are_not_final(tmp_path: Path, shape: Shape) -> None:
    """Docker 25's made-up manifest of uncompressed layers is not what one wants in a registry."""
    found = ArchiveSource(write_archive(tmp_path / "a.tar", make_image(5000), shape=shape)).resolve()
    assert found.root is None
    assert [layer.file for layer in found.layers] == [None]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_layer_that_occurs_twice_is_exported_once(tmp_path: Path, shape: Shape) -> None:
    once = make_image(5000, 6000)
    image = Image((*once.layers, once.layers[0]), once.names)
    source = ArchiveSource(write_archive(tmp_path / "a.tar", image, shape=shape))
    found = source.resolve()
    once_each = shape == "containerd"  # its manifest says where the layer occurs
    assert tuple(layer.diff_id for layer in found.layers) == image.diff_ids[: 2 if once_each else 3]
    assert len(contents(source, found)) == (2 if once_each else 3)
    if shape in UNCOMPRESSED:
        assert len(exported(source, set(image.diff_ids))) == 2


def test_only_what_is_wanted_is_exported(tmp_path: Path) -> None:
    image = make_image(5000, 6000, 7000)
    source = ArchiveSource(write_archive(tmp_path / "a.tar", image))
    assert exported(source, {image.diff_ids[1]}) == {image.diff_ids[1]: image.layers[1].tar}
    assert exported(source, ()) == {}
    assert exported(source, {image.config_digest}) == {}


def test_a_piece_may_be_left_alone(tmp_path: Path) -> None:
    image = make_image(5000, 6000)
    with ArchiveSource(write_archive(tmp_path / "a.tar", image)).export(image.diff_ids) as pieces:
        next(pieces)
        assert next(pieces).stream.read() in [layer.tar for layer in image.layers]


def test_an_image_without_layers(tmp_path: Path) -> None:
    for shape in SHAPES:
        found = ArchiveSource(write_archive(tmp_path / "a.tar", make_image(), shape=shape)).resolve()
        assert found.layers == ()


def test_digests_of_compressed_layers_are_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make_image(5000, 6000)
    path = write_archive(tmp_path / "a.tar", image, shape="compressed")
    first = ArchiveSource(path).resolve()
    assert {layer.blob and layer.blob.media_type for layer in first.layers} == {media_types.DOCKER_LAYER_GZIP}

    def never(*args: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("pusher.sources.archive.docker_archive.unpack", never)
    pinned = stored_as(ArchivePin, first.pin)
    assert ArchiveSource(path, pin=pinned).resolve().layers == first.layers
    os.utime(path, (1, 1))
    with pytest.raises(AssertionError, match="computed again"):
        ArchiveSource(path, pin=pinned).resolve()


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda tar: zstandard.compress(tar[:512]) + zstandard.compress(tar[512:]),
    "pzstd": lambda tar: b"\x50\x2a\x4d\x18" + bytes([1, 0, 0, 0, 9]) + zstandard.compress(tar),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "padded gzip": lambda tar: gzip.compress(tar, mtime=0) + bytes(512),
    "gzip padded between its members": lambda tar: (
        gzip.compress(tar[:512], mtime=0) + bytes(7) + gzip.compress(tar[512:], mtime=0)
    ),
}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_layers_that_no_manifest_describes_in_every_compression(
    tmp_path: Path, kind: str, whole: bool
) -> None:
    """Skopeo reads them all. What Docker can unpack is sent as it is, the others are compressed again: Go's
    gzip reader takes zeros behind a member for the header of the next one."""
    image = make_image(5000, 6000)
    packed = {layer.gzip: COMPRESSIONS[kind](layer.tar) for layer in image.layers}
    path = write_tar(
        tmp_path / "a.tar",
        [Entry(one.name, packed.get(one.data or b"", one.data)) for one in entries("compressed", image)],
    )
    if whole:
        path.write_bytes(gzip.compress(path.read_bytes(), 1))
    source = ArchiveSource(path)
    found = source.resolve()
    assert [layer.diff_id for layer in found.layers] == list(image.diff_ids)
    if kind == "zstd":
        assert [layer.blob for layer in found.layers] == [
            Descriptor(media_types.OCI_LAYER_ZSTD, sha256(data), len(data)) for data in packed.values()
        ]
    else:
        assert [layer.blob for layer in found.layers] == [None, None]
        again = ArchiveSource(path, pin=stored_as(ArchivePin, found.pin))
        assert exported(again, set(image.diff_ids)) == {layer.diff_id: layer.tar for layer in image.layers}


def test_a_layer_whose_first_file_is_called_like_a_compression(tmp_path: Path) -> None:
    layer = Layer(tar_of([("BZh9-notes", b"x")]))
    source = ArchiveSource(write_archive(tmp_path / "a.tar", Image((layer,))))
    assert exported(source, {layer.diff_id}) == {layer.diff_id: layer.tar}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_archive_cut_at_every_block(tmp_path: Path, shape: Shape) -> None:
    path = write_archive(tmp_path / "a.tar", make_image(3000, 4000), shape=shape)
    whole = contents(source := ArchiveSource(path), source.resolve())
    data = path.read_bytes()
    for length in range(0, len(data), 512):
        path.write_bytes(data[:length])
        with suppress(ArchiveTruncated, ArchiveInvalid, ImageUnsupported):
            assert contents(source, source.resolve()) == whole


def test_paths_with_a_leading_dot_are_the_same(tmp_path: Path) -> None:
    """As `tar -c .` writes them."""
    image = make_image(5000)
    content = [Entry(f"./{e.name}", e.data, e.target) for e in entries("classic", image)]
    assert ArchiveSource(write_tar(tmp_path / "a.tar", content)).resolve().config == image.config


class TestSeveralImages:
    """An archive with three images, one of them without a name."""

    first = make_image(
        5000, 6000, names=("registry.example.com/team/app:1.2", "registry.example.com/team/app:latest")
    )
    second = make_image(5000, names=("docker.io/library/web:3",), seed=2)
    third = make_image(9, names=(), seed=3)

    @pytest.fixture(params=SHAPES)
    def path(self, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
        images = (self.first, self.second, self.third)
        return write_archive(tmp_path / "several.tar", *images, shape=request.param)

    @pytest.mark.parametrize(
        ("name", "position", "own"),
        [
            ("registry.example.com/team/app:1.2", 0, "registry.example.com/team/app:1.2"),
            ("registry.example.com/team/app", 0, "registry.example.com/team/app:latest"),
            ("web:3", 1, "docker.io/library/web:3"),
            ("library/web:3", 1, "docker.io/library/web:3"),
            ("docker.io/library/web:3", 1, "docker.io/library/web:3"),
            ("@0", 0, "registry.example.com/team/app:1.2"),
            ("@2", 2, None),
            ("@3", None, None),
            ("web:4", None, None),
        ],
    )
    def test_one_is_chosen(self, path: Path, name: str, position: int | None, own: str | None) -> None:
        source = ArchiveSource(path, name)
        if position is None:
            with pytest.raises(ImageNotFound) as caught:
                source.resolve()
            assert str(path) in caught.value.message
            return
        image = (self.first, self.second, self.third)[position]
        found = source.resolve()
        assert found.config == image.config
        assert tuple(layer.diff_id for layer in found.layers) == image.diff_ids
        assert source.own_name() == own

    def test_one_is_chosen_by_its_id(self, path: Path) -> None:
        for name in (self.third.config_digest, self.third.config_digest[7:19]):
            assert ArchiveSource(path, name).resolve().config == self.third.config

    def test_none_chosen_lists_them(self, path: Path) -> None:
        with pytest.raises(ImageAmbiguous) as caught:
            ArchiveSource(path).resolve()
        for name in (*self.first.names, *self.second.names):
            assert name in caught.value.message
        assert f"docker-archive:{path}:registry.example.com/team/app:1.2" in caught.value.hint

    def test_a_wrong_name_gives_the_nearest(self, path: Path) -> None:
        with pytest.raises(ImageNotFound) as caught:
            ArchiveSource(path, "registry.example.com/taem/app:1.2").resolve()
        assert "registry.example.com/team/app:1.2" in caught.value.hint


class TestPinned:
    """What happens to the archive between enqueue and run."""

    image = make_image(5000, 6000)

    @pytest.fixture(params=SHAPES)
    def shape(self, request: pytest.FixtureRequest) -> Shape:
        return request.param  # type: ignore[no-any-return]

    def test_it_is_found_again_by_its_config(self, tmp_path: Path, shape: Shape) -> None:
        """Another image was added in front, and the tag moved to it."""
        path = write_archive(tmp_path / "a.tar", self.image, shape=shape)
        pinned = stored_as(ArchivePin, ArchiveSource(path).resolve().pin)
        moved = Image(self.image.layers, (), self.image.comment)
        write_archive(path, make_image(7000, 80, seed=5), moved, shape=shape)
        source = ArchiveSource(path, pin=pinned)
        found = source.resolve()
        assert found.config == self.image.config
        assert len(contents(source, found)) == 2

    def test_another_image_in_its_place_is_a_change(self, tmp_path: Path, shape: Shape) -> None:
        path = write_archive(tmp_path / "a.tar", self.image, shape=shape)
        pinned = stored_as(ArchivePin, ArchiveSource(path).resolve().pin)
        write_archive(path, make_image(5000, seed=9), shape=shape)
        source = ArchiveSource(path, pin=pinned)
        with pytest.raises(ImageChanged) as caught:
            source.resolve()
        assert self.image.config_digest in caught.value.message
        with pytest.raises(ImageChanged), source.export(self.image.diff_ids):
            pass

    def test_a_file_that_is_gone_is_a_change(self, tmp_path: Path, shape: Shape) -> None:
        path = write_archive(tmp_path / "a.tar", self.image, shape=shape)
        pinned = stored_as(ArchivePin, ArchiveSource(path).resolve().pin)
        path.unlink()
        with pytest.raises(ImageChanged) as caught:
            ArchiveSource(path, pin=pinned).resolve()
        assert str(path) in caught.value.message

    def test_the_path_is_absolute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_archive(tmp_path / "a.tar", self.image)
        monkeypatch.chdir(tmp_path)
        pinned = stored_as(ArchivePin, ArchiveSource(Path("a.tar")).resolve().pin)
        monkeypatch.chdir("/")
        assert ArchiveSource(pinned.path, pin=pinned).resolve().config == self.image.config

    def test_a_copy_with_another_time_is_fine(self, tmp_path: Path, shape: Shape) -> None:
        path = write_archive(tmp_path / "a.tar", self.image, shape=shape)
        before = ArchiveSource(path).resolve()
        shutil.copy(path, tmp_path / "b.tar")
        (tmp_path / "b.tar").replace(path)
        after = ArchiveSource(path, pin=stored_as(ArchivePin, before.pin)).resolve()
        assert after.layers == before.layers
