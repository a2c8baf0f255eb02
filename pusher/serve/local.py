"""Store a registry in a folder: ``registry.db`` lists the content of repositories, ``blobs/`` has each blob
once, ``uploads/`` has the open uploads."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from pusher.errors import DiskFull, FolderInUse, InvalidOption, find_machine_error
from pusher.oci.digest import ALGORITHMS, algorithm_of, hex_of
from pusher.serve.catalog import VERSION, Catalog
from pusher.serve.uploads import LONGEST, Upload, UploadSessions
from pusher.system import open_flags, sync_folder, try_lock

_CATALOG: Final = "registry.db"
_LOCK: Final = "lock"
_MARK_EVERY: Final = 60.0
"""Seconds for which a blob that is used again is not marked again."""


class LocalRegistry:
    """The registry in ``folder``, created if missing, locked by this process.

    ``upload_lifetime``: seconds after which an unused upload is removed.

    Raises FolderInUse if another process serves it, InvalidOption if the folder is something else or cannot
    be used, OSError.
    """

    def __init__(self, folder: Path, *, upload_lifetime: float = LONGEST) -> None:
        self.folder = folder
        self.blobs_folder = folder / "blobs"
        """Has a folder for each algorithm."""
        self._lock = threading.Lock()
        with ExitStack() as opened:
            self._descriptor = _lock_folder(folder)
            opened.callback(os.close, self._descriptor)
            self._blobs = {algorithm: self.blobs_folder / algorithm for algorithm in ALGORITHMS}
            for path in self._blobs.values():
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.catalog = _open_catalog(folder)
            opened.callback(self.catalog.close)
            self.uploads = UploadSessions(folder / "uploads", self.catalog, upload_lifetime)
            opened.pop_all()  # until close

    def close(self) -> None:
        """Release the folder's lock."""
        self.catalog.close()
        os.close(self._descriptor)

    def blob_path(self, digest: str) -> Path:
        """Return the file of a blob."""
        return self._blobs[algorithm_of(digest)] / hex_of(digest)

    def blob_size(self, repository: str, digest: str) -> int | None:
        """Return a blob's bytes; None if the repository lacks it."""
        if not self.catalog.has_blob(digest, repository):
            return None
        try:
            found = self.blob_path(digest).stat()
        except FileNotFoundError:
            return None
        self._mark_used(digest, found.st_mtime)
        return found.st_size

    def mark_used(self, digests: Iterable[str]) -> None:
        """Record that blobs, if they are here, are used now: they are not deleted as garbage soon."""
        for digest in digests:
            with suppress(FileNotFoundError):
                self._mark_used(digest, self.blob_path(digest).stat().st_mtime)

    def _mark_used(self, digest: str, used_at: float) -> None:
        if time.time() - used_at > _MARK_EVERY:
            with suppress(OSError):
                os.utime(self.blob_path(digest))

    def drop_unused(self, repository: str | None, digest: str, used_before: float) -> int | None:
        """Remove a blob from a repository, or a file that is in none (None), unless it was used since.

        Return the bytes freed: 0 if other repositories have it; None if it stays.
        """
        path = self.blob_path(digest)
        with self._lock:
            try:
                found = path.stat()
            except FileNotFoundError:
                return None
            if found.st_mtime >= used_before or (repository is None and self.catalog.has_blob(digest)):
                return None
            if repository is not None:
                self.catalog.remove_blob(repository, digest)
            if self.catalog.has_blob(digest):
                return 0
            path.unlink(missing_ok=True)
            return found.st_size

    def take_blob(self, upload: Upload, digest: str) -> None:
        """Make a finished upload a blob of its repository; durable when this returns."""
        target = self.blob_path(digest)
        with self._lock:
            if target.exists():
                os.utime(target)
            else:
                upload.path.replace(target)
                sync_folder(target.parent)
            self.catalog.add_blob(upload.repository, digest)
        self.uploads.remove(upload)

    def mount(self, repository: str, digest: str, source: str | None) -> bool:
        """Add a blob of ``source``, or of any repository (None). Return whether it was found."""
        with self._lock:
            if not self.catalog.has_blob(digest, source) or not self.blob_path(digest).exists():
                return False
            os.utime(self.blob_path(digest))
            self.catalog.add_blob(repository, digest)
            return True

    def remove_blob(self, repository: str, digest: str) -> bool:
        """Remove a blob, and its file if no other repository has it. Return whether it was there."""
        with self._lock:
            found = self.catalog.remove_blob(repository, digest)
            if found and not self.catalog.has_blob(digest):
                self.blob_path(digest).unlink(missing_ok=True)
            return found


def _lock_folder(folder: Path) -> int:
    """Create and lock the folder; return the lock's descriptor."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_registry = (folder / _CATALOG).exists()
        if not is_registry and {entry.name for entry in folder.iterdir()} - {_LOCK}:
            raise InvalidOption(
                f"{folder} holds other things than a registry",
                hint="name a folder that is empty or does not exist yet",
            )
        flags = open_flags("O_RDWR", "O_CREAT", "O_CLOEXEC", "O_NOFOLLOW")
        descriptor = os.open(folder / _LOCK, flags, 0o600)
    except FileExistsError:
        raise InvalidOption(f"{folder} is a file, and a registry is kept in a folder") from None
    except OSError as error:
        raise find_machine_error(error) or InvalidOption(
            f"the registry in {folder} cannot be created or opened: {error.strerror}",
            hint="choose a folder that you can write to",
        ) from error
    if not try_lock(descriptor):
        os.close(descriptor)
        raise FolderInUse(f"another pusher serve has the registry in {folder} open")
    return descriptor


def _open_catalog(folder: Path) -> Catalog:
    path = folder / _CATALOG
    try:
        catalog = Catalog(path)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise DiskFull(
                f"no space left on the disk of {path}",
                hint="free some space there, then run the command again",
            ) from error
        raise InvalidOption(
            f"{path} cannot be read: {error}",
            hint="it is damaged or something else; name another folder",
        ) from error
    if catalog.version != VERSION:
        catalog.close()
        raise InvalidOption(
            f"the registry in {folder} was made by a newer pusher", hint="use that pusher, or another folder"
        )
    return catalog
