"""Identify files that are not image archives: other compressions, other archives, tars of other content."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pusher.errors import ArchiveInvalid, ImageUnsupported, PusherError
from pusher.sources.tar.headers import BLOCK, Damaged, parse_header
from pusher.text import suggest

HOW: Final = "an image archive is what `docker save -o FILE IMAGE` or `podman save -o FILE IMAGE` writes"
"""The hint for a file that is not an image archive."""

_UNPACK: Final = (
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc {} > {}"),
    (b"\x02\x21\x4c\x18", "lz4", "lz4 -dc {} > {}"),
    (b"\x5d\x00\x00", "lzma", "xz --format=lzma -dc {} > {}"),
    (b"LZIP", "lzip", "lzip -dc {} > {}"),
    (b"\x89LZO\0\r\n\x1a\n", "lzop", "lzop -dc {} > {}"),
    (b"LRZI", "lrzip", "lrzip -d -o - {} > {}"),
    (b"\xff\x06\0\0sNaPpY", "snappy", "snzip -dc {} > {}"),
    (b"\x1f\x9d", "compress", "gzip -dc {} > {}"),
    (b"\x1f\x1e", "pack", "gzip -dc {} > {}"),
    (b"\x1f\xa0", "compress -H", "gzip -dc {} > {}"),
)
"""Compressions that are not read, by what files begin with, and the command that unpacks them."""
_NO_MAGIC: Final = {".br": ("brotli", "brotli -dc {} > {}"), ".zz": ("zlib", "pigz -dc {} > {}")}
_PACKED: Final = (
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x {}"),
    (b"PK\x03\x04", "a zip file", "unzip {}"),
    (b"PK\x05\x06", "an empty zip file", "unzip -l {}"),
    (b"Rar!\x1a\x07", "a rar archive", "unrar x {}"),
)
_OTHERS: Final = (
    (b"QFI\xfb", "a disk image of a virtual machine"),
    (b"hsqs", "a squashfs file system"),
    (b"\x7fELF", "a program"),
    (b"%PDF", "a PDF document"),
    (b"!<arch>\n", "a Debian package or a library"),
    (b"070701", "a cpio archive"),
    (b"070702", "a cpio archive"),
    (b"070707", "a cpio archive"),
    (b"xar!", "a xar archive"),
    (b"<!DOCTYPE html", "a web page"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"\xed\xab\xee\xdb", "an RPM package"),
    (b"SQLite format 3\0", "an SQLite database"),
)
_ROOTS: Final = frozenset(
    {"bin", "dev", "etc", "home", "lib", "opt", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var"}
)
_MAX_ROOTS: Final = 5
"""So many of them make the file system of a container."""


def check_kind(path: Path, head: bytes) -> None:
    """Raise ArchiveInvalid with the file's apparent format, if it is plainly not a tar.

    ``head``: its first block, or less of a smaller file.
    """
    if not head:
        raise ArchiveInvalid(f"{path} is empty", hint=HOW)
    if _is_tar(head):
        return
    _check_magic(path, head)
    if b"SIF_MAGIC\0" in head:
        raise ImageUnsupported(f"{path} is a SIF image, of Apptainer or Singularity", hint=HOW)
    if path.suffix in _NO_MAGIC:
        raise _compressed_error(path, *_NO_MAGIC[path.suffix])
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        raise ArchiveInvalid(f"{path} is a text file, not an image archive", hint=HOW)


def _check_magic(path: Path, head: bytes) -> None:
    """Raise ArchiveInvalid if the first bytes are those of another format."""
    for magic, kind, command in _UNPACK:
        if head.startswith(magic):
            raise _compressed_error(path, kind, command)
    for magic, what, command in _PACKED:
        if head.startswith(magic):
            raise ArchiveInvalid(
                f"{path} is {what}, not an image archive", hint=suggest(f"unpack it first: {command}", path)
            )
    for magic, what in _OTHERS:
        if head.startswith(magic):
            raise ArchiveInvalid(f"{path} is {what}, not an image archive", hint=HOW)
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        raise ArchiveInvalid(
            f"{path} is not the archive but Git LFS's pointer to it",
            hint=suggest("fetch the file itself: git lfs pull --include={}", path.name),
        )


def check_compressed_again(path: Path, head: bytes) -> None:
    """Raise ArchiveInvalid if a compressed file's content is compressed again, in an unsupported format.

    ``head``: the first block of its content.
    """
    kind = next((kind for magic, kind, _ in _UNPACK if head.startswith(magic)), None)
    if kind is not None and not _is_tar(head):
        raise ArchiveInvalid(
            f"{path} contains data that is compressed again with {kind}, which pusher cannot read",
            hint="unpack it first, and push the tar",
        )


def no_image_error(path: Path, names: Iterable[str]) -> PusherError:
    """Return the error for a tar without manifest.json and index.json, by the paths in it."""
    names = list(names)
    tops = {name.partition("/")[0] for name in names}
    for described, kind in (("index.json", "oci:"), ("manifest.json", "")):
        folders = sorted(name.rpartition("/")[0] for name in names if name.endswith(f"/{described}"))
        if folders:
            folder = min(folders, key=len)
            commands = "tar -xf {} && pusher push {}" if kind else "tar -xf {0} && tar -C {1} -cf image.tar ."
            inside = f"oci:./{folder}" if kind else folder
            return ArchiveInvalid(
                f"{path} contains its image in the folder {folder}",
                hint=suggest(f"unpack it first: {commands}", path, inside),
            )
    has_config = any(top.endswith(".json") for top in tops)
    if not has_config and any(name.endswith("/layer.tar") for name in names):
        return ImageUnsupported(
            f"{path} is an archive of Docker before 1.10, without a manifest.json",
            hint=suggest("load it into a Docker of before 25, and save it again: docker load -i {}", path),
        )
    if len(tops & _ROOTS) >= _MAX_ROOTS:
        return ImageUnsupported(
            f"{path} contains the file system of a container (from `docker export`), not an image",
            hint=suggest("make an image of it, and push that: docker import {} app:1.2", path),
        )
    return ArchiveInvalid(f"{path} is a tar without an image: it has no manifest.json", hint=HOW)


def _is_tar(head: bytes) -> bool:
    try:
        parse_header(head[:BLOCK].ljust(BLOCK, b"\0"))
    except Damaged:
        return False
    return True


def _compressed_error(path: Path, kind: str, command: str) -> ArchiveInvalid:
    tar = path.with_suffix("") if path.with_suffix("").suffix == ".tar" else path.with_suffix(".tar")
    return ArchiveInvalid(
        f"{path} is compressed with {kind}, which pusher cannot read",
        hint=suggest(f"unpack it first: {command}", path, tar),
    )
