"""Create and check folders and files that only this user can write.

The job store, its locks and the spool are trusted because no other user can put a link, pipe or file there.
ssh has the same rule for its folder.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from pusher.errors import HomeUnusable
from pusher.text import suggest

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_ANOTHER: Final = "set PUSHER_HOME to a folder of your own"


def make_private_folder(path: Path, *, closed: bool = False) -> None:
    """Make a folder for this user alone, or check an existing one; ``closed``: others may not read it.

    A link to a folder is followed only for the folder of PUSHER_HOME itself, which is not ``closed``.
    Raises HomeUnusable, and OSError if it cannot be made.
    """
    try:
        path.mkdir(mode=0o700)
    except FileNotFoundError:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        check_private_folder(path, closed=closed)
    if closed and stat.S_IMODE(path.stat().st_mode) != stat.S_IRWXU:
        path.chmod(stat.S_IRWXU)  # made by the user, or with an unusual umask


def check_private_folder(path: Path, *, closed: bool = False) -> None:
    """Raise HomeUnusable if others may write to an existing folder; OSError if it is not a folder."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        if closed:
            raise HomeUnusable(
                f"{path} is a symbolic link, which is not allowed there",
                hint=f"{_ANOTHER}, on the disk that is to hold the blobs",
            )
        status = path.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    _check_owner(path, status)
    if status.st_mode & _OTHERS_WRITE:
        raise HomeUnusable(
            f"other users can write to {path}, so its contents cannot be trusted",
            hint=suggest("run `chmod go-w {}`, or " + _ANOTHER, path) or _ANOTHER,
        )


def check_private_file(path: Path) -> None:
    """Raise HomeUnusable if ``path`` is a link, a pipe, a device or another user's file."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISDIR(status.st_mode):
        return  # nothing is read from it, and opening it fails with an error of its own
    if not stat.S_ISREG(status.st_mode):
        kind = (
            "a symbolic link, which is not allowed there"
            if stat.S_ISLNK(status.st_mode)
            else "not a regular file"
        )
        raise HomeUnusable(
            f"{path} is {kind}", hint=suggest("see who made it with `ls -l {}`, and remove it", path)
        )
    _check_owner(path, status)


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise HomeUnusable(
            f"{path} belongs to {_name_of(status.st_uid)}, but only its owner may use a job store",
            hint=f"{_ANOTHER}, or run pusher as {_name_of(status.st_uid)}",
        )


def _name_of(user: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"the user {user}"
