"""Open files of an engine's storage, never files outside of it, and never block."""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from pathlib import Path
from typing import Final

from pusher.sources.foreign_files import open_regular
from pusher.system import open_flags

_KEPT_OPEN: Final = 64
"""Folders; a layer's files come folder by folder, so the next one is nearly always in the last."""
_FOLDER: Final = open_flags("O_RDONLY", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC")


class Folder:
    """A folder whose files are opened by their path below it; no symbolic link is followed on the way.

    Not thread-safe.
    """

    def __init__(self, path: Path) -> None:
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: OrderedDict[bytes, int] = OrderedDict()

    def open(self, name: bytes) -> tuple[int, int]:
        """Return descriptor and size of a regular file. Raises OSError without one, or for a link on the way.

        A name that begins with a slash is below the folder, too, as it was when the layer was unpacked.
        """
        *folders, last = _parts(name)
        return open_regular(last, self._parent(folders))

    def close(self) -> None:
        """Close all folders."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
        os.close(self._root)

    def _parent(self, folders: list[bytes]) -> int:
        if not folders:
            return self._root
        path = b"/".join(folders)
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        descriptor, above = self._root, b""
        for name in folders:
            above = above + b"/" + name if above else name
            descriptor = self._below(descriptor, name, above)
        return descriptor

    def _below(self, parent: int, name: bytes, path: bytes) -> int:
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        descriptor = os.open(name, _FOLDER, dir_fd=parent)
        self._open[path] = descriptor
        if len(self._open) > _KEPT_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return descriptor


def _parts(name: bytes) -> list[bytes]:
    """Split ``./usr//bin/x`` into its names. Raises OSError for a path that leaves the folder."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if not parts or b".." in parts:
        raise OSError(errno.EINVAL, "it is not a path below the layer's folder")
    return parts
