"""Files that are no image archive, or a damaged one: a sentence, never a traceback, never wrong bytes."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pusher.errors import (
    ArchiveInvalid,
    ArchiveTruncated,
    ImageIncomplete,
    ImageNotFound,
    ImageUnsupported,
    LayerMismatch,
    PusherError,
    SourceError,
)
from pusher.sources.archive.docker_archive import ArchiveSource
from tests.sources.test_archive import contents
from tests.support.images import (
    SHAPES,
    Entry,
    Image,
    Shape,
    entries,
    make_image,
    sha256,
    truncated,
    write_archive,
    write_tar,
)

IMAGE = make_image(3000, 4000)


def changed(shape: Shape, change: Callable[[Entry], Entry | None], *, image: Image = IMAGE) -> list[Entry]:
    """The entries of an archive, each replaced by what ``change`` makes of it, or left out."""
    return [entry for old in entries(shape, image) if (entry := change(old)) is not None]


def without(*names: str) -> Callable[[Entry], Entry | None]:
    return lambda entry: None if entry.name in names else entry


def with_data(name: str, data: bytes) -> Callable[[Entry], Entry | None]:
    return lambda entry: Entry(name, data) if entry.name == name else entry


def refused(path: Path, kind: type[PusherError], *words: str) -> PusherError:
    """The error that resolving gives: of this class, with these words in it."""
    with pytest.raises(kind) as caught:
        ArchiveSource(path).resolve()
    error: PusherError = caught.value
    assert type(error) is kind
    for word in (*words, path.name):
        assert word in f"{error.message} {error.hint}"
    return error


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ["is empty"]),
        (b"FROM scratch\nCOPY a b\n", ["text file", "docker save"]),
        (b"PK\x03\x04" + bytes(100), ["zip"]),
        (b"\x7fELF" + bytes(range(256)) * 4, ["a program"]),
        (b"\x7f" + bytes(range(256)) * 4, ["no tar"]),
        (b"\x00\x01", ["cut off"]),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_name(tmp_path: Path, data: bytes, words: list[str]) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(data)
    refused(path, ArchiveTruncated if words == ["cut off"] else ArchiveInvalid, *words)


def test_a_tar_of_other_things_is_no_image_archive(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [Entry("README", b"hello")])
    refused(path, ArchiveInvalid, "manifest.json", "docker save")


def test_an_empty_tar_is_no_image_archive(tmp_path: Path) -> None:
    refused(write_tar(tmp_path / "a.tar", []), ArchiveInvalid, "manifest.json")


def test_an_oci_archive_is_named_and_can_be_converted(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "oci.tar", changed("containerd", without("manifest.json")))
    refused(path, ImageUnsupported, "OCI archive", f"oci-archive:{path}")


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    refused(tmp_path / "none.tar", ImageNotFound, "no file")


def test_a_folder(tmp_path: Path) -> None:
    refused(tmp_path, ArchiveInvalid, "folder")


def test_a_named_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", ArchiveInvalid, "not a regular file")


def test_a_file_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file" / "a.tar", SourceError, "Not a directory")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_archive(tmp_path / "a.tar", IMAGE)

    def denied(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pusher.sources.archive.file.never_waiting", denied)
    refused(path, SourceError, "permission", "ls -l")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_missing_part_is_named(tmp_path: Path, shape: Shape) -> None:
    described = json.loads(next(e.data for e in entries(shape, IMAGE) if e.name == "manifest.json") or b"")[0]
    for name in (described["Config"], *described["Layers"], "manifest.json"):
        path = write_tar(tmp_path / "a.tar", changed(shape, without(name)))
        kind: type[PusherError] = ArchiveInvalid
        if shape in ("docker25", "containerd") and name == "manifest.json":
            kind = ImageUnsupported
        elif shape == "containerd" and name != described["Config"]:
            kind = ImageIncomplete
        with pytest.raises(kind) as caught:
            contents(source := ArchiveSource(path), source.resolve())
        if kind is not ImageUnsupported:
            assert name.rpartition("/")[2] in caught.value.message


@pytest.mark.parametrize("shape", ["classic", "podman"])
def test_an_archive_that_ends_between_two_entries_is_cut_off(tmp_path: Path, shape: Shape) -> None:
    path = write_tar(tmp_path / "a.tar", changed(shape, without("manifest.json", "repositories")))
    with tarfile.open(path) as file:
        last = file.getmembers()[-1]
    truncated(path, last.offset_data + (last.size + 511) // 512 * 512)
    refused(path, ArchiveTruncated, "cut off", "manifest.json")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"{}",
        b"null",
        b'"text"',
        b"[null]",
        b"[[]]",
        b"[{}]",
        b'[{"Config": 1, "Layers": []}]',
        b'[{"Config": "a.json", "Layers": "b"}]',
        b'[{"Config": "a.json", "Layers": [1]}]',
        b'[{"Config": "a.json", "Layers": [], "RepoTags": [{}]}]',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_nonsense_in_manifest_json(tmp_path: Path, data: bytes) -> None:
    path = write_tar(tmp_path / "a.tar", changed("classic", with_data("manifest.json", data)))
    refused(path, ArchiveInvalid, "manifest.json")


def test_no_image_in_manifest_json(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", changed("classic", with_data("manifest.json", b"[]")))
    refused(path, ImageNotFound, "no image")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_config_with_other_bytes_than_its_name_says(tmp_path: Path, shape: Shape) -> None:
    def change(entry: Entry) -> Entry:
        return Entry(entry.name, entry.data.replace(b"seed 0", b"seed 1")) if entry.data else entry

    path = write_tar(tmp_path / "a.tar", changed(shape, change))
    refused(path, LayerMismatch, IMAGE.config_digest)


@pytest.mark.parametrize(
    "config",
    [b"{}", b"[]", b"nonsense", b'{"rootfs": {"diff_ids": ["sha256:1"]}}', b'{"rootfs": {"diff_ids": 5}}'],
)
def test_a_config_that_is_none(tmp_path: Path, config: bytes) -> None:
    listed = [{"Config": "config.json", "Layers": []}]
    content = [Entry("config.json", config), Entry("manifest.json", json.dumps(listed).encode())]
    refused(write_tar(tmp_path / "a.tar", content), ArchiveInvalid, "config")


def test_a_config_with_another_number_of_layers(tmp_path: Path) -> None:
    def change(entry: Entry) -> Entry:
        if entry.name != "manifest.json":
            return entry
        listed = json.loads(entry.data or b"")
        listed[0]["Layers"].pop()
        return Entry(entry.name, json.dumps(listed).encode())

    path = write_tar(tmp_path / "a.tar", changed("classic", change))
    refused(path, ArchiveInvalid, "1 layers", "the config 2")


def test_a_manifest_with_other_bytes_than_its_digest(tmp_path: Path) -> None:
    name = "blobs/sha256/" + sha256(IMAGE.manifest).removeprefix("sha256:")
    path = write_tar(tmp_path / "a.tar", changed("containerd", with_data(name, IMAGE.manifest + b" ")))
    refused(path, LayerMismatch, sha256(IMAGE.manifest))


def test_a_blob_of_another_size_than_the_manifest_says(tmp_path: Path) -> None:
    layer = IMAGE.layers[0]
    name = "blobs/sha256/" + layer.digest.removeprefix("sha256:")
    path = write_tar(tmp_path / "a.tar", changed("containerd", with_data(name, layer.gzip + b"more")))
    refused(path, ArchiveInvalid, layer.digest, "is inconsistent")


def test_a_compressed_layer_with_other_content(tmp_path: Path) -> None:
    layer = IMAGE.layers[0]
    name = layer.diff_id.removeprefix("sha256:") + ".tar"
    path = write_tar(tmp_path / "a.tar", changed("compressed", with_data(name, gzip.compress(b"other"))))
    refused(path, LayerMismatch, layer.diff_id, sha256(b"other"))


@pytest.mark.parametrize("cut", [5, 20, -9, -1])
def test_a_compressed_layer_that_is_cut_off(tmp_path: Path, cut: int) -> None:
    layer = IMAGE.layers[0]
    name = layer.diff_id.removeprefix("sha256:") + ".tar"
    path = write_tar(tmp_path / "a.tar", changed("compressed", with_data(name, layer.gzip[:cut])))
    refused(path, ArchiveTruncated, name, "cut off")


def test_a_compressed_layer_of_several_gzip_members_is_fine(tmp_path: Path) -> None:
    """pigz and estargz write such."""
    layer = IMAGE.layers[0]
    name = layer.diff_id.removeprefix("sha256:") + ".tar"
    data = gzip.compress(layer.tar[:1000]) + gzip.compress(layer.tar[1000:])
    path = write_tar(tmp_path / "a.tar", changed("compressed", with_data(name, data)))
    first = ArchiveSource(path).resolve().layers[0].file
    assert first is not None
    assert first.digest == sha256(data)


@pytest.mark.parametrize("data", [b"\x28\xb5\x2f\xfd123", b"\xfd7zXZ\0nothing", b"BZh91AY&SY123456"])
def test_a_compressed_layer_that_is_damaged(tmp_path: Path, data: bytes) -> None:
    name = IMAGE.diff_ids[0].removeprefix("sha256:") + ".tar"
    path = write_tar(tmp_path / "a.tar", changed("compressed", with_data(name, data)))
    with pytest.raises((ArchiveInvalid, ArchiveTruncated, LayerMismatch), match=name):
        ArchiveSource(path).resolve()


@pytest.mark.parametrize("trick", ["../../etc/passwd", "/etc/passwd", "a/../../x", "..", "."])
def test_paths_out_of_the_archive_lead_nowhere(tmp_path: Path, trick: str) -> None:
    layer = f"{'0' * 64}/layer.tar"
    config = Image((IMAGE.layers[0],)).config
    for listed in ({"Config": trick, "Layers": [layer]}, {"Config": "c.json", "Layers": [trick]}):
        content = [
            Entry("c.json", config),
            Entry(layer, target=trick),
            Entry("manifest.json", json.dumps([listed]).encode()),
        ]
        refused(write_tar(tmp_path / "a.tar", content), ArchiveInvalid, trick)
    content[-1] = Entry("manifest.json", json.dumps([{"Config": "c.json", "Layers": [layer]}]).encode())
    refused(write_tar(tmp_path / "a.tar", content), ArchiveInvalid, layer)


def test_links_in_a_circle_lead_nowhere(tmp_path: Path) -> None:
    config = Image((IMAGE.layers[0],)).config
    content = [
        Entry("c.json", config),
        Entry("a/layer.tar", target="../b/layer.tar"),
        Entry("b/layer.tar", target="../a/layer.tar"),
        Entry("manifest.json", b'[{"Config":"c.json","Layers":["a/layer.tar"]}]'),
    ]
    refused(write_tar(tmp_path / "a.tar", content), ArchiveInvalid, "a/layer.tar")


def test_a_link_to_a_folder_leads_nowhere(tmp_path: Path) -> None:
    content = [
        Entry("folder/"),
        Entry("a/layer.tar", target="../folder"),
        Entry("c.json", Image((IMAGE.layers[0],)).config),
        Entry("manifest.json", b'[{"Config":"c.json","Layers":["a/layer.tar"]}]'),
    ]
    refused(write_tar(tmp_path / "a.tar", content), ArchiveInvalid, "a/layer.tar")


def test_hard_links_in_a_circle_and_out_of_the_archive_lead_nowhere(tmp_path: Path) -> None:
    config = Image((IMAGE.layers[0],)).config
    for target in ("b/layer.tar", "/etc/passwd", "../../etc/passwd"):
        path = tmp_path / "a.tar"
        with tarfile.open(path, "w") as file:
            for name, data in (
                ("c.json", config),
                ("manifest.json", b'[{"Config":"c.json","Layers":["a/layer.tar"]}]'),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
            for name, to in (("a/layer.tar", target), ("b/layer.tar", "a/layer.tar")):
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.LNKTYPE, to
                file.addfile(link)
        refused(path, ArchiveInvalid, "a/layer.tar")


def test_a_config_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as file:
        member = tarfile.TarInfo("manifest.json")
        member.size = 17 << 20
        with (tmp_path / "sparse").open("wb+") as data:
            data.truncate(member.size)
            file.addfile(member, data)
    refused(path, ArchiveInvalid, "manifest.json", str(17 << 20))


def test_a_tar_of_very_many_files_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pusher.sources.archive.file._MAX_ENTRIES", 5)
    path = write_tar(tmp_path / "a.tar", [Entry(f"file{n}", b"") for n in range(6)])
    refused(path, ArchiveInvalid, "very many files")


def test_a_disk_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_archive(tmp_path / "a.tar", IMAGE)

    def preadv(descriptor: int, buffers: object, offset: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("pusher.sources.file_range.os.preadv", preadv)
    refused(path, SourceError, "Input/output error")


def test_names_that_cannot_be_printed_are_escaped(tmp_path: Path) -> None:
    listed = [{"Config": "c\x1b[31m.json", "RepoTags": ["\ud800:1"], "Layers": []}] * 2
    path = write_tar(tmp_path / "a.tar", [Entry("manifest.json", json.dumps(listed).encode())])
    for source in (ArchiveSource(path), ArchiveSource(path, "@0")):
        with pytest.raises(SourceError) as caught:
            source.resolve()
        caught.value.message.encode()
        assert "\x1b" not in caught.value.message


def test_an_index_that_contains_itself_ends(tmp_path: Path) -> None:
    """Digests make a real circle impossible, so a deep chain stands for it; the manifest is found."""
    child = IMAGE.manifest
    blobs = [Entry("blobs/sha256/" + sha256(child).removeprefix("sha256:"), child)]
    for _ in range(30):
        child = json.dumps({"schemaVersion": 2, "manifests": [{"digest": sha256(child)}]}).encode()
        blobs.append(Entry("blobs/sha256/" + sha256(child).removeprefix("sha256:"), child))
    content = [*changed("containerd", with_data("index.json", child)), *blobs]
    root = ArchiveSource(write_tar(tmp_path / "a.tar", content)).resolve().root
    assert root is not None
    assert root.raw == IMAGE.manifest


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1))
def test_a_cut_anywhere_is_an_error_or_harmless(tmp_path: Path, shape: Shape, share: float) -> None:
    path = write_archive(tmp_path / "a.tar", IMAGE, shape=shape)
    whole = contents(source := ArchiveSource(path), source.resolve())
    length = path.stat().st_size
    truncated(path, int(length * share))
    try:
        assert contents(source, source.resolve()) == whole
    except (ArchiveTruncated, ArchiveInvalid, ImageUnsupported):
        assert path.stat().st_size < length


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.9999), value=st.integers(0, 255))
def test_a_damaged_byte_never_gives_a_traceback(
    tmp_path: Path, shape: Shape, share: float, value: int
) -> None:
    path = write_archive(tmp_path / "a.tar", IMAGE, shape=shape)
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] = value
    path.write_bytes(data)
    with suppress(PusherError):
        assert ArchiveSource(path).resolve().config == IMAGE.config


def test_an_archive_cut_while_it_is_read(tmp_path: Path) -> None:
    image = make_image(300_000)
    path = write_archive(tmp_path / "a.tar", image)
    with ArchiveSource(path).export(image.diff_ids) as pieces:
        piece = next(pieces)
        truncated(path, 100_000)
        with pytest.raises(ArchiveTruncated, match="became shorter"):
            piece.stream.read()
