"""Cut a layer's tar into parts that unpack to the same files.

Engines unpack one layer after the other, some (Docker's overlay2) each into its own folder. So

- a part begins with the entries of the folders that it adds to: the uppermost layer that has a folder decides
  its owner, mode and time;
- a hard link is in the part of the file that it links to, at the end if that part is already full;
- deletions (image-spec ``layer.md``, "Whiteouts") are in the first part: they apply to the layers
  below, and would delete the files of earlier parts.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from pusher.errors import ImageUnsupported
from pusher.sources.image_names import display_name
from pusher.sources.split.headers import HeaderReader
from pusher.sources.tar import reader
from pusher.sources.tar.headers import BLOCK

END: Final = bytes(2 * BLOCK)
"""What ends a tar."""
_READ: Final = 1 << 20
_MAX_MEMORY: Final = 200 << 20
"""Bytes that the paths of one layer may take: two million files."""
_FILE_MEMORY: Final = 100
_FOLDER_MEMORY: Final = 600
_LONGEST_LIST: Final = 1 << 20
_LONGEST_PATH: Final = 4096
_MAX_STEPS: Final = 255
"""Longer paths cannot be unpacked on Linux."""
_WHITEOUT: Final = ".wh."
_META: Final = ".wh..wh."
_OPAQUE: Final = ".wh..wh..opq"


class Chunk(NamedTuple):
    """Bytes of a part. ``late`` chunks come after all others."""

    part: int
    data: bytes
    late: bool = False


class _Folder:
    """``header``: its entry, compressed; empty if it has none. ``parts``: those that have it, as bits.

    No part has it twice: Docker refuses a layer with two entries of one name (tar-split).
    """

    __slots__ = ("header", "parts")

    def __init__(self) -> None:
        self.header = b""
        self.parts = 0


class Cutter:
    """Cuts one layer. The same tar, ``limit`` and ``reserve`` always give the same parts.

    ``limit``: bytes that a part may have. ``reserve``: how many of them are kept free for late chunks;
    the caller must check that a part's late chunks fit. ``name`` is for messages. Memory:
    some 100 bytes a file and 600 a folder, and not more than 200 MiB.
    """

    def __init__(self, limit: int, reserve: int, name: str) -> None:
        self._limit = limit
        self._soft = limit - reserve
        self._name = name
        self._part = 0
        self._used = 0
        self._full = False
        self._common = b""
        self._folders: dict[str, _Folder] = {"": _Folder()}
        # path -> part; its hash in 64 bits, as a million paths would take several times the memory
        self._files: dict[int, int] = {}
        self._memory = 0
        self._parent: str | None = None
        self._bare: set[str] = set()  # parents of folders without an entry

    def chunks(self, source: HeaderReader) -> Iterator[Chunk]:
        """Yield the parts' bytes without ``END``; parts in order, except late chunks.

        Raises ImageUnsupported, ArchiveInvalid, ArchiveTruncated.
        """
        yield Chunk(0, b"")
        for entry in reader.walk(source):
            common, header = source.headers()
            self._add_common(common)
            path = self._normal(entry.name)
            parent, _, name = path.rpartition("/")
            if path and parent != self._parent:
                self._check_parents(path)
                self._parent = parent
            self._check_kind(entry, path)
            home = self._home(entry, path, name)
            content = entry.end - entry.offset
            if entry.is_folder and content:  # `tar -g` lists its files there
                header += self._list(source, entry)
                content = 0
            head = self._head(path, header)
            size = len(head) + content
            if home is not None and (home < self._part or not self._fits(size)):
                if name == _OPAQUE and home < self._part and parent in self._bare:
                    # folders of the layers below would lose their owner and mode, unknown here
                    raise self._split_error(f"{display_name(path)} comes after what is in its folder")
                yield from self._late(entry, path, home, header)
                continue
            if not self._fits(size):
                self._next_part()
                head = self._head(path, header)
                size = len(head) + content
                if not self._fits(size):
                    raise self._too_large_error(entry)
            if not self._used:
                head = self._common + head
                size += len(self._common)
            self._used += size
            self._record(entry, path, self._part, header)
            yield Chunk(self._part, head)
            if content:
                yield from self._content(source, entry)

    # --- where an entry goes ------------------------------------------------------------------------------

    def _home(self, entry: reader.Entry, path: str, name: str) -> int | None:
        """Return the part that an entry must be in; None: any."""
        if name.startswith(_WHITEOUT):
            self._check_whiteout(path, name)
            if entry.size:
                raise self._split_error(f"{display_name(path)} is a deletion that has content")
            return 0
        if not entry.is_hardlink:
            return None
        target = self._normal(entry.target or "")
        if any(hash(above) in self._files for above in _above(target)):
            raise self._split_error(
                f"{display_name(path)} is a hard link to {display_name(target)}, which is below no folder"
            )
        home = self._files.get(hash(target))
        if home is not None and self._files.get(hash(path), -1) > home:
            raise self._split_error(f"it holds {display_name(path)} twice, once as a hard link")
        return home

    def _fits(self, size: int) -> bool:
        """Return whether the current part has room for ``size`` bytes; an empty one up to ``limit``."""
        if self._full:
            return False
        if not self._used:
            return len(self._common) + size + len(END) <= self._limit
        return self._used + size + len(END) <= self._soft

    def _next_part(self) -> None:
        if self._used:
            self._part += 1
            self._used = 0
            self._full = False

    def _folders_missing_in(self, path: str, part: int) -> list[_Folder]:
        """Return the folders above ``path`` that have an entry which the part lacks."""
        above = map(self._folders.__getitem__, _above(path))
        return [folder for folder in above if folder.header and not folder.parts >> part & 1]

    def _head(self, path: str, header: bytes) -> bytes:
        """Return the bytes before an entry's data in the current part."""
        needed = self._folders_missing_in(path, self._part)
        return b"".join((*(zlib.decompress(folder.header) for folder in needed), header))

    def _record(self, entry: reader.Entry, path: str, part: int, header: bytes) -> None:
        """Record the part of an entry and its parent folders."""
        for folder in self._folders_missing_in(path, part):
            folder.parts |= 1 << part
        if not entry.is_folder:
            self._remember(_FILE_MEMORY)
            self._files[hash(path)] = part
            return
        folder = self._folders.setdefault(path, _Folder())
        folder.header = zlib.compress(header, 1)
        folder.parts |= 1 << part
        self._remember(_FOLDER_MEMORY + len(path) + len(folder.header))

    def _remember(self, size: int) -> None:
        self._memory += size
        if self._memory > _MAX_MEMORY:
            most = _MAX_MEMORY >> 20
            raise self._split_error(f"to remember its paths takes more than {most} MiB of memory")

    def _late(self, entry: reader.Entry, path: str, part: int, header: bytes) -> Iterator[Chunk]:
        """Yield an entry at the end of a part, after its parent folders."""
        if part == self._part:
            self._full = True  # what follows in the tar must not come before it
        for folder in self._folders_missing_in(path, part):
            yield Chunk(part, zlib.decompress(folder.header), True)
        self._record(entry, path, part, header)
        yield Chunk(part, header, True)

    def _list(self, source: HeaderReader, entry: reader.Entry) -> bytes:
        """Return the data of a folder: they follow its header in every part that has it."""
        if entry.stored > _LONGEST_LIST:
            raise self._split_error(f"its folder {display_name(entry.name)} has {entry.stored} bytes of data")
        return b"".join(chunk.data for chunk in self._content(source, entry))

    def _content(self, source: HeaderReader, entry: reader.Entry) -> Iterator[Chunk]:
        left = entry.stored
        while left:
            data = source.data(min(left, _READ))
            left -= len(data)
            if not data:
                raise reader.cut_off_error(source.name, entry.name, entry.stored - left, entry.stored)
            yield Chunk(self._part, data if left else data + bytes(-entry.stored % BLOCK))

    # --- what cannot be cut -------------------------------------------------------------------------------

    def _add_common(self, header: bytes) -> None:
        """Keep a global pax header, with which every part begins."""
        if header and (self._used or self._part):
            raise self._split_error("it has a global pax header between its entries")
        self._common += header

    def _normal(self, name: str) -> str:
        """Return a normalized path; the root is empty."""
        steps = [step for step in name.split("/") if step not in ("", ".")]
        if ".." in steps:
            raise self._split_error(f"the path {display_name(name)} leads upwards")
        if len(name) > _LONGEST_PATH or len(steps) > _MAX_STEPS:
            raise self._split_error(f"the path {display_name(name[:60])}... has {len(name)} characters")
        return "/".join(steps)

    def _check_parents(self, path: str) -> None:
        for above in _above(path):
            if hash(above) in self._files:
                raise self._split_error(
                    f"{display_name(path)} is below {display_name(above)}, which is not a folder in it"
                )
            if above not in self._folders:
                self._folders[above] = _Folder()
                self._bare.update(_above(above))
                self._remember(_FOLDER_MEMORY + len(above))

    def _check_kind(self, entry: reader.Entry, path: str) -> None:
        if hash(path) in self._files if entry.is_folder else path in self._folders:
            raise self._split_error(f"it holds {display_name(path)} twice, once as a folder")

    def _check_whiteout(self, path: str, name: str) -> None:
        if name == _OPAQUE:
            return
        if name.startswith(_META):
            raise self._split_error(f"{display_name(path)} is AUFS's own")
        hidden = path[: -len(name)] + name[len(_WHITEOUT) :]
        if hash(hidden) in self._files or hidden in self._folders:
            raise self._split_error(f"it holds {display_name(hidden)} and then its deletion")

    def _too_large_error(self, entry: reader.Entry) -> ImageUnsupported:
        return ImageUnsupported(
            f"{display_name(entry.name)} in {self._name} has {entry.size / 2**20:,.1f} MiB, too much "
            f"for a layer of {self._limit / 2**20:,.1f} MiB of files (a little less than --split-layers)",
            hint="a file cannot be spread over layers: build the image with the file in pieces, or push it "
            "with a larger --split-layers to a registry that takes larger blobs",
        )

    def _split_error(self, why: str) -> ImageUnsupported:
        return ImageUnsupported(
            f"{self._name} cannot be split: {why}",
            hint="build the image so that the files of this layer are spread over several layers",
        )


def _above(path: str) -> list[str]:
    """Return the parent folders of a path, from the root downwards."""
    if not path:
        return []
    steps = path.split("/")
    return ["/".join(steps[:count]) for count in range(len(steps))]
