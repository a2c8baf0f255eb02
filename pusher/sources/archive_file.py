"""A docker-archive file opened for random access: its index, and the images that its manifest.json lists."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from pusher.errors import ArchiveInvalid, ArchiveTruncated, ImageNotFound, ImageUnsupported, SourceError
from pusher.sources import tar
from pusher.sources.filerange import FileRange, buffered
from pusher.sources.layout import load_json
from pusher.sources.names import shown

_SMALL: Final = 16 << 20
_MAX_ENTRIES: Final = 200_000
_MAX_LINKS: Final = 8

_MAGIC: Final = (
    (b"\x1f\x8b", "gzip-compressed", "gunzip -k"),
    (b"\xfd7zXZ\0", "xz-compressed", "unxz -k"),
    (b"BZh", "bzip2-compressed", "bunzip2 -k"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed", "unzstd"),
)


@dataclass(frozen=True)
class ArchivedImage:
    """One image of ``manifest.json``: where its config and layers lie in the archive, and its names."""

    config: str
    layers: tuple[str, ...]
    names: tuple[str, ...]


class ArchiveFile:
    """An open archive. Entries are known by their normal path below its root; others cannot be asked for."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._file = file
        self.status = os.fstat(file.fileno())
        self._entries: dict[str, tar.Entry] = {}
        source = tar.FileInput(file, str(path))
        for count, entry in enumerate(tar.walk(source)):
            if count >= _MAX_ENTRIES:
                raise ArchiveInvalid(f"{path} is a tar of very many files, not an image archive", hint=_HOW)
            name = _normal(entry.name)
            if name is not None:
                self._entries[name] = entry
        self._whole = source.at_end_marker

    def __contains__(self, name: str) -> bool:
        return self._lookup(name) is not None

    def entry(self, name: str) -> tar.Entry:
        """The regular file that ``name`` is or links to; ArchiveInvalid, ArchiveTruncated."""
        entry = self._lookup(name)
        if entry is None:
            if not self._whole:
                raise ArchiveTruncated(
                    f"{self.path} is cut off: {shown(name)} is not in it",
                    hint="save or copy the image again",
                )
            raise ArchiveInvalid(f"{self.path} has no {shown(name)}", hint=_HOW)
        return entry

    def read(self, name: str) -> bytes:
        """The bytes of a small file (at most 16 MiB)."""
        entry = self.entry(name)
        if entry.size > _SMALL:
            raise ArchiveInvalid(f"{self.path} is no image archive: its {name} has {entry.size} bytes")
        return self.stream(entry).read()

    def stream(self, entry: tar.Entry) -> BinaryIO:
        """An entry's data; usable while the archive is open."""
        return buffered(FileRange(self._file, entry.offset, entry.size, str(self.path)))

    def images(self) -> tuple[ArchivedImage, ...]:
        """What ``manifest.json`` lists."""
        if "manifest.json" not in self and "oci-layout" in self and "index.json" in self:
            raise ImageUnsupported(
                f"{self.path} is an OCI archive, which cannot be pushed yet",
                hint=f"convert it: skopeo copy oci-archive:{self.path} docker-archive:NEW.tar:NAME:TAG",
            )
        try:
            listed = load_json(self.read("manifest.json"))
            if not isinstance(listed, list):
                raise TypeError
            return tuple(_image(item) for item in listed)
        except (ValueError, KeyError, TypeError) as error:
            raise ArchiveInvalid(
                f"the manifest.json in {self.path} cannot be understood", hint=_HOW
            ) from error

    def _lookup(self, name: str) -> tar.Entry | None:
        current: str | None = _normal(name)
        for _ in range(_MAX_LINKS):
            entry = self._entries.get(current) if current is not None else None
            if current is None or entry is None or entry.is_file:
                return entry
            if entry.target is None:
                return None
            # A symlink is relative to its folder, a hard link to the archive.
            base = "" if entry.is_hardlink else posixpath.dirname(current)
            current = _normal(posixpath.join(base, entry.target))
        return None


@contextmanager
def open_archive(path: Path) -> Iterator[ArchiveFile]:
    """Open and index; ImageNotFound, ArchiveInvalid, ArchiveTruncated, SourceError if it cannot be read."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise ArchiveInvalid(f"{path} is {what}, so it cannot be read as an image archive", hint=_HOW)
        file = path.open("rb")
    except FileNotFoundError:
        raise ImageNotFound(f"there is no file {path}", hint="check the path") from None
    except PermissionError:
        raise SourceError(
            f"no permission to read {path}", hint=f"check it with `ls -l {path}`, or run as a user who may"
        ) from None
    except OSError as error:
        raise SourceError(f"cannot open {path}: {error.strerror or error}") from error
    with file:
        _check_kind(path, file.read(512))
        yield ArchiveFile(path, file)


_HOW: Final = "an image archive is what `docker save -o FILE IMAGE` or `podman save -o FILE IMAGE` writes"


def _check_kind(path: Path, head: bytes) -> None:
    """ArchiveInvalid with what the file looks like, if that is plainly no tar."""
    for magic, what, command in _MAGIC:
        if head.startswith(magic):
            raise ArchiveInvalid(
                f"{path} is {what}; pusher reads archives that are not compressed as a whole",
                hint=f"unpack it first: {command} {path}",
            )
    if not head:
        raise ArchiveInvalid(f"{path} is empty", hint=_HOW)
    if head.startswith(b"PK\x03\x04"):
        raise ArchiveInvalid(f"{path} is a zip file, not an image archive", hint=_HOW)
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        raise ArchiveInvalid(f"{path} is a text file, not an image archive", hint=_HOW)


def _normal(name: str) -> str | None:
    """The entry's path below the archive's root, None if it leaves it."""
    path = posixpath.normpath(name)
    return None if path.startswith(("/", "..")) or path == "." else path


def _image(item: dict[str, object]) -> ArchivedImage:
    config, layers, names = item["Config"], item["Layers"], item.get("RepoTags")
    names, layers = names or [], layers or []
    if not isinstance(config, str) or not isinstance(layers, list) or not isinstance(names, list):
        raise TypeError
    if not all(isinstance(text, str) for text in (*layers, *names)):
        raise TypeError
    return ArchivedImage(config, tuple(layers), tuple(names))
