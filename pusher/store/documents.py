"""Store manifests, indexes and image configs by their digests."""

from __future__ import annotations

from sqlalchemy import select

from pusher.store.engine import Database
from pusher.store.models import DocumentRow
from pusher.store.upsert import upsert


class Documents:
    """The bytes of documents. Each is kept while a job refers to it, and for a while after that."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, digest: str) -> bytes | None:
        """Return the bytes of a document; None if they are not kept."""
        with self._database.read() as connection:
            return connection.scalar(select(DocumentRow.content).where(DocumentRow.digest == digest))

    def put(self, digest: str, content: bytes) -> None:
        """Keep the bytes of a document, which the caller has verified against ``digest``."""
        with self._database.write() as connection:
            values = {"digest": digest, "content": content, "used_at": self._database.now()}
            upsert(connection, DocumentRow, values)
