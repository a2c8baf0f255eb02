"""Read a tar by its headers, from a file or a pipe, without extracting it.

tarfile is not used: it takes a damaged or cut-off header for the end of the archive, and GNU headers wrongly.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final, Protocol

from pusher.errors import ArchiveInvalid, ArchiveTruncated
from pusher.sources.file_range import open_buffered
from pusher.sources.image_names import display_name
from pusher.sources.tar import headers
from pusher.sources.tar.headers import BLOCK, Damaged, Header, Pieces

_META_LIMIT: Final = 1 << 20
"""Bytes of one pax header: what Go's archive/tar takes (``maxSpecialFileSize``)."""
_META_TOTAL: Final = 256 << 20
"""Bytes of all pax headers and long names where the number of entries is bounded, too."""
_SPARSE_LIMIT: Final = 1 << 40
"""Bytes of a sparse file whose holes are filled: they cost nothing in the archive, and a day to read."""
_READ: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: ``offset`` and ``stored`` say where its data lie, in bytes; ``target`` is set for links.

    ``size`` differs from ``stored`` where ``pieces`` is set: a sparse file, whose holes are not stored.
    """

    name: str
    offset: int
    size: int
    stored: int
    is_file: bool
    target: str | None = None
    is_hardlink: bool = False
    is_folder: bool = False
    pieces: Pieces | None = field(default=None, compare=False)

    @property
    def end(self) -> int:
        """Where the next entry begins."""
        return self.offset + self.stored + -self.stored % BLOCK


class Input(Protocol):
    """Bytes that are read forward; ``position`` counts them. ``at_end_marker``: the tar's end was seen."""

    name: str
    position: int
    at_end_marker: bool

    def read(self, size: int) -> bytes:
        """Read exactly ``size`` bytes, fewer only at the end."""

    def read_into(self, buffer: memoryview) -> int:
        """Fill the beginning of ``buffer`` with the next bytes; return their number, 0 only at the end."""

    def skip(self, size: int) -> int:
        """Go forward by ``size`` bytes; returns how many of them existed."""


class FileInput:
    """A regular file, skipped by seeking."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self.position = 0
        self.at_end_marker = False
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def read(self, size: int) -> bytes:
        self._file.seek(self.position)
        data = self._file.read(size)
        self.position += len(data)
        return data

    def read_into(self, buffer: memoryview) -> int:
        count = os.preadv(self._file.fileno(), [buffer], self.position)
        self.position += count
        return count

    def skip(self, size: int) -> int:
        existing = max(0, min(size, self._size - self.position))
        self.position += size
        return existing


class PipeInput:
    """A pipe, skipped by reading; ``read_some`` gives at most the bytes asked for, none at the end.

    ``fill``: does the same into a buffer, which spares large entries two copies.
    """

    def __init__(
        self,
        read_some: Callable[[int], bytes],
        name: str,
        fill: Callable[[memoryview], int] | None = None,
    ) -> None:
        self.name = name
        self.position = 0
        self.at_end_marker = False
        self._read_some = read_some
        self._fill = fill

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size and (data := self._read_some(min(size, _READ))):
            parts.append(data)
            size -= len(data)
            self.position += len(data)
        return b"".join(parts)

    def read_into(self, buffer: memoryview) -> int:
        if self._fill is None:
            data = self.read(len(buffer))
            buffer[: len(data)] = data
            return len(data)
        count = self._fill(buffer)
        self.position += count
        return count

    def skip(self, size: int) -> int:
        missing = size
        while missing and (data := self._read_some(min(missing, _READ))):
            missing -= len(data)
            self.position += len(data)
        return size - missing


def walk(source: Input, *, most: int | None = None) -> Iterator[Entry]:
    """Yield the entries in their order, up to the end marker (or the end of the input between two entries).

    While an entry is current its data may be read from ``source``. Raises ArchiveInvalid, ArchiveTruncated;
    ``most``: the headers after which it is ArchiveInvalid, those of long names included.
    """
    own: dict[str, bytes] = {}
    count = described = 0
    while block := source.read(BLOCK):
        count += 1
        if most is not None and (count > most or described > _META_TOTAL):
            raise ArchiveInvalid(f"{source.name} is a tar of very many files, not an image archive")
        start = source.position - len(block)
        if len(block) < BLOCK:
            raise _cut_off_in_header_error(source)
        if not any(block):
            source.at_end_marker = True
            return
        try:
            header = headers.parse_header(block)
            if header.kind in headers.DESCRIBING:
                described += header.size
                own |= _read_description(source, header)
                continue
            entry = _entry(source, header, block, own)
        except Damaged as error:
            raise ArchiveInvalid(
                f"{source.name} is damaged, or not a tar: at byte {start} {error}",
                hint="save or copy the image again",
            ) from error
        own = {}
        yield entry
        missing = entry.offset + entry.stored - source.position
        if missing > 0 and (existing := source.skip(missing)) < missing:
            raise cut_off_error(source.name, entry.name, entry.stored - missing + existing, entry.stored)
        source.skip(entry.end - source.position)


def cut_off_error(archive: str, entry: str, existing: int, size: int) -> ArchiveTruncated:
    """Return the error for an entry of which only ``existing`` of ``size`` bytes are there."""
    return ArchiveTruncated(
        f"{archive} is cut off inside {display_name(entry)}: {existing} of its {size} bytes are there",
        hint="save or copy the image again, and check that the disk did not fill up",
    )


class EntryStream(io.RawIOBase):
    """The data of the current entry of ``source`` as they are stored; ArchiveTruncated if they end early."""

    def __init__(self, source: Input, entry: Entry) -> None:
        self._source = source
        self._entry = entry

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        left = self._entry.offset + self._entry.stored - self._source.position
        size = min(len(buffer), left)
        count = self._source.read_into(memoryview(buffer)[:size]) if size else 0
        if size and not count:
            stored = self._entry.stored
            raise cut_off_error(self._source.name, self._entry.name, stored - left, stored)
        return count


class _Filled(io.RawIOBase):
    """A sparse file with its holes as zeros; ``stored`` gives the data between them."""

    def __init__(self, stored: BinaryIO, size: int, pieces: Pieces) -> None:
        self._stored = stored
        self._size = size
        self._pieces = pieces
        self._next = 0
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while self._next < len(self._pieces) and self._position >= self._end(self._next):
            self._next += 2
        is_hole = self._next == len(self._pieces) or self._position < self._pieces[self._next]
        if not is_hole:
            data = self._stored.read(min(len(buffer), self._end(self._next) - self._position))
        elif self._next == len(self._pieces):
            data = bytes(min(len(buffer), self._size - self._position))
        else:
            data = bytes(min(len(buffer), self._pieces[self._next] - self._position))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _end(self, number: int) -> int:
        return int(self._pieces[number] + self._pieces[number + 1])


def content(archive: str, entry: Entry, stored: io.RawIOBase) -> BinaryIO:
    """Return what is in an entry, from what is ``stored`` of it: sparse files with their holes as zeros."""
    if entry.pieces is None:
        return open_buffered(stored)
    if entry.size > _SPARSE_LIMIT:
        raise ArchiveInvalid(
            f"{archive} holds {display_name(entry.name)} as a sparse file of {entry.size} bytes"
        )
    return open_buffered(_Filled(open_buffered(stored), entry.size, entry.pieces))


def passing(source: Input, entry: Entry) -> BinaryIO:
    """Return what is in the current entry of ``source``; ArchiveTruncated, ArchiveInvalid."""
    return content(source.name, entry, EntryStream(source, entry))


def _read_description(source: Input, header: Header) -> dict[str, bytes]:
    """Return what a pax header or a long name says of the next entry."""
    is_name = header.kind in headers.LONG_NAME + headers.LONG_TARGET
    if header.size > (headers.NAME_LIMIT if is_name else _META_LIMIT):
        what = "a name" if is_name else "a pax header"
        raise Damaged(f"{what} has {header.size} bytes")
    data = source.read(header.size + -header.size % BLOCK)
    if len(data) < header.size:
        raise _cut_off_in_header_error(source)
    return headers.read_records(header, data[: header.size])


def _entry(source: Input, header: Header, block: bytes, own: dict[str, bytes]) -> Entry:
    known = headers.resolve_name(header, own)
    stored = size = known.stored
    pieces: Pieces | None = None
    if header.kind == headers.SPARSE:
        size, pieces = headers.pieces_of_header(block, lambda: _block(source))
    elif known.is_file and headers.is_sparse(own):
        before = source.position
        if "GNU.sparse.map" in own:
            pieces = headers.pieces_of_record(own["GNU.sparse.map"])
        else:
            pieces = headers.pieces_of_data(lambda: _block(source))
        stored -= source.position - before
        size = headers.sparse_size(own, size)
    if pieces is not None:
        headers.check_pieces(pieces, size, stored)
    return Entry(
        name=_text(known.name),
        offset=source.position,
        size=size,
        stored=stored,
        is_file=known.is_file,
        target=None if known.target is None else _text(known.target),
        is_hardlink=header.kind == headers.HARD_LINK,
        is_folder=known.is_folder,
        pieces=pieces,
    )


def _block(source: Input) -> bytes:
    block = source.read(BLOCK)
    if len(block) < BLOCK:
        raise _cut_off_in_header_error(source)
    return block


def _cut_off_in_header_error(source: Input) -> ArchiveTruncated:
    return ArchiveTruncated(f"{source.name} is cut off after {source.position} bytes, inside a tar header")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
