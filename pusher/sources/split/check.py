"""Verify that the parts of a layer equal the layer, with code that is independent of the cutter.

A mistake in cutting would show only when an engine pulls the image, so everything is compared: paths, kinds,
headers and contents of all entries, and that a hard link comes after its file.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final
from zlib import crc32

from pusher.sources.tar import headers
from pusher.sources.tar.headers import BLOCK, Damaged, EntryName, Header

_64_BITS: Final = 2**64 - 1


class Contents:
    """The content of a tar, read as a stream. Memory: 8 bytes an entry, some 100 a folder or link.

    Entries are compared by sums and per-process hashes: these find mistakes, not forgeries.
    """

    def __init__(self) -> None:
        self.sum = 0
        """Of all entries except folders, in any order."""
        self.folders: set[int] = set()
        self.is_damaged = False
        self.links: dict[int, int] = {}
        """By position among the entries: the target's hash."""
        self._paths = array("Q")
        self._head = bytearray()
        self._start = 0
        self._wanted = BLOCK
        self._describing: Header | None = None
        self._own: dict[str, bytes] = {}
        self._current: tuple[Header, EntryName] | None = None
        self._left = 0
        self._crc = 0
        self._ended = False

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the tar."""
        view = memoryview(data)
        while view and not self._ended:
            if self._left:
                piece = view[: self._left]
                self._crc = crc32(piece, self._crc)
                self._left -= len(piece)
                if not self._left:
                    self._finish()
            else:
                piece = view[: self._wanted - len(self._head)]
                self._head += piece
                if len(self._head) == self._wanted:
                    self._try_to_look()
            view = view[len(piece) :]

    def has_before(self, positions: Sequence[int]) -> set[int]:
        """Return the positions, among these, of the links that come after their targets."""
        targets = {self.links[position] for position in positions}
        first: dict[int, int] = {}
        for position, path in enumerate(self._paths):
            if path in targets:
                first.setdefault(path, position)
        return {position for position in positions if first.get(self.links[position], position) < position}

    def _try_to_look(self) -> None:
        try:
            self._look()
        except Damaged:
            self.is_damaged = self._ended = True

    def _look(self) -> None:
        """Parse what is complete: a header, an extended header, or more of a sparse file's map."""
        if self._describing is not None:
            data = bytes(self._head[self._start + BLOCK :][: self._describing.size])
            self._own |= headers.read_records(self._describing, data)
            if self._describing.kind == headers.PAX_FOR_ALL:  # every part has it, no entry owns it
                del self._head[self._start :]
            self._describing = None
            self._expect(len(self._head))
            return
        if self._current is not None:
            self._go_on(self._head[-8])
            return
        block = bytes(self._head[self._start :])
        if not any(block):
            self._ended = True
            return
        header = headers.parse_header(block)
        if header.kind in headers.DESCRIBING:
            self._describing = header
            self._wanted += header.size + -header.size % BLOCK
            if not header.size:
                self._look()
            return
        self._current = header, headers.resolve_name(header, self._own)
        self._go_on(block[482] if header.kind == headers.SPARSE else 0)

    def _go_on(self, more: int) -> None:
        """Expect more of a sparse file's map, or else the data."""
        if more:
            self._wanted += BLOCK
            return
        assert self._current is not None  # noqa: S101 - both callers have set it
        self._crc = 0
        stored = self._current[1].stored
        self._left = stored + -stored % BLOCK
        if not self._left:
            self._finish()

    def _expect(self, start: int) -> None:
        self._start = start
        self._wanted = start + BLOCK

    def _finish(self) -> None:
        """Count the entry that is now complete."""
        assert self._current is not None  # noqa: S101 - there is one while its data are read
        header, entry = self._current
        path = _hash(entry.name)
        whole = hash((path, header.kind, entry.target, entry.stored, bytes(self._head), self._crc))
        if entry.is_folder:
            self.folders.add(whole)
        else:
            self.sum += whole
            if header.kind == headers.HARD_LINK:
                self.links[len(self._paths)] = _hash(entry.target or b"")
            self._paths.append(path)
        self._current = None
        self._own = {}
        self._head.clear()
        self._expect(0)


def are_the_same(layer: Contents, parts: Sequence[Contents]) -> bool:
    """Return whether the parts together equal the layer, with each hard link after its file."""
    return (
        not any(contents.is_damaged for contents in (layer, *parts))
        and layer.sum == sum(part.sum for part in parts)
        and layer.folders == set().union(*(part.folders for part in parts))
        and len(layer.has_before(list(layer.links)))
        == sum(len(part.has_before(list(part.links))) for part in parts)
    )


def _hash(path: bytes) -> int:
    steps = [step for step in path.split(b"/") if step not in (b"", b".")]
    return hash(b"/".join(steps)) & _64_BITS
