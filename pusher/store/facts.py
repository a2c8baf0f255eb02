"""What was learned about registries."""

from __future__ import annotations

from sqlalchemy import select

from pusher.store.engine import Database
from pusher.store.models import Registry
from pusher.store.records import RegistryFacts
from pusher.store.upsert import upsert


class Facts:
    """One set of facts a registry, shared by all workers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, registry: str) -> RegistryFacts:
        """The facts; all None for a registry that was never met."""
        with self._database.read() as connection:
            row = connection.execute(select(Registry).where(Registry.host == registry)).one_or_none()
        return (
            RegistryFacts(registry)
            if row is None
            else RegistryFacts(row.host, row.max_chunk, row.uplink, row.profile, row.carries)
        )

    def update(self, registry: str, **changes: int | float | str | None) -> RegistryFacts:
        """Set some facts (fields of RegistryFacts), keep the others; returns them all."""
        with self._database.write() as connection:
            upsert(connection, Registry, {"host": registry, **changes})
        return self.get(registry)
