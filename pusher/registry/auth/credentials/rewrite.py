"""Changing a file that Docker and Podman use too: wholly or not at all, and one process at a time."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from pusher.errors import CredentialsUnwritable
from pusher.registry.auth.credentials.authfile import AuthFile
from pusher.text import suggest

_PATIENCE: Final = 10.0
"""Seconds to wait for another process that changes the same file."""


@contextmanager
def rewriting(path: Path) -> Iterator[dict[str, Any]]:
    """The file's content (empty if there is no file), which is written back if it was changed.

    A symbolic link stays one; another user's is not followed. Raises CredentialsUnreadable, and
    CredentialsUnwritable: the file is then as it was.
    """
    _check_link(path)
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(f"{target}.lock", timeout=_PATIENCE, mode=0o600):
            content = AuthFile.read(target).content
            before = copy.deepcopy(content)
            yield content
            if content != before:
                # As Docker writes it: tabs, no line break at the end.
                _replace(target, json.dumps(content, indent="\t", ensure_ascii=False).encode())
    except Timeout:
        raise CredentialsUnwritable(
            f"another process keeps {path} locked",
            hint=suggest("try again, after looking who uses it: lsof {}", f"{target}.lock"),
        ) from None
    except OSError as error:
        raise CredentialsUnwritable(
            f"{path} cannot be written: {error.strerror or 'unknown error'}",
            hint=f"see to it that you may write in {target.parent} and that there is room, "
            "or use PUSHER_USERNAME and PUSHER_PASSWORD instead",
        ) from error


def _check_link(path: Path) -> None:
    """Another user's link could have a login written over any file of ours."""
    if os.name == "posix" and path.is_symlink() and path.lstat().st_uid not in (0, os.geteuid()):
        raise CredentialsUnwritable(
            f"{path} is another user's link, which is not followed",
            hint=suggest("look where it leads with `ls -l {}`, and take it away", path),
        )


def _replace(target: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileNotFoundError, PermissionError):
            owner = target.stat()  # with sudo, the file may be another user's
            os.chown(name, owner.st_uid, owner.st_gid)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
