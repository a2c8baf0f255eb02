"""Assemble a layer's exact tar from its files and its tar-split.

tar-split (https://github.com/vbatts/tar-split, ``tar/storage/entry.go``, ``tar/asm/assemble.go``) stores what
the files lack: gzipped JSON lines, type 2 with bytes of the tar as they are (headers, padding), type 1
with the name and size of the file that comes next. Its checksums of single files are not checked: the diff ID
of the whole layer is.
"""

from __future__ import annotations

import binascii
import io
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from isal import igzip, isal_zlib

from pusher.errors import StorageDoubtful
from pusher.oci.bounded_json import load_json
from pusher.sources.engine.disk.folder import Folder
from pusher.sources.foreign_files import open_regular

_ISAL_ERROR = cast("type[Exception]", isal_zlib.IsalError)  # its stub declares an instance
_FILE: Final = 1
_SEGMENT: Final = 2
_BLOCK: Final = 1 << 20
_LONGEST_LINE: Final = 64 << 20
"""Bytes; a segment holds the headers between two files, so a longer one is not genuine."""


class LayerTar(io.RawIOBase):
    """The tar of a layer as a stream. Reading raises StorageDoubtful if the disk lacks a part."""

    def __init__(self, tar_split: Path, files: Path) -> None:
        self._where = tar_split
        self._left = memoryview(b"")
        try:
            self._folder = Folder(files)
        except OSError as error:
            raise _error(tar_split, f"{files}: {error.strerror or error}") from error
        try:
            self._packed = os.fdopen(open_regular(tar_split)[0], "rb")
        except OSError as error:
            self._folder.close()
            raise _error(tar_split, error.strerror or str(error)) from error
        self._lines: Any = igzip.IGzipFile(fileobj=self._packed, mode="rb")  # type: ignore[no-untyped-call]
        self._parts = self._assemble()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view):
            if not self._left:
                part = next(self._parts, None)
                if part is None:
                    break
                self._left = memoryview(part)
            count = min(len(self._left), len(view) - filled)
            view[filled : filled + count] = self._left[:count]
            self._left = self._left[count:]
            filled += count
        return filled

    def close(self) -> None:
        if not self.closed and hasattr(self, "_parts"):
            self._parts.close()
            self._lines.close()
            self._packed.close()
            self._folder.close()
        super().close()

    def _assemble(self) -> Generator[bytes, None, None]:
        try:
            for entry in self._entries():
                if entry["type"] == _SEGMENT:
                    yield binascii.a2b_base64(entry["payload"], strict_mode=True)
                elif entry["type"] == _FILE:
                    if entry.get("size", 0) > 0:
                        yield from self._file(_name_of(entry), entry["size"])
                else:
                    raise _error(self._where, f"an entry has the type {entry['type']!r:.50}")
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise _error(self._where, f"an entry cannot be read ({type(error).__name__})") from error

    def _entries(self) -> Iterator[dict[str, Any]]:
        try:
            while line := self._lines.readline(_LONGEST_LINE):
                yield load_json(line)
        except (OSError, EOFError, _ISAL_ERROR) as error:
            raise _error(self._where, "it is damaged") from error

    def _file(self, name: bytes, size: int) -> Iterator[bytes]:
        shown = ascii(os.fsdecode(name))[:200]
        try:
            descriptor, there = self._folder.open(name)
        except OSError as error:
            raise _error(self._where, f"its file {shown}: {error.strerror or error}") from error
        try:
            if there != size:
                raise _error(self._where, f"its file {shown} has {there} bytes, it had {size}")
            left = size
            while left:
                data = os.read(descriptor, min(left, _BLOCK))
                if not data:
                    raise _error(self._where, f"its file {shown} became {left} bytes shorter")
                left -= len(data)
                yield data
        except OSError as error:
            raise _error(self._where, f"its file {shown}: {error.strerror or error}") from error
        finally:
            os.close(descriptor)


def open_layer_tar(tar_split: Path, files: Path) -> BinaryIO:
    """Open the tar of a layer whose files are below ``files``. Raises StorageDoubtful, as does reading it."""
    return io.BufferedReader(LayerTar(tar_split, files), _BLOCK)


def _name_of(entry: dict[str, Any]) -> bytes:
    """Return the file's name: ``name_raw`` if it is not UTF-8, else ``name``."""
    if raw := entry.get("name_raw"):
        return binascii.a2b_base64(raw, strict_mode=True)
    name: str = entry["name"]
    return name.encode()


def _error(where: Path, why: str) -> StorageDoubtful:
    return StorageDoubtful(f"the layer of {where} cannot be assembled from its files: {why}")
