"""Leave room on the file system that the spool is on, and translate its errors."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pusher.errors import DiskFull, PusherError, home_error
from pusher.spool.temporary import TemporaryFile

_RESERVE: Final = 16 * 1024 * 1024
"""Bytes of the disk that blobs leave free, or a twentieth of a small one."""


def room_at(folder: Path) -> int:
    """Return the bytes that blobs may still take on the disk of an existing folder. Raises OSError.

    Some file systems in user space do not know their size and return zeros: then there is no limit.
    """
    disk = shutil.disk_usage(folder)
    if not disk.total:
        return sys.maxsize
    return disk.free - min(_RESERVE, disk.total // 20)


def revalidate(folder: Path) -> None:
    """Have NFS ask its server what is in a folder: for up to a minute it also remembers that a file was not
    there. Opening the folder does that (nfs(5), "Close-to-open cache consistency")."""
    with suppress(OSError):
        os.close(os.open(folder, os.O_RDONLY))


class SpoolDisk:
    """The file system of a spool at ``root``."""

    def __init__(self, root: Path, *, is_shared: bool) -> None:
        """``is_shared``: with other machines."""
        self._root = root
        self._is_shared = is_shared

    @contextmanager
    def translate_errors(
        self, name: str, file: TemporaryFile | None = None, needs: str | None = None
    ) -> Iterator[None]:
        """Translate OSError, for a message about ``name``: DiskFull, HomeUnusable or MachineExhausted.

        ``file``: what was being written, and is removed. ``needs``: the room for it, in words.
        """
        try:
            yield
        except OSError as error:
            raise self._translate(error, name, file.size if file else 0, needs or "more") from error

    def _translate(self, error: OSError, name: str, written: int, needs: str) -> PusherError:
        setting = "PUSHER_SPOOL" if self._is_shared else "PUSHER_HOME"
        if error.errno == errno.EDQUOT:
            return DiskFull(
                f"no space for {name} in {self._root}: the disk quota is used up",
                hint=f"free some space there, have the quota raised, or move {setting} to another disk",
            )
        if error.errno == errno.ENOSPC:
            return DiskFull(
                f"no space for {name} in {self._root}: {self._describe_room(written, needs)}",
                hint=f"free some space there, or move {setting} to a larger disk",
            )
        return home_error(
            error,
            self._root,
            f"cannot write {name} to {self._root}: {error.strerror or error}",
            hint=f"check the disk and the permissions of {self._root}, or set {setting} to another folder",
        )

    def room(self) -> int:
        """Return the bytes that blobs may still take."""
        with self.translate_errors("the spool"):
            return room_at(self._root)

    def leave_room(self, size: int) -> None:
        """Raise OSError where ``size`` bytes would fill the disk: the job store must still record uploads."""
        if size > room_at(self._root):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _describe_room(self, written: int, needs: str) -> str:
        """Describe the room before ``written`` bytes of the file that did not fit, which is removed."""
        try:
            free = max(0, room_at(self._root) + written)
        except OSError:
            return "the disk is full"
        return f"{free / 1024**2:.1f} MiB are free for it, and it needs {needs}"
