"""What the fake registry holds: blobs, manifests and upload sessions. Bytes lie in files, never in memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tests.support.fakeregistry.wire import BLOCK


@dataclass(frozen=True)
class Blob:
    """A stored blob. ``link`` is set where it was mounted: the object that some registries keep instead."""

    digest: str
    size: int
    path: Path
    link: bytes | None = None

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            return file.read(self.size)


@dataclass
class UploadSession:
    """An upload session. ``size`` is what a status request reports; change it under ``lock`` only."""

    uuid: str
    repository: str
    path: Path
    size: int = 0
    parts: list[int] = field(default_factory=list)
    """Sizes of the accepted chunks, for registries that keep whole parts."""
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    """The state hash of registries that have one; new after every change."""
    dead: bool = False
    """A close failed for good: no later request can revive the session."""
    started_at: float = field(default_factory=time.time)
    lock: threading.RLock = field(default_factory=threading.RLock)

    @contextlib.contextmanager
    def writer(self, offset: int) -> Iterator[BinaryIO]:
        """The session's file, to be written from ``offset`` on; what is written is seen at once."""
        with self.path.open("r+b", buffering=0) as file:
            file.seek(offset)
            yield file

    def digest(self) -> str:
        """sha256 of the first ``size`` bytes; what a broken chunk left behind them does not count."""
        return file_digest(self.path, self.size)


class Store:
    """Everything a registry keeps over a restart, and the lock that guards it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.lock = threading.RLock()
        self.blobs: defaultdict[str, dict[str, Blob]] = defaultdict(dict)
        self.manifests: defaultdict[str, dict[str, tuple[str, bytes]]] = defaultdict(dict)
        self.sessions: dict[str, UploadSession] = {}
        self.secret = secrets.token_bytes(32)
        """Signs the states of distribution's locations."""

    def scratch(self) -> Path:
        """A new empty file."""
        path = self._folder / uuid.uuid4().hex
        path.touch()
        return path

    def open_session(self, repository: str, session_id: str) -> UploadSession:
        session = UploadSession(session_id, repository, self.scratch())
        with self.lock:
            self.sessions[session.uuid] = session
        return session

    def session(self, repository: str, session_id: str) -> UploadSession | None:
        with self.lock:
            found = self.sessions.get(session_id)
        return found if found is not None and found.repository == repository else None

    def forget_session(self, session_id: str) -> None:
        with self.lock:
            self.sessions.pop(session_id, None)

    def blob(self, repository: str, digest: str) -> Blob | None:
        with self.lock:
            return self.blobs[repository].get(digest)

    def keep(self, repository: str, digest: str, path: Path, size: int) -> None:
        """Make a blob of a file that was verified; the file now belongs to the store."""
        os.truncate(path, size)
        with self.lock:
            self.blobs[repository][digest] = Blob(digest, size, path)

    def mount(self, source: str, repository: str, digest: str) -> bool:
        """Link a blob of another repository; whether it is there."""
        with self.lock:
            blob = self.blobs[source].get(digest)
            if blob is None:
                return False
            link = f"{source}:{digest}".ljust(82)[:82].encode()
            self.blobs[repository].setdefault(digest, Blob(digest, blob.size, blob.path, link))
            return True

    def put_manifest(self, repository: str, references: set[str], media_type: str, raw: bytes) -> None:
        with self.lock:
            for reference in references:
                self.manifests[repository][reference] = (media_type, raw)

    def manifest(self, repository: str, reference: str) -> tuple[str, bytes] | None:
        with self.lock:
            return self.manifests.get(repository, {}).get(reference)


def file_digest(path: Path, size: int) -> str:
    """sha256 of the first ``size`` bytes of a file."""
    checksum = hashlib.sha256()
    left = size
    with path.open("rb") as file:
        while left and (block := file.read(min(left, 16 * BLOCK))):
            checksum.update(block)
            left -= len(block)
    return "sha256:" + checksum.hexdigest()
