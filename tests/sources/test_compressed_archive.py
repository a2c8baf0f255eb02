"""Archives that are compressed as a whole: read as a stream, never unpacked to disk, whatever is in them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import resource
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pusher.errors import ArchiveInvalid, ArchiveTruncated, ImageIncomplete, PusherError, SourceError
from pusher.sources import find, reopen
from pusher.sources.base import Source, SourceImage
from pusher.sources.tar import reader
from tests.support.images import (
    SHAPES,
    Entry,
    Image,
    Shape,
    entries,
    make_image,
    make_layer,
    sha256,
    write_archive,
    write_tar,
)
from tests.support.layouts import two_platforms
from tests.support.pins import stored

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda data: gzip.compress(data, 1, mtime=0),
    "zst": zstandard.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "bz2": lambda data: bz2.compress(data, 1),
}
IMAGE = make_image(5000, 0, 200_000)


def compressed(path: Path, kind: str) -> Path:
    """The file compressed, in its place; its plain bytes lie nowhere any more."""
    packed = path.with_name(f"{path.name}.{kind}")
    packed.write_bytes(COMPRESSIONS[kind](path.read_bytes()))
    path.unlink()
    return packed


@pytest.fixture(params=COMPRESSIONS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def contents(source: Source, image: SourceImage) -> dict[str, bytes]:
    """What an export gives when all is wanted; each piece comes once, has its size and its digest."""
    found: dict[str, bytes] = {}
    wanted = {layer.export_name for layer in image.layers}
    assert all(layer.file is None for layer in image.layers)
    with source.export(wanted) as pieces:
        for piece in pieces:
            assert piece.name is not None
            assert piece.name not in found
            found[piece.name] = piece.stream.read()
            assert (sha256(found[piece.name]), len(found[piece.name])) == (piece.name, piece.size)
            blobs = {layer.blob.digest for layer in image.layers if layer.blob}
            assert piece.kind == ("blob" if piece.name in blobs else "layer")
    assert set(found) == wanted
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_image(tmp_path: Path, shape: Shape, kind: str) -> None:
    path = compressed(write_archive(tmp_path / "a.tar", IMAGE, shape=shape), kind)
    source, name = find(str(path))
    assert name == IMAGE.names[0]
    image = source.resolve()
    assert image.config == IMAGE.config
    assert tuple(layer.key for layer in image.layers) == IMAGE.diff_ids
    again = reopen(stored(image.pin))
    assert again.resolve().layers == image.layers
    data = contents(again, image)
    if shape in ("containerd", "compressed"):
        assert set(data.values()) == {layer.gzip for layer in IMAGE.layers}
    else:
        assert set(data.values()) == {layer.tar for layer in IMAGE.layers}


def test_an_oci_archive_with_all_its_platforms(tmp_path: Path, kind: str) -> None:
    layout, root = two_platforms()
    source, _ = find(f"oci-archive:{compressed(layout.write_archive(tmp_path / 'a.tar'), kind)}")
    image = source.resolve()
    documents = {document.digest: document.raw for document in image.documents}
    assert {**contents(source, image), **documents, image.config_digest: image.config} == layout.blobs
    assert image.documents[-1].digest == root["digest"]


def test_only_what_is_wanted_is_exported(tmp_path: Path, kind: str) -> None:
    source, _ = find(str(compressed(write_archive(tmp_path / "a.tar", IMAGE), kind)))
    with source.export({IMAGE.diff_ids[1]}) as pieces:
        assert [piece.name for piece in pieces] == [IMAGE.diff_ids[1]]
    with source.export(set()) as pieces:
        assert list(pieces) == []


def test_pieces_may_be_left_alone(tmp_path: Path, kind: str) -> None:
    source, _ = find(str(compressed(write_archive(tmp_path / "a.tar", IMAGE), kind)))
    with source.export(set(IMAGE.diff_ids)) as pieces:
        assert {piece.name for piece in pieces} == set(IMAGE.diff_ids)


def test_a_layer_that_another_links_to(tmp_path: Path, kind: str) -> None:
    """Docker before 25 writes a layer that occurs twice as a link to the first."""
    image = Image((*IMAGE.layers, IMAGE.layers[0]), IMAGE.names)
    source, _ = find(str(compressed(write_archive(tmp_path / "a.tar", image), kind)))
    assert len(contents(source, source.resolve())) == 3


def test_several_streams_after_another_are_one(tmp_path: Path, kind: str) -> None:
    """pigz, pzstd and others write such files."""
    data = write_archive(tmp_path / "a.tar", IMAGE).read_bytes()
    pack = COMPRESSIONS[kind]
    path = tmp_path / "a.bin"
    path.write_bytes(b"".join(pack(data[at : at + 70_000]) for at in range(0, len(data), 70_000)))
    source, _ = find(f"docker-archive:{path}")
    assert len(contents(source, source.resolve())) == 3


def test_documents_are_read_again_where_they_are_not_kept(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pusher.sources.archive.file._KEPT", 0)
    layout, _ = two_platforms()
    source, _ = find(str(compressed(layout.write_archive(tmp_path / "a.tar"), kind)))
    image = source.resolve()
    assert len(contents(source, image)) == len(image.layers) == 9


def test_a_file_is_looked_through_once_as_long_as_it_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    walk = reader.walk

    def counted(source: reader.Input, *, most: int | None = None) -> Iterator[reader.Entry]:
        passes.append(1)
        yield from walk(source, most=most)

    monkeypatch.setattr(reader, "walk", counted)
    path = compressed(write_archive(tmp_path / "a.tar", IMAGE), "gz")
    source, _ = find(str(path))
    source.resolve()
    assert len(passes) == 1
    contents(source, source.resolve())
    assert len(passes) == 2
    other = make_image(7)
    write_archive(tmp_path / "b.tar", other)
    compressed(tmp_path / "b.tar", "gz").replace(path)
    assert find(str(path))[0].resolve().config == other.config


# --- damage -----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1))
def test_a_cut_anywhere_is_an_error_or_harmless(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / "a.tar"
    if not (packed := tmp_path / f"a.tar.{kind}").exists():
        compressed(write_archive(path, IMAGE), kind)
        packed.rename(tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    packed.write_bytes(data[: int(len(data) * share)])
    with suppress(ArchiveTruncated, ArchiveInvalid):
        source, _ = find(str(packed))
        assert len(contents(source, source.resolve())) == 3
        assert share > 0.9, "what is left out can be the end of the tar only"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.9999), value=st.integers(0, 255))
def test_a_damaged_byte_never_gives_a_traceback(tmp_path: Path, kind: str, share: float, value: int) -> None:
    data = bytearray(COMPRESSIONS[kind](write_archive(tmp_path / "a.tar", make_image(3000)).read_bytes()))
    data[int(len(data) * share)] = value
    path = tmp_path / "b.tar"
    path.write_bytes(data)
    with suppress(PusherError):
        source, _ = find(str(path))
        with source.export(set(make_image(3000).diff_ids)) as pieces:
            for piece in pieces:
                piece.stream.read()


def test_a_file_cut_while_a_layer_is_read(tmp_path: Path) -> None:
    image = make_image(3_000_000, compressible=0.0)
    path = compressed(write_archive(tmp_path / "a.tar", image), "gz")
    source, _ = find(str(path))
    with source.export(set(image.diff_ids)) as pieces:
        piece = next(pieces)
        os.truncate(path, 2_000_000)
        with pytest.raises(ArchiveTruncated, match="became shorter"):
            piece.stream.read()


def test_what_is_inside_is_no_image(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.tar.{kind}"
    for data, words in ((b"", "manifest.json"), (b"hello" * 200, "no tar")):
        path.write_bytes(COMPRESSIONS[kind](data))
        with pytest.raises((ArchiveInvalid, ArchiveTruncated)) as caught:
            find(str(path))
        assert str(path) in caught.value.message
        assert words in caught.value.message


def test_a_missing_layer_is_named(tmp_path: Path, kind: str) -> None:
    gone = f"blobs/sha256/{IMAGE.layers[1].digest.removeprefix('sha256:')}"
    left = [entry for entry in entries("containerd", IMAGE) if entry.name != gone]
    path = compressed(write_tar(tmp_path / "a.tar", left), kind)
    with pytest.raises(ImageIncomplete, match=IMAGE.layers[1].digest):
        find(str(path))[0].resolve()


def test_a_disk_that_cannot_be_read(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = compressed(write_archive(tmp_path / "a.tar", IMAGE), kind)

    def preadv(descriptor: int, buffers: object, offset: int) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pusher.sources.file_range.os.preadv", preadv)
    with pytest.raises(SourceError, match="Input/output error"):
        find(str(path))


# --- bombs ------------------------------------------------------------------------------------------------


def test_a_bomb_of_headers_is_given_up(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pusher.sources.archive.file._MAX_ENTRIES", 500)
    header = tarfile.TarInfo("x").tobuf()
    path = tmp_path / "bomb.tar"
    path.write_bytes(COMPRESSIONS[kind](header * 501))
    with pytest.raises(ArchiveInvalid, match="very many files"):
        find(str(path))


def test_a_bomb_of_names_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long names that no entry follows are headers as well."""
    monkeypatch.setattr("pusher.sources.archive.file._MAX_ENTRIES", 500)
    long = tarfile.TarInfo("x" * 600).tobuf(tarfile.GNU_FORMAT)[:-512]
    path = tmp_path / "bomb.tar"
    path.write_bytes(gzip.compress(long * 501))
    with pytest.raises(ArchiveInvalid, match="very many files"):
        find(str(path))


def test_a_gigabyte_of_zeros_takes_no_memory(tmp_path: Path) -> None:
    """In 1 MB of gzip: a layer that nobody wants is passed by, one that is wanted is a stream."""
    zeros = tarfile.TarInfo("zeros/layer.tar")
    zeros.size = 1 << 30
    rest = write_tar(tmp_path / "a.tar", entries("classic", make_image(10))).read_bytes()
    path = tmp_path / "bomb.tar.gz"
    members = [zeros.tobuf(), bytes(1 << 20), rest]
    head, middle, tail = (gzip.compress(member, 1) for member in members)
    path.write_bytes(head + middle * (1 << 10) + tail)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert find(str(path))[0].resolve().config == make_image(10).config
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


@pytest.mark.parametrize("kind", ["zst", "xz"])
def test_a_window_that_would_take_a_gigabyte_of_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bomb.tar"
    data = bytes(100_000)
    if kind == "xz":
        path.write_bytes(
            lzma.compress(data, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}])
        )
    else:
        far = zstandard.ZstdCompressionParameters(window_log=30, write_content_size=False)
        compressor = zstandard.ZstdCompressor(compression_params=far).compressobj()
        path.write_bytes(compressor.compress(data) + compressor.flush())
    with pytest.raises(ArchiveInvalid, match="128 MiB of memory") as caught:
        find(str(path))
    assert "unpack it" in caught.value.hint


def test_nothing_is_written_anywhere(tmp_path: Path, kind: str) -> None:
    evil = [Entry(name, b"{}") for name in ("/etc/pusher-was-here", "../outside", "a/../../outside")]
    folder = tmp_path / "work"
    folder.mkdir()
    path = compressed(write_tar(folder / "a.tar", [*evil, *entries("classic", IMAGE)]), kind)
    source, _ = find(str(path))
    contents(source, source.resolve())
    assert [found.name for found in tmp_path.rglob("*")] == ["work", path.name]
    assert not Path("/etc/pusher-was-here").exists()


def test_a_compressed_layer_in_a_compressed_archive(tmp_path: Path) -> None:
    """Its digest is computed once, while the file passes."""
    image = Image((make_layer(5000), make_layer(6000, 1)), IMAGE.names)
    path = compressed(write_archive(tmp_path / "a.tar", image, shape="compressed"), "zst")
    found = find(str(path))[0].resolve()
    assert [layer.blob and layer.blob.digest for layer in found.layers] == [
        layer.digest for layer in image.layers
    ]
    assert contents(reopen(found.pin), found) == {layer.digest: layer.gzip for layer in image.layers}


def skippable(data: bytes) -> bytes:
    """A frame without data, as pzstd writes one before every other."""
    return b"\x50\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


def test_frames_to_skip_are_skipped(tmp_path: Path) -> None:
    data = write_archive(tmp_path / "a.tar", IMAGE).read_bytes()
    path = tmp_path / "a.tar.zst"
    frames = [zstandard.compress(data[at : at + 70_000]) for at in range(0, len(data), 70_000)]
    path.write_bytes(b"".join(skippable(len(f).to_bytes(4, "little")) + f for f in frames) + skippable(b""))
    source, _ = find(str(path))
    assert len(contents(source, source.resolve())) == 3


@pytest.mark.parametrize("outer", COMPRESSIONS)
def test_what_is_compressed_twice_is_read(tmp_path: Path, kind: str, outer: str) -> None:
    path = compressed(compressed(write_archive(tmp_path / "a.tar", IMAGE), kind), outer)
    source, _ = find(f"docker-archive:{path}")
    assert len(contents(source, source.resolve())) == 3


def test_what_is_compressed_more_often_is_told(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.tar", IMAGE)
    for kind in ("gz", "zst", "gz"):
        path = compressed(path, kind)
    with pytest.raises(ArchiveInvalid, match="more than 2 times"):
        find(f"docker-archive:{path}")
