"""Files that are no image archive, each with its own sentence and the command that helps."""

from __future__ import annotations

import lzma
import shutil
import subprocess
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import zstandard

from pusher.errors import ArchiveInvalid, ImageUnsupported, PusherError
from pusher.sources import find
from tests.support.images import Entry, entries, make_image, write_archive, write_tar
from tests.support.layouts import two_platforms

IMAGE = make_image(1000)


def refused(image: str) -> PusherError:
    with pytest.raises(PusherError) as caught:
        find(image)[0].resolve()
    return caught.value


@pytest.mark.parametrize(
    ("head", "kind", "command"),
    [
        (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc"),
        (b"\x02\x21\x4c\x18", "lz4", "lz4 -dc"),
        (b"LZIP\x01", "lzip", "lzip -dc"),
        (b"\x89LZO\0\r\n\x1a\n", "lzop", "lzop -dc"),
        (b"\x1f\x9d\x90", "compress", "gzip -dc"),
        (b"\xff\x06\0\0sNaPpY", "snappy", "snzip -dc"),
    ],
)
def test_compressions_that_are_not_read_are_named(
    tmp_path: Path, head: bytes, kind: str, command: str
) -> None:
    path = tmp_path / "an image.tar.xyz"
    path.write_bytes(head + bytes(range(256)) * 20)
    error = refused(str(path))
    assert error.message == f"{path} is compressed with {kind}, which pusher cannot read"
    assert error.hint == f"unpack it first: {command} '{path}' > '{path.with_suffix('')}'"


def test_lzma_of_before_xz_is_named_and_its_command_works(tmp_path: Path) -> None:
    tar = write_archive(tmp_path / "a.tar", IMAGE)
    path = tmp_path / "b.tar.lzma"
    path.write_bytes(lzma.compress(tar.read_bytes(), lzma.FORMAT_ALONE))
    error = refused(str(path))
    assert "compressed with lzma" in error.message
    if shutil.which("xz"):
        subprocess.run(error.hint.partition(": ")[2], shell=True, check=True)
        assert (tmp_path / "b.tar").read_bytes() == tar.read_bytes()


def test_brotli_says_nothing_of_itself_but_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.br"
    path.write_bytes(b"\x8b\x02\x80" + bytes(range(256)) * 4)
    assert "compressed with brotli" in refused(str(path)).message


def test_a_zip_file(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.tar", b"x")
    error = refused(f"docker-archive:{path}")
    assert (error.message, error.hint) == (
        f"{path} is a zip file, not an image archive",
        f"unpack it first: unzip {path}",
    )


@pytest.mark.parametrize(
    "magic", [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07\0", b"%PDF-1.7\n\xff", b"hsqs\xff\xff"]
)
def test_other_files_are_called_by_their_name(tmp_path: Path, magic: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(magic + bytes(range(256)) * 4)
    assert "not an image archive" in refused(str(path)).message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"070701" + b"0" * 600, "a cpio archive"),
        (b"xar!" + bytes(600), "a xar archive"),
        (b"<!DOCTYPE html>\n<html>" * 40, "a web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n",
            "git lfs pull --include=a.tar",
        ),
    ],
)
def test_what_came_in_place_of_an_archive(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    error = refused(str(path))
    assert words in f"{error.message} {error.hint}"


def test_a_compression_that_is_not_read_inside_one_that_is(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.zst"
    path.write_bytes(zstandard.compress(b"\x04\x22\x4d\x18" + bytes(600)))
    assert "with lz4, which pusher cannot read" in refused(str(path)).message


def test_an_ending_in_capitals_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_archive(Path("X.TAR"), IMAGE)
    assert find("X.TAR")[0].resolve().config == IMAGE.config


def test_a_tar_may_begin_with_any_letters(tmp_path: Path) -> None:
    """A file name in a tar is no magic number."""
    content = [Entry("LZIP", b"1"), *entries("classic", IMAGE)]
    assert find(str(write_tar(tmp_path / "a.tar", content)))[0].resolve().config == IMAGE.config


def test_a_folder_on_top(tmp_path: Path) -> None:
    content = [Entry(f"app/{entry.name}", entry.data, entry.target) for entry in entries("classic", IMAGE)]
    path = write_tar(tmp_path / "a.tar", content)
    error = refused(str(path))
    assert error.message == f"{path} contains its image in the folder app"
    assert error.hint == f"unpack it first: tar -xf {path} && tar -C app -cf image.tar ."


def test_a_layout_with_a_folder_on_top(tmp_path: Path) -> None:
    layout, _ = two_platforms()
    content = [Entry(f"app/{entry.name}", entry.data, entry.target) for entry in layout.entries()]
    path = write_tar(tmp_path / "a.tar", content)
    for image in (str(path), f"oci-archive:{path}"):
        assert refused(image).hint == f"unpack it first: tar -xf {path} && pusher push oci:./app"


def test_the_file_system_of_a_container(tmp_path: Path) -> None:
    names = ("bin/", "dev/console", "etc/hostname", "proc/", "sys/", "usr/bin/env", ".dockerenv")
    content = [Entry(name, None if name.endswith("/") else b"") for name in names]
    error = refused(str(write_tar(tmp_path / "a.tar", content)))
    assert isinstance(error, ImageUnsupported)
    assert "`docker export`" in error.message
    assert error.hint.endswith(f"docker import {tmp_path / 'a.tar'} app:1.2")


def test_an_archive_of_docker_before_1_10(tmp_path: Path) -> None:
    one = "0" * 64
    content = [Entry(f"{one}/VERSION", b"1.0"), Entry(f"{one}/json", b"{}"), Entry(f"{one}/layer.tar", b"")]
    error = refused(str(write_tar(tmp_path / "a.tar", [*content, Entry("repositories", b"{}")])))
    assert "before 1.10" in error.message


def test_another_tar(tmp_path: Path) -> None:
    error = refused(str(write_tar(tmp_path / "a.tar", [Entry("README", b"hello")])))
    assert isinstance(error, ArchiveInvalid)
    assert "it has no manifest.json" in error.message


def test_the_other_kind_of_archive(tmp_path: Path) -> None:
    layout, _ = two_platforms()
    oci = layout.write_archive(tmp_path / "oci.tar")
    docker = write_archive(tmp_path / "docker.tar", IMAGE)
    assert refused(f"docker-archive:{oci}").hint == f"use: oci-archive:{oci}"
    assert refused(f"oci-archive:{docker}").hint == f"use: docker-archive:{docker}"


def test_names_that_begin_at_the_root(tmp_path: Path) -> None:
    """`tar -P` writes them so."""
    content = [Entry(f"/{entry.name}", entry.data, entry.target) for entry in entries("classic", IMAGE)]
    assert find(str(write_tar(tmp_path / "a.tar", content)))[0].resolve().config == IMAGE.config


def test_an_archive_of_long_names_is_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    """Compressed they take a few kilobytes: here 300 names of 60,000 characters."""
    packer = zstandard.ZstdCompressor().compressobj()
    with (tmp_path / "a.tar.zst").open("wb") as file:
        for number in range(300):
            member = tarfile.TarInfo(f"{number:05}" * 12_000)
            file.write(packer.compress(member.tobuf(tarfile.GNU_FORMAT)))
        file.write(packer.flush())
    assert (tmp_path / "a.tar.zst").stat().st_size < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveInvalid, match="very long names"):
            find(str(tmp_path / "a.tar.zst"))
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
