"""Change files that Docker and Podman also use, atomically and by one process at a time."""

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

_LOCK_TIMEOUT: Final = 10.0
"""Seconds to wait for another process that is changing the file."""


@contextmanager
def rewrite_auth_file(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the file's content (empty if there is no file), and write it back if it was changed.

    A symbolic link is kept; another user's is not followed. Raises CredentialsUnreadable and
    CredentialsUnwritable; the file is then unchanged.
    """
    _check_link(path)
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(f"{target}.lock", timeout=_LOCK_TIMEOUT, mode=0o600):
            content = AuthFile.read(target).content
            before = copy.deepcopy(content)
            yield content
            if content != before:
                # as Docker writes it: tabs, no line break at the end
                _replace(target, json.dumps(content, indent="\t", ensure_ascii=False).encode())
    except Timeout:
        raise CredentialsUnwritable(
            f"another process keeps {path} locked",
            hint=suggest("try again once it is free; what uses it: lsof {}", f"{target}.lock"),
        ) from None
    except OSError as error:
        raise CredentialsUnwritable(
            f"{path} cannot be written: {error.strerror or 'unknown error'}",
            hint=f"make sure that {target.parent} is writable and has free space, "
            "or use PUSHER_USERNAME and PUSHER_PASSWORD instead",
        ) from error


def _check_link(path: Path) -> None:
    """Refuse another user's link, by which a login could overwrite any file of this user."""
    if path.is_symlink() and path.lstat().st_uid not in (0, os.geteuid()):
        raise CredentialsUnwritable(
            f"{path} is another user's link, which is not followed",
            hint=suggest("check its target with `ls -l {}`, and remove it", path),
        )


def _replace(target: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileNotFoundError, PermissionError):
            owner = target.stat()  # with sudo it may be another user's
            os.chown(name, owner.st_uid, owner.st_gid)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
