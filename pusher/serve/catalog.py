"""Record in SQLite the blobs, manifests, tags and uploads of each repository of a local registry.

It stores manifests whole; blobs are files beside it. A change is durable when its call returns.
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pusher.dataclass import dataclass
from pusher.serve.manifests import PushedManifest

VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE blobs (
    repository TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX blobs_by_digest ON blobs (digest);
CREATE TABLE manifests (
    repository TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL, subject TEXT,
    descriptor TEXT NOT NULL, content BLOB NOT NULL, PRIMARY KEY (repository, digest)
);
CREATE INDEX manifests_by_subject ON manifests (repository, subject);
CREATE TABLE tags (
    repository TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (repository, name)
) WITHOUT ROWID;
CREATE INDEX tags_by_digest ON tags (repository, digest);
CREATE TABLE uploads (
    id TEXT PRIMARY KEY, repository TEXT NOT NULL, algorithm TEXT NOT NULL, opened REAL NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class StoredManifest:
    """A manifest of a repository, byte for byte as it was pushed."""

    digest: str
    media_type: str
    content: bytes


@dataclass(frozen=True)
class TaggedManifest:
    """A tag, and the manifest that it points to."""

    tag: str
    digest: str
    media_type: str
    content: bytes | None


@dataclass(frozen=True)
class SessionRow:
    """An upload session: ``opened`` in seconds since the epoch."""

    id: str
    repository: str
    algorithm: str
    opened: float


class Catalog:
    """The tables; every method may be called from any thread. Raises sqlite3.Error, OSError."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        path.touch(mode=0o600)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self.version = self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> int:
        """Create the tables in a new file; return the version of the schema."""
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        with self.transaction() as connection:
            version: int = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {VERSION}")
        return version or VERSION

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run one atomic change; other threads neither read nor write meanwhile."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have ended it
                    self._connection.execute("ROLLBACK")
                raise

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    # --- repositories and blobs ---------------------------------------------------------------------------

    def has_repository(self, repository: str) -> bool:
        """Return whether the repository has content."""
        query = (
            "SELECT EXISTS(SELECT 1 FROM manifests WHERE repository = ?1)"
            " OR EXISTS(SELECT 1 FROM blobs WHERE repository = ?1)"
        )
        return bool(self._rows(query, repository)[0][0])

    def repositories(self, last: str, limit: int, text: str = "") -> list[str]:
        """Return the names after ``last`` that contain ``text``, in order, at most ``limit``."""
        query = (
            "SELECT repository FROM manifests WHERE repository > ?1 AND instr(repository, ?3)"
            " UNION SELECT repository FROM blobs WHERE repository > ?1 AND instr(repository, ?3)"
            " ORDER BY repository LIMIT ?2"
        )
        return [name for (name,) in self._rows(query, last, limit, text)]

    def has_blob(self, digest: str, repository: str | None = None) -> bool:
        """Return whether the repository (None: any) has the blob."""
        if repository is None:
            return bool(self._rows("SELECT 1 FROM blobs WHERE digest = ? LIMIT 1", digest))
        return bool(self._rows("SELECT 1 FROM blobs WHERE repository = ? AND digest = ?", repository, digest))

    def add_blob(self, repository: str, digest: str) -> None:
        """Record that the repository has the blob; its file exists."""
        with self.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?)", (repository, digest))

    def remove_blob(self, repository: str, digest: str) -> bool:
        """Remove the repository's blob. Return whether it was there."""
        with self.transaction() as connection:
            query = "DELETE FROM blobs WHERE repository = ? AND digest = ?"
            return connection.execute(query, (repository, digest)).rowcount > 0

    def blobs(self, repository: str) -> list[str]:
        """Return the digests of a repository's blobs."""
        return [
            digest for (digest,) in self._rows("SELECT digest FROM blobs WHERE repository = ?", repository)
        ]

    def absent(self, repository: str, manifest: PushedManifest) -> list[str]:
        """Return the digests that a manifest names and its repository lacks."""
        return [digest for digest in manifest.blobs if not self.has_blob(digest, repository)] + [
            digest
            for digest in manifest.children
            if not self.has_manifest(repository, digest) and not self.has_blob(digest, repository)
        ]

    # --- manifests and tags -------------------------------------------------------------------------------

    def has_manifest(self, repository: str, digest: str) -> bool:
        """Return whether the repository has the manifest."""
        query = "SELECT 1 FROM manifests WHERE repository = ? AND digest = ?"
        return bool(self._rows(query, repository, digest))

    def manifest(self, repository: str, digest: str) -> StoredManifest | None:
        """Return the manifest; None if the repository lacks it."""
        query = "SELECT digest, media_type, content FROM manifests WHERE repository = ? AND digest = ?"
        rows = self._rows(query, repository, digest)
        return StoredManifest(*rows[0]) if rows else None

    def manifests(self, repository: str) -> list[str]:
        """Return the digests of a repository's manifests."""
        rows = self._rows("SELECT digest FROM manifests WHERE repository = ?", repository)
        return [digest for (digest,) in rows]

    def add_manifest(self, repository: str, manifest: PushedManifest, tags: Iterable[str]) -> None:
        """Store the manifest, and point the tags to it."""
        row = (
            repository,
            manifest.digest,
            manifest.media_type,
            manifest.subject,
            json.dumps(manifest.descriptor),
            manifest.raw,
        )
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO manifests VALUES (?, ?, ?, ?, ?, ?)", row)
            connection.executemany(
                "INSERT OR REPLACE INTO tags VALUES (?, ?, ?)",
                [(repository, tag, manifest.digest) for tag in tags],
            )

    def remove_manifest(self, repository: str, digest: str) -> bool:
        """Remove the manifest and its tags. Return whether it was there."""
        with self.transaction() as connection:
            for table in ("tags", "manifests"):
                query = f"DELETE FROM {table} WHERE repository = ? AND digest = ?"  # noqa: S608 - our words
                removed = connection.execute(query, (repository, digest)).rowcount
            return removed > 0

    def remove_manifests(self, repository: str) -> None:
        """Remove every manifest and tag of a repository."""
        with self.transaction() as connection:
            connection.execute("DELETE FROM tags WHERE repository = ?", (repository,))
            connection.execute("DELETE FROM manifests WHERE repository = ?", (repository,))

    def find_tag(self, repository: str, tag: str) -> str | None:
        """Return the digest that the tag points to; None if there is no such tag."""
        rows = self._rows("SELECT digest FROM tags WHERE repository = ? AND name = ?", repository, tag)
        return rows[0][0] if rows else None

    def remove_tag(self, repository: str, tag: str) -> bool:
        """Remove only the tag. Return whether it was there."""
        with self.transaction() as connection:
            query = "DELETE FROM tags WHERE repository = ? AND name = ?"
            return connection.execute(query, (repository, tag)).rowcount > 0

    def tags(self, repository: str, last: str, limit: int) -> list[str]:
        """Return the tags after ``last``, in the order of their bytes, at most ``limit``."""
        query = "SELECT name FROM tags WHERE repository = ? AND name > ? ORDER BY name LIMIT ?"
        return [name for (name,) in self._rows(query, repository, last, limit)]

    def count_tags(self, repository: str) -> int:
        """Return how many tags the repository has."""
        return int(self._rows("SELECT count(*) FROM tags WHERE repository = ?", repository)[0][0])

    def tagged(self, repository: str, last: str, limit: int, largest: int) -> list[TaggedManifest]:
        """Return the tags after ``last`` with their manifests, without the content of those of more than
        ``largest`` bytes."""
        query = (
            "SELECT name, digest, media_type, CASE WHEN length(content) <= ?4 THEN content END"
            " FROM tags JOIN manifests USING (repository, digest)"
            " WHERE repository = ?1 AND name > ?2 ORDER BY name LIMIT ?3"
        )
        return [TaggedManifest(*row) for row in self._rows(query, repository, last, limit, largest)]

    def referrers(self, repository: str, subject: str, last: str, limit: int) -> Sequence[str]:
        """Return the descriptors, as JSON, of the referrers of ``subject`` after the digest ``last``."""
        query = (
            "SELECT descriptor FROM manifests WHERE repository = ? AND subject = ? AND digest > ?"
            " ORDER BY digest LIMIT ?"
        )
        return [descriptor for (descriptor,) in self._rows(query, repository, subject, last, limit)]

    # --- uploads ------------------------------------------------------------------------------------------

    def add_upload(self, row: SessionRow) -> None:
        """Record a new upload session."""
        with self.transaction() as connection:
            values = (row.id, row.repository, row.algorithm, row.opened)
            connection.execute("INSERT INTO uploads VALUES (?, ?, ?, ?)", values)

    def upload(self, upload_id: str) -> SessionRow | None:
        """Return the session, or None."""
        rows = self._rows("SELECT id, repository, algorithm, opened FROM uploads WHERE id = ?", upload_id)
        return SessionRow(*rows[0]) if rows else None

    def uploads(self, opened_before: float | None = None) -> list[SessionRow]:
        """Return the sessions, or those opened before that moment (seconds since the epoch)."""
        limit = math.inf if opened_before is None else opened_before
        query = "SELECT id, repository, algorithm, opened FROM uploads WHERE opened < ?"
        return [SessionRow(*row) for row in self._rows(query, limit)]

    def remove_upload(self, upload_id: str) -> None:
        """Remove the session; no error if it does not exist."""
        with self.transaction() as connection:
            connection.execute("DELETE FROM uploads WHERE id = ?", (upload_id,))
