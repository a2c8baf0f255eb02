"""Store the facts learned about registries."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from pusher.store.connection import ResultRow, time_if_set
from pusher.store.engine import Database
from pusher.store.records import RegistryFacts
from pusher.store.writes import upsert

_STOPGAPS: Final = ("monolithic", "chunked")
"""Profiles of pusher.registry that are learned from refusals."""


class Facts:
    """One set of facts a registry, shared by all workers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, registry: str) -> RegistryFacts:
        """Return the facts; all None for a registry that was never used."""
        with self._database.read() as connection:
            row = connection.row("SELECT * FROM registries WHERE host = :host", host=registry)
        return RegistryFacts(registry) if row is None else _facts(row)

    def all(self) -> list[RegistryFacts]:
        """Return the facts of every registry, by name."""
        with self._database.read() as connection:
            return [_facts(row) for row in connection.rows("SELECT * FROM registries ORDER BY host")]

    def recent_rates(self, since: datetime) -> list[tuple[str, float]]:
        """Return registries with a known rate that were used since then, and their bytes a second, the one
        used last first."""
        with self._database.read() as connection:
            rows = connection.rows(
                # coalesce: with a plain comparison SQLite sorts all uploads of the host
                """SELECT host, link_rate,
                (SELECT used_at FROM uploads WHERE coalesce(uploads.host, '') = registries.host
                AND used_at >= :since ORDER BY used_at DESC LIMIT 1) AS used
                FROM registries WHERE link_rate IS NOT NULL""",
                since=since,
            )
            used = [(time_if_set(row["used"]), row["host"], row["link_rate"]) for row in rows]
        recent = sorted(((at, host, rate) for at, host, rate in used if at), reverse=True)
        return [(host, rate) for _, host, rate in recent]

    def update(self, registry: str, **changes: int | float | str | None) -> RegistryFacts:
        """Set some facts (fields of RegistryFacts), keep the others; return all of them.

        The time at which a limit or a way of sending was learned is stored with it.
        """
        values: dict[str, Any] = dict(changes)
        if "max_chunk" in changes or "profile" in changes:
            values["limited_at"] = self._database.now()
        with self._database.write() as connection:
            upsert(connection, "registries", ("host",), {"host": registry, **values})
        return self.get(registry)

    def forget_limits(self, registry: str) -> None:
        """Forget limits learned from refusals, but not the estimate of the link."""
        with self._database.write() as connection:
            connection.execute("UPDATE registries SET max_chunk = NULL WHERE host = :host", host=registry)
            connection.execute(
                "UPDATE registries SET profile = NULL WHERE host = :host AND profile IN :stopgaps",
                host=registry,
                stopgaps=_STOPGAPS,
            )

    def forget(self, registry: str) -> bool:
        """Forget all facts about the registry; return whether there were any."""
        with self._database.write() as connection:
            return connection.execute("DELETE FROM registries WHERE host = :host", host=registry) > 0


def _facts(row: ResultRow) -> RegistryFacts:
    return RegistryFacts(
        row["host"],
        row["max_chunk"],
        row["uplink"],
        row["profile"],
        row["carries"],
        row["breaks"],
        time_if_set(row["limited_at"]),
        row["link_rate"],
        row["gzip_level"],
    )
