"""Read users and passwords from an htpasswd file with bcrypt hashes, as docker's registry takes it."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import bcrypt

from pusher.errors import InvalidOption
from pusher.text import quoted, suggest

_BCRYPT: Final = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")
_LONGEST_PASSWORD: Final = 72
"""Bytes of a password that bcrypt uses; htpasswd cuts it there, too."""
_MAX_BYTES: Final = 1 << 20


class PasswordFile:
    """The users of a file, which is read again when it changes. Thread-safe.

    bcrypt takes a tenth of a second of processor time by design, so a password that was right is remembered
    as a keyed hash, and one password is verified at a time. Raises InvalidOption if the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._key = secrets.token_bytes(32)
        self._version = self._read_version()
        self._hashes = _read(path)
        self._right: dict[str, bytes] = {}

    def is_right(self, username: str, password: str) -> bool:
        """Return whether this is the password of a user of the file."""
        given = hmac.digest(self._key, password.encode(), hashlib.sha256)
        with self._lock:
            self._read_again()
            known = self._right.get(username)
            if known is not None and hmac.compare_digest(known, given):
                return True
            # an unknown user takes as long as a wrong password
            hashed = self._hashes.get(username) or next(iter(self._hashes.values()))
            is_right = _verify(password, hashed) and username in self._hashes
            if is_right:
                self._right[username] = given
            return is_right

    def _read_again(self) -> None:
        """Read a file that was changed; one that cannot be used now changes nothing."""
        with suppress(InvalidOption, OSError):
            if (version := self._read_version()) != self._version:
                self._hashes, self._right, self._version = _read(self._path), {}, version

    def _read_version(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise _unreadable_error(self._path, error) from error
        return found.st_mtime_ns, found.st_size, found.st_ino


def _verify(password: str, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password.encode()[:_LONGEST_PASSWORD], hashed)
    except ValueError:  # a NUL in the password, or a cost that bcrypt does not know
        return False


def _read(path: Path) -> Mapping[str, bytes]:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES).decode()
    except OSError as error:
        raise _unreadable_error(path, error) from error
    except UnicodeDecodeError:
        raise InvalidOption(f"{path} is not an htpasswd file", hint=f"make one with: {_make(path)}") from None
    users: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        username, colon, hashed = line.strip().partition(":")
        if not (colon and username and _BCRYPT.fullmatch(hashed)):
            who = f"the password of {quoted(username)}" if colon and username else "the line"
            raise InvalidOption(
                f"{path}, line {number}: {who} is not a bcrypt hash, and no other kind is accepted",
                hint="write it again with: " + _make(path, username if colon and username else "USER"),
            )
        users[username] = hashed.encode()
    if not users:
        raise InvalidOption(f"{path} has no users", hint=f"add one with: {_make(path)}")
    return users


def _make(path: Path, username: str = "USER") -> str:
    return suggest("htpasswd -B {} {}", path, username)


def _unreadable_error(path: Path, error: OSError) -> InvalidOption:
    return InvalidOption(
        f"{path} cannot be read: {error.strerror}", hint="name an htpasswd file that you can read"
    )
