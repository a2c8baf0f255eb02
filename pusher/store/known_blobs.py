"""Store the known blobs of layers, so that no layer is compressed twice."""

from __future__ import annotations

from collections.abc import Collection

from pusher.oci.layer_blob import LayerBlob
from pusher.store.connection import ResultRow
from pusher.store.engine import Database
from pusher.store.writes import upsert


class KnownBlobs:
    """Blobs of layers by diff ID, all of them made or verified here."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_layers(self, diff_ids: Collection[str]) -> dict[str, list[LayerBlob]]:
        """Return the blobs of each layer, the newest first."""
        found: dict[str, list[LayerBlob]] = {diff_id: [] for diff_id in diff_ids}
        query = "SELECT * FROM known_blobs WHERE diff_id IN :diff_ids ORDER BY created_at DESC, digest"
        with self._database.read() as connection:
            for row in connection.rows(query, diff_ids=set(diff_ids)):
                found[row["diff_id"]].append(_blob(row))
        return found

    def remember(self, blob: LayerBlob) -> None:
        """Store the blob of a layer, replacing an entry with the same diff ID and digest."""
        values = {**vars(blob), "created_at": self._database.now()}
        with self._database.write() as connection:
            upsert(connection, "known_blobs", ("diff_id", "digest"), values)


def _blob(row: ResultRow) -> LayerBlob:
    return LayerBlob(
        row["digest"],
        row["size"],
        row["compression"],
        row["media_type"],
        row["diff_id"],
        row["uncompressed_size"],
    )
