"""What is known of blobs without looking at their bytes again."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, select

from pusher.store.engine import Database
from pusher.store.models import Memo
from pusher.store.records import BlobMemo
from pusher.store.upsert import upsert


class Memos:
    """Diff ID -> blobs it was compressed to."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, diff_id: str) -> BlobMemo | None:
        """The newest memo of a diff ID."""
        return next(iter(self.all_of([diff_id])[diff_id]), None)

    def all_of(self, diff_ids: Collection[str]) -> dict[str, list[BlobMemo]]:
        """For each diff ID its memos, the newest first."""
        found: dict[str, list[BlobMemo]] = {diff_id: [] for diff_id in diff_ids}
        query = (
            select(Memo).where(Memo.diff_id.in_(set(diff_ids))).order_by(Memo.created_at.desc(), Memo.digest)
        )
        with self._database.read() as connection:
            for row in connection.execute(query):
                found[row.diff_id].append(_memo(row))
        return found

    def put(self, memo: BlobMemo) -> None:
        """Remember a memo; one of the same diff ID and digest is replaced."""
        values = {
            "diff_id": memo.diff_id,
            "digest": memo.digest,
            "compression": memo.compression,
            "size": memo.size,
            "uncompressed_size": memo.uncompressed_size,
            "media_type": memo.media_type,
            "created_at": self._database.now(),
        }
        with self._database.write() as connection:
            upsert(connection, Memo, values)


def _memo(row: Row[Any]) -> BlobMemo:
    return BlobMemo(row.diff_id, row.compression, row.digest, row.size, row.uncompressed_size, row.media_type)
