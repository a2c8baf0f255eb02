"""Reading a tar by its headers, from a file or a pipe; nothing is ever extracted.

tarfile is not used for walking: it takes a damaged or cut-off header for the end of the archive.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

from pusher.errors import ArchiveInvalid, ArchiveTruncated
from pusher.sources.names import shown

_BLOCK: Final = 512
_META_LIMIT: Final = 1 << 20
_READ: Final = 1 << 20
_LONGEST_SIZE: Final = 20
"""Decimal digits of 2**63, and one more."""
_NEEDED: Final = frozenset({"path", "linkpath", "size", "GNU.sparse.name"})
"""Keywords of pax headers that are looked at: the others would only fill memory."""
_SPARSE_GOES_ON: Final = 482
_SPARSE_MAP_GOES_ON: Final = 504
_WITHOUT_DATA: Final = frozenset(
    {tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE}
)


@dataclass(frozen=True)
class Entry:
    """One entry: ``offset`` and ``size`` of its data in bytes; ``target`` is set for links."""

    name: str
    offset: int
    size: int
    is_file: bool
    target: str | None = None
    is_hardlink: bool = False
    is_folder: bool = False

    @property
    def end(self) -> int:
        """Where the next entry begins."""
        return self.offset + self.size + -self.size % _BLOCK


class Input(Protocol):
    """Bytes that are read forward; ``position`` counts them. ``at_end_marker``: the tar's end was seen."""

    name: str
    position: int
    at_end_marker: bool

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes, fewer only at the end."""

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

    def skip(self, size: int) -> int:
        existing = max(0, min(size, self._size - self.position))
        self.position += size
        return existing


class PipeInput:
    """A pipe, skipped by reading; ``read_some`` gives at most the bytes asked for, none at the end."""

    def __init__(self, read_some: Callable[[int], bytes], name: str) -> None:
        self.name = name
        self.position = 0
        self.at_end_marker = False
        self._read_some = read_some

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size and (data := self._read_some(min(size, _READ))):
            parts.append(data)
            size -= len(data)
            self.position += len(data)
        return b"".join(parts)

    def skip(self, size: int) -> int:
        missing = size
        while missing and (data := self._read_some(min(missing, _READ))):
            missing -= len(data)
            self.position += len(data)
        return size - missing


def walk(source: Input, *, most: int | None = None) -> Iterator[Entry]:
    """The entries in their order, up to the end marker (or the end of the input between two entries).

    While an entry is current its data may be read from ``source``. Raises ArchiveInvalid, ArchiveTruncated;
    ``most``: the headers after which it is ArchiveInvalid, those of long names included.
    """
    common: dict[str, str] = {}
    own: dict[str, str] = {}
    count = 0
    while header := source.read(_BLOCK):
        count += 1
        if most is not None and count > most:
            raise ArchiveInvalid(f"{source.name} is a tar of very many files, not an image archive")
        start = source.position - len(header)
        if len(header) < _BLOCK:
            raise ArchiveTruncated(
                f"{source.name} is cut off after {source.position} bytes, inside a tar header"
            )
        if not any(header):
            source.at_end_marker = True
            return
        info = _parse(header, start, source.name)
        if info.type in (
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
            tarfile.XHDTYPE,
            tarfile.XGLTYPE,
        ):
            data = _read_meta(source, info)
            if info.type == tarfile.GNUTYPE_LONGNAME:
                own["path"] = _text(data.rstrip(b"\0"))
            elif info.type == tarfile.GNUTYPE_LONGLINK:
                own["linkpath"] = _text(data.rstrip(b"\0"))
            else:
                (own if info.type == tarfile.XHDTYPE else common).update(_pax_records(data, source.name))
            continue
        if info.type == tarfile.GNUTYPE_SPARSE:
            _read_sparse_map(source, header)
        entry = _entry(info, {**common, **own}, source)
        own = {}
        yield entry
        missing = entry.offset + entry.size - source.position
        if missing > 0 and (existing := source.skip(missing)) < missing:
            raise cut_off(source.name, entry.name, entry.size - missing + existing, entry.size)
        source.skip(entry.end - source.position)


def cut_off(archive: str, entry: str, existing: int, size: int) -> ArchiveTruncated:
    """The error for an entry of which only ``existing`` of ``size`` bytes are there."""
    return ArchiveTruncated(
        f"{archive} is cut off inside {shown(entry)}: {existing} of its {size} bytes are there",
        hint="save or copy the image again, and check that the disk did not fill up",
    )


class EntryStream(io.RawIOBase):
    """The data of the current entry of ``source``; ArchiveTruncated if it ends early."""

    def __init__(self, source: Input, entry: Entry) -> None:
        self._source = source
        self._entry = entry

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        left = self._entry.offset + self._entry.size - self._source.position
        size = min(len(buffer), left)
        data = self._source.read(size)
        if len(data) < size:
            raise cut_off(
                self._source.name, self._entry.name, self._entry.size - left + len(data), self._entry.size
            )
        buffer[:size] = data
        return size


def _parse(header: bytes, position: int, name: str) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError) as error:
        raise ArchiveInvalid(
            f"{name} is damaged, or no tar: at byte {position} there is no tar header",
            hint="save or copy the image again",
        ) from error
    if info.size < 0:
        raise ArchiveInvalid(f"{name} is damaged: the header at byte {position} has a negative size")
    return info


def _read_meta(source: Input, info: tarfile.TarInfo) -> bytes:
    if info.size > _META_LIMIT:
        raise ArchiveInvalid(f"{source.name} is damaged: a tar name of {info.size} bytes")
    padded = info.size + -info.size % _BLOCK
    data = source.read(padded)
    if len(data) < info.size:
        raise ArchiveTruncated(f"{source.name} is cut off after {source.position} bytes, inside a tar header")
    return data[: info.size]


def _read_sparse_map(source: Input, header: bytes) -> None:
    """Go past what an old GNU sparse header has no room for (GNU tar manual, "Sparse Formats")."""
    more = header[_SPARSE_GOES_ON]
    while more:
        block = source.read(_BLOCK)
        if len(block) < _BLOCK:
            raise ArchiveTruncated(
                f"{source.name} is cut off after {source.position} bytes, inside a tar header"
            )
        more = block[_SPARSE_MAP_GOES_ON]


def _pax_records(data: bytes, name: str) -> dict[str, str]:
    """What is needed of ``<length> <key>=<value>\\n`` records (POSIX pax, "pax Extended Header")."""
    records: dict[str, str] = {}
    start = 0
    while start < len(data):
        space = data.find(b" ", start, start + _LONGEST_SIZE)
        length = data[start:space] if space > start else b""
        end = start + int(length) if length.isdigit() else 0
        key, separator, value = data[space + 1 : end - 1].partition(b"=")
        if not separator or not space < end <= len(data):
            raise ArchiveInvalid(f"{name} is damaged: a pax header cannot be read")
        if (keyword := _text(key)) in _NEEDED:
            records[keyword] = _text(value)
        start = end
    return records


def _entry(info: tarfile.TarInfo, extra: dict[str, str], source: Input) -> Entry:
    name = extra.get("GNU.sparse.name") or extra.get("path", info.name)
    size = 0 if info.type in _WITHOUT_DATA else info.size
    if "size" in extra and info.type not in _WITHOUT_DATA:
        if not extra["size"].isdecimal() or len(extra["size"]) > _LONGEST_SIZE:
            raise ArchiveInvalid(
                f"{source.name} is damaged: {shown(name)} has the size {extra['size'][:40]!r}"
            )
        size = int(extra["size"])
    is_link = info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE)
    return Entry(
        name=name,
        offset=source.position,
        size=size,
        is_file=info.type in tarfile.REGULAR_TYPES and not info.isdir(),
        target=extra.get("linkpath", info.linkname) if is_link else None,
        is_hardlink=info.type == tarfile.LNKTYPE,
        is_folder=info.isdir(),
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
