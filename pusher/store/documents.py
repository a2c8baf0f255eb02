"""Store manifests, indexes and image configs by their digests."""

from __future__ import annotations

from pusher.store.engine import Database
from pusher.store.writes import upsert


class Documents:
    """The bytes of documents. Each is kept while a job refers to it, and for a while after that."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, digest: str) -> bytes | None:
        """Return the bytes of a document; None if they are not kept."""
        with self._database.read() as connection:
            content: bytes | None = connection.value(
                "SELECT content FROM documents WHERE digest = :digest", digest=digest
            )
            return content

    def put(self, digest: str, content: bytes) -> None:
        """Keep the bytes of a document, which the caller has verified against ``digest``."""
        with self._database.write() as connection:
            values = {"digest": digest, "content": content, "used_at": self._database.now()}
            upsert(connection, "documents", ("digest",), values)
