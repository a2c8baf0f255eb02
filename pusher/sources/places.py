"""Where final blobs lie: a folder by digest, an archive."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from pusher.errors import ArchiveInvalid, ImageNotFound, SourceError
from pusher.oci.digest import hex_of
from pusher.oci.manifest import Descriptor
from pusher.sources.archive_file import ArchiveFile
from pusher.sources.base import Exported, Slice
from pusher.sources.regular import open_regular


class BlobFolder:
    """Blobs that are files named by their digest's hex digits below ``folder``; ``name`` is for messages."""

    def __init__(self, folder: Path, name: str, *, suffix: str = "") -> None:
        self.name = name
        self._folder = folder
        self._suffix = suffix

    def read(self, blob: Descriptor) -> bytes | None:
        """The bytes of a small blob, None where it is missing."""
        part = self.slice_of(blob)
        return None if part is None else read_small(part.path)

    def has(self, blob: Descriptor) -> bool:
        """Whether a blob is there; ArchiveInvalid if its size is another."""
        return self.slice_of(blob) is not None

    def slice_of(self, blob: Descriptor) -> Slice | None:
        """Where a blob's bytes lie, None where it is missing; ArchiveInvalid if its size is another."""
        size = self.size_of(blob.digest)
        if size is None:
            return None
        _check_size(self.name, blob, size)
        return Slice(self._path(blob.digest), 0, size, blob.digest)

    def size_of(self, digest: str) -> int | None:
        """Bytes of a blob, None where it is missing. Raises SourceError, ArchiveInvalid."""
        path = self._path(digest)
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
        if not stat.S_ISREG(status.st_mode):
            raise _no_file(path)
        return status.st_size

    def _path(self, digest: str) -> Path:
        return self._folder / (hex_of(digest) + self._suffix)


class BlobsInArchive:
    """The same for blobs below ``blobs/sha256`` of a tar, slices only where it lies there as it is."""

    def __init__(self, archive: ArchiveFile) -> None:
        self.name = str(archive.path)
        self._archive = archive

    def read(self, blob: Descriptor) -> bytes | None:
        return self._archive.read(_in_layout(blob.digest)) if self.has(blob) else None

    def has(self, blob: Descriptor) -> bool:
        size = self.size_of(blob.digest)
        if size is not None:
            _check_size(self.name, blob, size)
        return size is not None

    def size_of(self, digest: str) -> int | None:
        """Bytes of a blob, None where it is missing."""
        entry = self._archive.find(_in_layout(digest))
        return None if entry is None else entry.size

    def slice_of(self, blob: Descriptor) -> Slice | None:
        if not self.has(blob):
            return None
        return self._archive.slice_of(self._archive.entry(_in_layout(blob.digest)), blob.digest)

    def export(self, wanted: Collection[str]) -> Iterator[Exported]:
        """The blobs with these digests that are no slices, in the archive's order."""
        entries = {self._archive.entry(_in_layout(digest)): digest for digest in wanted}
        stored = {entry for entry, digest in entries.items() if not self._archive.slice_of(entry, digest)}
        for entry, stream in self._archive.streams(stored):
            yield Exported("blob", entries[entry], entry.size, stream)


def read_small(path: Path, limit: int = 16 << 20) -> bytes:
    """A file of at most ``limit`` bytes, no link. Raises ImageNotFound, ArchiveInvalid, SourceError."""
    try:
        with os.fdopen(open_regular(path)[0], "rb") as file:
            raw = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise ImageNotFound(f"there is no file {path}", hint="check the path") from None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ELOOP, errno.EISDIR):
            raise _no_file(path) from error
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
    if len(raw) > limit:
        raise ArchiveInvalid(f"{path} is too large to be what it should be: more than {limit} bytes")
    return raw


def _in_layout(digest: str) -> str:
    return f"blobs/sha256/{hex_of(digest)}"


def _no_file(path: Path) -> ArchiveInvalid:
    what = "a symbolic link, which is not followed" if path.is_symlink() else "not a regular file"
    return ArchiveInvalid(f"{path} is {what}", hint="copy the image again, links replaced by files")


def _check_size(where: str, blob: Descriptor, size: int) -> None:
    if size != blob.size:
        raise ArchiveInvalid(
            f"{where} contradicts itself: {blob.digest} has {size} bytes, what refers to it says {blob.size}",
            hint="the copy is damaged or not complete; make it again",
        )
