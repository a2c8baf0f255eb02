"""Read entries of an image archive by name: a tar, plain or compressed as a whole, never extracted."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from pusher.dataclass import dataclass
from pusher.errors import ArchiveInvalid, ArchiveTruncated, ImageNotFound, SourceError
from pusher.registry.http.body import BlobFile
from pusher.sources.archive.kinds import HOW, check_compressed_again, check_kind, no_image_error
from pusher.sources.decompression import HEAD, decompress, methods_of
from pusher.sources.file_range import FileRange, open_buffered
from pusher.sources.folders import wrong_folder_error
from pusher.sources.foreign_files import Identity, never_waiting
from pusher.sources.image_names import display_name
from pusher.sources.tar import reader
from pusher.sources.tar.headers import BLOCK
from pusher.text import suggest

_SMALL: Final = 16 << 20
_MAX_ENTRIES: Final = 200_000
_MAX_NAMES: Final = 16 << 20
"""Characters of all names: 80 for each of so many entries."""
_MAX_PIECES: Final = 1 << 20
"""Numbers in the maps of all sparse files, each in 8 bytes."""
_MAX_LINKS: Final = 8
_KEPT: Final = 64 << 20
"""Bytes of documents that are kept from the first pass over a compressed archive."""


@dataclass
class _Contents:
    """The result of one pass over an archive: its entries by normalized path below its root.

    ``heads`` and ``documents`` are kept by offset if the archive is compressed: reading them later needs
    another pass.
    """

    entries: dict[str, reader.Entry] = field(default_factory=dict)
    whole: bool = False
    heads: dict[int, bytes] = field(default_factory=dict)
    documents: dict[int, bytes] = field(default_factory=dict)


class ArchiveFile:
    """An open archive. Entries outside its root are not accessible."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.status = os.fstat(file.fileno())
        self._file = file
        self._methods = methods_of(self._whole, str(path))
        if self._methods:
            check_compressed_again(path, decompress(self._whole(), str(path), self._methods).read(BLOCK))
        self._contents = self._of_last_time() or self._look()

    @property
    def is_compressed(self) -> bool:
        """Whether it is compressed as a whole: entries have no file range."""
        return bool(self._methods)

    def __contains__(self, name: str) -> bool:
        return self._lookup(name) is not None

    def entry(self, name: str) -> reader.Entry:
        """Return the regular file that ``name`` is or links to. Raises ArchiveInvalid, ArchiveTruncated."""
        entry = self.find(name)
        if entry is None:
            raise ArchiveInvalid(f"{self.path} has no {display_name(name)}", hint=HOW)
        return entry

    def find(self, name: str) -> reader.Entry | None:
        """Return the same, None if it is missing. Raises ArchiveTruncated if it may be cut off."""
        entry = self._lookup(name)
        if entry is None and not self._contents.whole:
            raise ArchiveTruncated(
                f"{self.path} is cut off: {display_name(name)} is not in it",
                hint="save or copy the image again",
            )
        return entry

    def read(self, name: str) -> bytes:
        """Return the bytes of a small file (at most 16 MiB)."""
        entry = self.entry(name)
        if entry.size > _SMALL:
            raise ArchiveInvalid(f"{self.path} is not an image archive: its {name} has {entry.size} bytes")
        return self.read_entry(entry)

    def read_entry(self, entry: reader.Entry) -> bytes:
        """Return all bytes of a small entry."""
        kept = self._contents.documents.get(entry.offset)
        return kept if kept is not None else next(self.streams([entry]))[1].read()

    def check_for(self, name: str) -> None:
        """Raise an error that says what the archive is, if it lacks ``name``."""
        if self.find(name) is None:
            raise no_image_error(self.path, self._contents.entries)

    def names_below(self, folder: str) -> Iterator[str]:
        """Yield the paths of the regular files in a folder."""
        for name, entry in self._contents.entries.items():
            if entry.is_file and name.startswith(folder):
                yield name

    def head(self, entry: reader.Entry) -> bytes:
        """Return the first bytes of an entry, which identify its compression."""
        if self.is_compressed:
            return self._contents.heads[entry.offset]
        return self._stream(entry).read(HEAD)

    def file_of(self, entry: reader.Entry, digest: str) -> BlobFile | None:
        """Return an entry's range of the file; None if it is compressed or sparse."""
        if self.is_compressed or entry.pieces is not None:
            return None
        opener = partial(Identity.of(self.status).open, self.path)
        return BlobFile(digest, entry.size, self.path, entry.offset, opener=opener)

    def streams(self, wanted: Collection[reader.Entry]) -> Iterator[tuple[reader.Entry, BinaryIO]]:
        """Yield the data of entries in the archive's order; each is valid until the next one."""
        if not self.is_compressed:
            for entry in sorted(wanted, key=lambda entry: entry.offset):
                yield entry, self._stream(entry)
            return
        left = {entry.offset for entry in wanted}
        source = self._input()
        entries = reader.walk(source)
        while left and (passing := next(entries, None)) is not None:
            if passing.offset in left:
                left.discard(passing.offset)
                yield passing, reader.passing(source, passing)

    def _stream(self, entry: reader.Entry) -> BinaryIO:
        name = str(self.path)
        return reader.content(name, entry, FileRange(self._file, entry.offset, entry.stored, name))

    def _whole(self) -> BinaryIO:
        return open_buffered(FileRange(self._file, 0, self.status.st_size, str(self.path)))

    def _input(self) -> reader.FileInput | reader.PipeInput:
        name = str(self.path)
        if not self._methods:
            return reader.FileInput(self._file, name)
        return reader.PipeInput(decompress(self._whole(), name, self._methods).read, name)

    # --- the first pass -----------------------------------------------------------------------------------

    def _of_last_time(self) -> _Contents | None:
        last = _LAST[:] if self.is_compressed else []  # another thread may replace it meanwhile
        return next((found for identity, found in last if identity == self._identity()), None)

    def _look(self) -> _Contents:
        found = _Contents()
        source = self._input()
        kept = names = pieces = 0
        for entry in reader.walk(source, most=_MAX_ENTRIES):
            name = _normal(entry.name)
            if name is None:
                continue
            names += len(entry.name) + len(entry.target or "")
            pieces += len(entry.pieces or ())
            if names > _MAX_NAMES or pieces > _MAX_PIECES:
                raise ArchiveInvalid(f"{self.path} is a tar of very long names, not an image archive")
            found.entries[name] = entry
            if self.is_compressed and entry.is_file:
                head = source.read(min(HEAD, entry.size))
                found.heads[entry.offset] = head
                if head[:1] in (b"{", b"[") and kept + entry.size <= _KEPT and entry.size <= _SMALL:
                    found.documents[entry.offset] = head + source.read(entry.size - len(head))
                    kept += entry.size
        found.whole = source.at_end_marker
        if self.is_compressed:
            _LAST[:] = [(self._identity(), found)]
        return found

    def _identity(self) -> tuple[object, ...]:
        status = self.status
        return self.path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def _lookup(self, name: str) -> reader.Entry | None:
        current: str | None = _normal(name)
        for _ in range(_MAX_LINKS):
            entry = self._contents.entries.get(current) if current is not None else None
            if current is None or entry is None or entry.is_file:
                return entry
            if entry.target is None:
                return None
            # A symlink is relative to its folder, a hard link to the archive.
            base = "" if entry.is_hardlink else posixpath.dirname(current)
            current = _normal(posixpath.join(base, entry.target))
        return None


_LAST: Final[list[tuple[tuple[object, ...], _Contents]]] = []
"""What the last compressed archive holds, as long as the file stays as it was: it is opened several times
for one push, and each pass takes as long as decompressing all of it."""


@contextmanager
def open_archive(path: Path) -> Iterator[ArchiveFile]:
    """Open and index. Raises ImageNotFound, ArchiveInvalid, ArchiveTruncated, SourceError if unreadable."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise wrong_folder_error(path)
        if not stat.S_ISREG(mode):
            raise ArchiveInvalid(f"{path} is not a regular file", hint=HOW)
        file = open(path, "rb", opener=never_waiting)  # noqa: SIM115 - Path.open takes no opener
    except FileNotFoundError:
        raise ImageNotFound(f"there is no file {path}", hint="check the path") from None
    except PermissionError:
        raise SourceError(
            f"no permission to read {path}",
            hint=suggest("check it with `ls -l {}`, or run as a user who may", path),
        ) from None
    except OSError as error:
        raise SourceError(f"cannot open {path}: {error.strerror or error}") from error
    with file:
        check_kind(path, file.read(BLOCK))
        yield ArchiveFile(path, file)


def _normal(name: str) -> str | None:
    """Return the entry's path below the archive's root (``/`` in `tar -P`); None if it is outside."""
    path = posixpath.normpath(name).lstrip("/")
    return None if path in ("", ".", "..") or path.startswith("../") else path
