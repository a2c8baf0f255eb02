"""Store clients' open uploads: their bytes in a file, hashed as they are written.

The file's size is the offset. After a restart it is hashed again: a hash's state cannot be stored.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pusher.oci.digest import algorithm_of, digest_of_hash
from pusher.serve.catalog import Catalog, SessionRow
from pusher.serve.errors import ApiError
from pusher.spool.disk import room_at

if TYPE_CHECKING:
    from hashlib import _Hash

BLOCK: Final = 1 << 20
"""Bytes that are written and hashed at a time."""
MOST: Final = 1000
"""Sessions that may be open."""
LONGEST: Final = 7 * 86400.0
"""Seconds after which an unused session is removed."""
_SWEEP: Final = 3600.0
"""Seconds between checks for those."""


def _upload_unknown_error(upload_id: str) -> ApiError:
    """Return the error for an unknown session."""
    return ApiError(404, "BLOB_UPLOAD_UNKNOWN", f"there is no upload {upload_id[:40]} here")


class Upload:
    """One session. Its methods may be called from any thread. Only the last request that took a turn may
    write: the one before it may hang on a dead connection."""

    def __init__(self, upload_id: str, repository: str, algorithm: str, path: Path) -> None:
        self.id = upload_id
        self.repository = repository
        self.algorithm = algorithm
        self.path = path
        self._lock = threading.Lock()
        self._turn = 0
        self._turn_began_at = 0
        self._hash: _Hash | None = None
        self._is_over = False
        self.size = path.stat().st_size
        """Bytes received."""

    def take_turn(self, start: int | None, algorithm: str | None = None) -> int:
        """Begin to write at ``start``, or at the offset (None). Return the turn to pass to ``append``.

        ``algorithm``: of the digest, if known. Raises ApiError 416 if ``start`` is not the offset.
        """
        with self._lock:
            self._check_there()
            if start is not None and start != self.size:
                raise ApiError(
                    416,
                    "BLOB_UPLOAD_INVALID",
                    f"the upload is at {self.size}, and the chunk begins at {start}",
                    headers={"Range": self.range, "Location": self.location},
                )
            if algorithm is not None and self.size == 0 and algorithm != self.algorithm:
                self.algorithm, self._hash = algorithm, None
            self._hash = self._hash or self._hash_file()
            self._turn += 1
            self._turn_began_at = self.size
            return self._turn

    def append(self, turn: int, *parts: bytes) -> None:
        """Write and hash a block. Raises ApiError 416 if another turn began; OSError, nothing changed."""
        size = sum(map(len, parts))
        with self._lock:
            self._check_there()
            if turn != self._turn or self._hash is None:
                raise ApiError(416, "BLOB_UPLOAD_INVALID", "another request writes to this upload now")
            if size > room_at(self.path.parent):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path.parent))
            try:
                with self.path.open("r+b", buffering=0) as file:
                    file.seek(self.size)
                    for part in parts:
                        view = memoryview(part)
                        while view:
                            view = view[file.write(view) :]
            except OSError:
                with suppress(OSError):
                    os.truncate(self.path, self.size)
                raise
            for part in parts:
                self._hash.update(part)
            self.size += size

    def finish(self, turn: int, digest: str) -> None:
        """Verify the digest and flush the bytes to disk; later writes are refused.

        Raises ApiError DIGEST_INVALID.
        """
        with self._lock:
            self._check_there()
            if turn != self._turn:
                raise ApiError(416, "BLOB_UPLOAD_INVALID", "another request writes to this upload now")
            if self._hash is None or self.algorithm != algorithm_of(digest):
                self.algorithm = algorithm_of(digest)
                self._hash = self._hash_file()
            found = digest_of_hash(self._hash)
            if found != digest:
                raise ApiError(
                    400,
                    "DIGEST_INVALID",
                    f"the blob was sent as {digest}, its {self.size} bytes have {found}",
                )
            with self.path.open("r+b") as file:
                os.fsync(file.fileno())
            self._is_over = True

    def discard(self, turn: int) -> None:
        """Remove what the turn appended and end it; do nothing if another turn began."""
        with self._lock:
            if self._is_over or turn != self._turn:
                return
            os.truncate(self.path, self._turn_began_at)
            self.size, self._hash = self._turn_began_at, None
            self._turn += 1

    def end(self) -> None:
        """Refuse all later writes."""
        with self._lock:
            self._is_over = True

    @property
    def location(self) -> str:
        """Return the next request's path."""
        return f"/v2/{self.repository}/blobs/uploads/{self.id}"

    @property
    def range(self) -> str:
        """Return the received range as the specification writes it; ``0-0`` if empty, as distribution."""
        return f"0-{max(0, self.size - 1)}"

    def _check_there(self) -> None:
        if self._is_over:
            raise _upload_unknown_error(self.id)

    def _hash_file(self) -> _Hash:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, self.algorithm)


class UploadSessions:
    """The sessions of a registry, in a folder of their own; kept across restarts."""

    def __init__(self, folder: Path, catalog: Catalog, longest: float) -> None:
        """Open the uploads; ``longest``: seconds after which an unused session is removed."""
        self._longest = longest
        self._folder = folder
        self._catalog = catalog
        self._lock = threading.Lock()
        self._open: dict[str, Upload] = {}
        self._swept = 0.0
        folder.mkdir(mode=0o700, exist_ok=True)
        known = {row.id for row in catalog.uploads()}
        for path in folder.iterdir():
            if path.name not in known:
                path.unlink()

    def open(self, repository: str, algorithm: str) -> Upload:
        """Open a session. Raises ApiError TOOMANYREQUESTS at the limit."""
        self._sweep()
        with self._lock:
            if len(self._catalog.uploads()) >= MOST:
                raise ApiError(
                    429, "TOOMANYREQUESTS", f"{MOST} uploads are open already", headers={"Retry-After": "60"}
                )
            row = SessionRow(_uuid(), repository, algorithm, time.time())
            path = self._folder / row.id
            path.touch(mode=0o600, exist_ok=False)
            self._catalog.add_upload(row)
            upload = self._open[row.id] = Upload(row.id, repository, algorithm, path)
            return upload

    def get(self, repository: str, upload_id: str) -> Upload:
        """Return a session of this repository. Raises ApiError BLOB_UPLOAD_UNKNOWN."""
        with self._lock:
            if upload_id not in self._open:
                row = self._catalog.upload(upload_id)
                path = self._folder / upload_id
                if row is None or not path.is_file():
                    raise _upload_unknown_error(upload_id)
                self._open[row.id] = Upload(row.id, row.repository, row.algorithm, path)
            upload = self._open[upload_id]
        if upload.repository != repository:
            raise _upload_unknown_error(upload_id)
        return upload

    def remove(self, upload: Upload) -> None:
        """End the session, and delete its bytes unless they became a blob."""
        upload.end()
        with self._lock:
            self._catalog.remove_upload(upload.id)
            self._open.pop(upload.id, None)
            upload.path.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove expired sessions."""
        now = time.time()
        with self._lock:
            if abs(now - self._swept) < _SWEEP:
                return
            self._swept = now
        for row in self._catalog.uploads(opened_before=now - self._longest):
            with suppress(ApiError, FileNotFoundError):
                upload = self.get(row.repository, row.id)
                if upload.path.stat().st_mtime < now - self._longest:
                    self.remove(upload)


def _uuid() -> str:
    """Return a random UUID; the specification puts one in the location."""
    digits = secrets.token_hex(16)
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
