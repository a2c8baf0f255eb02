"""Find final blobs in a folder by digest or in an archive."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from pusher.errors import ArchiveInvalid, ImageNotFound, SourceError
from pusher.oci.digest import algorithm_of, hex_of
from pusher.oci.manifest import Descriptor
from pusher.registry.http.body import BlobFile
from pusher.sources.archive.file import ArchiveFile
from pusher.sources.base import ExportPiece
from pusher.sources.engine.disk.folder import Folder
from pusher.sources.foreign_files import Identity, open_regular
from pusher.text import suggest

LAYOUT: Final = "blobs/{algorithm}/{hex}"
"""Where a layout has its blobs."""
SMALL: Final = 16 << 20
"""Bytes of a file that is read whole."""


class BlobFolder:
    """Blobs that are files below ``root``, at ``below`` with the algorithm and hex digits of their digest.

    Links are followed as far as they stay below ``root``, or anywhere with ``follow_links``: a foreign
    folder could link to any file of this machine. ``name`` is for messages.
    """

    def __init__(self, root: Path, name: str, below: str = LAYOUT, *, follow_links: bool = False) -> None:
        self.name = name
        self._root = root
        self._below = below
        self._follow_links = follow_links

    def read(self, blob: Descriptor) -> bytes | None:
        """Return the bytes of a small blob, None where it is missing."""
        found = self._open(blob.digest)
        if found is None:
            return None
        with found[0] as file:
            _check_size(self.name, blob, os.fstat(file.fileno()).st_size)
            return file.read(min(blob.size, SMALL))

    def has(self, blob: Descriptor) -> bool:
        """Return whether a blob is there. Raises ArchiveInvalid for another size."""
        return self.file_of(blob) is not None

    def file_of(self, blob: Descriptor) -> BlobFile | None:
        """Return a blob's file, None where it is missing. Raises ArchiveInvalid for another size."""
        found = self._open(blob.digest)
        if found is None:
            return None
        with found[0] as file:
            identity = Identity.of(os.fstat(file.fileno()))
        _check_size(self.name, blob, identity.size)
        return BlobFile(blob.digest, identity.size, found[1], opener=partial(identity.open, found[1]))

    def size_of(self, digest: str) -> int | None:
        """Return a blob's size in bytes; None if it is missing. Raises SourceError, ArchiveInvalid."""
        found = self._open(digest)
        if found is None:
            return None
        with found[0] as file:
            return os.fstat(file.fileno()).st_size

    def _open(self, digest: str) -> tuple[BinaryIO, Path] | None:
        name = self._below.format(algorithm=algorithm_of(digest), hex=hex_of(digest))
        try:
            return open_below(self._root, name, follow_links=self._follow_links)
        except ImageNotFound:
            return None


class BlobsInArchive:
    """The same for the blobs of a layout in a tar, as files only where they are not compressed."""

    def __init__(self, archive: ArchiveFile) -> None:
        self.name = str(archive.path)
        self._archive = archive

    def read(self, blob: Descriptor) -> bytes | None:
        return self._archive.read(layout_path(blob.digest)) if self.has(blob) else None

    def has(self, blob: Descriptor) -> bool:
        size = self.size_of(blob.digest)
        if size is not None:
            _check_size(self.name, blob, size)
        return size is not None

    def size_of(self, digest: str) -> int | None:
        """Return the size of a blob in bytes, None where it is missing."""
        entry = self._archive.find(layout_path(digest))
        return None if entry is None else entry.size

    def file_of(self, blob: Descriptor) -> BlobFile | None:
        if not self.has(blob):
            return None
        return self._archive.file_of(self._archive.entry(layout_path(blob.digest)), blob.digest)

    def export(self, wanted: Collection[str]) -> Iterator[ExportPiece]:
        """Yield the blobs with these digests that are not files of their own, in the archive's order."""
        entries = {self._archive.entry(layout_path(digest)): digest for digest in wanted}
        stored = {entry for entry, digest in entries.items() if not self._archive.file_of(entry, digest)}
        for entry, stream in self._archive.streams(stored):
            yield ExportPiece("blob", entries[entry], entry.size, stream)


def read_small(root: Path, name: str, *, follow_links: bool) -> bytes:
    """Read a file of at most 16 MiB below ``root``. Raises like ``open_below``, and ArchiveInvalid."""
    with open_below(root, name, follow_links=follow_links)[0] as file:
        raw = file.read(SMALL + 1)
    if len(raw) > SMALL:
        raise ArchiveInvalid(f"{root / name} is too large to be what it should be: more than {SMALL} bytes")
    return raw


def open_below(root: Path, name: str, *, follow_links: bool) -> tuple[BinaryIO, Path]:
    """Open a regular file below ``root``; return it with its real path.

    Links are resolved first; the resolved path is then opened without following any, so that a link created
    meanwhile has no effect. Raises ImageNotFound, ArchiveInvalid, SourceError.
    """
    path = root / name
    try:
        top, real = Path(os.path.realpath(root)), Path(os.path.realpath(path))
        if real.is_relative_to(top) and real != top:
            with closing(Folder(top)) as folder:
                descriptor, _ = folder.open(os.fsencode(real.relative_to(top)))
        elif follow_links:
            descriptor, _ = open_regular(real)
        else:
            raise _leads_out_error(root, path)
    except (FileNotFoundError, NotADirectoryError):
        raise ImageNotFound(f"there is no file {path}", hint="check the path") from None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ELOOP, errno.EISDIR):
            raise ArchiveInvalid(
                f"{path} is not a regular file", hint="copy the image again, links replaced by files"
            ) from error
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
    return os.fdopen(descriptor, "rb"), real


def layout_path(digest: str) -> str:
    """Return the path of a blob in an OCI image layout."""
    return LAYOUT.format(algorithm=algorithm_of(digest), hex=hex_of(digest))


def _leads_out_error(root: Path, path: Path) -> ArchiveInvalid:
    copy = suggest("cp -RL {} {}", root, f"{root}.copy")
    return ArchiveInvalid(
        f"{path} is a symbolic link that leads out of {root}, and is not followed",
        hint="if you trust who made it, add --follow-links"
        + (f", or copy it with its files: {copy}" if copy else ""),
    )


def _check_size(where: str, blob: Descriptor, size: int) -> None:
    if size != blob.size:
        raise ArchiveInvalid(
            f"{where} is inconsistent: {blob.digest} has {size} bytes, what refers to it says {blob.size}",
            hint="the copy is damaged or not complete; make it again",
        )
