"""Store the known blobs of layers, so that no layer is compressed twice."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, select

from pusher.oci.layer_blob import LayerBlob
from pusher.store.engine import Database
from pusher.store.models import KnownBlobRow
from pusher.store.upsert import upsert


class KnownBlobs:
    """Blobs of layers by diff ID, all of them made or verified here."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self, diff_id: str) -> LayerBlob | None:
        """Return the blob of a layer that was stored last."""
        return next(iter(self.of_layers([diff_id])[diff_id]), None)

    def of_layers(self, diff_ids: Collection[str]) -> dict[str, list[LayerBlob]]:
        """Return the blobs of each layer, the newest first."""
        found: dict[str, list[LayerBlob]] = {diff_id: [] for diff_id in diff_ids}
        query = (
            select(KnownBlobRow)
            .where(KnownBlobRow.diff_id.in_(set(diff_ids)))
            .order_by(KnownBlobRow.created_at.desc(), KnownBlobRow.digest)
        )
        with self._database.read() as connection:
            for row in connection.execute(query):
                found[row.diff_id].append(_blob(row))
        return found

    def remember(self, blob: LayerBlob) -> None:
        """Store the blob of a layer, replacing an entry with the same diff ID and digest."""
        values = {**vars(blob), "created_at": self._database.now()}
        with self._database.write() as connection:
            upsert(connection, KnownBlobRow, values)


def _blob(row: Row[Any]) -> LayerBlob:
    return LayerBlob(
        row.digest, row.size, row.compression, row.media_type, row.diff_id, row.uncompressed_size
    )
