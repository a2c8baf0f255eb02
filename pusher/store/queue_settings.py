"""Store the settings that running workers follow at once: ``pusher limit`` and ``pusher parallel``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from pusher.dataclass import dataclass
from pusher.store.connection import Connection, time_if_set
from pusher.store.engine import Database
from pusher.store.writes import upsert

LIMIT_RATE: Final = "limit_rate"
PARALLEL: Final = "parallel"


@dataclass(frozen=True)
class QueueSetting:
    """A setting of the queue, as text that the setting of the same name in ``config`` can be read from."""

    value: str
    until: datetime | None = None
    """When it ends; None: not by itself."""


class QueueSettings:
    """Settings for all workers of this job store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> Mapping[str, QueueSetting]:
        """Return the settings that are in force, by name."""
        with self._database.read() as connection:
            return read_settings(connection, lambda: self._database.now(connection))

    def set(self, name: str, value: str, seconds: float | None = None) -> QueueSetting:
        """Set ``name`` for so many seconds, or until it is changed; return it."""
        until = None if seconds is None else self._database.now() + timedelta(seconds=seconds)
        with self._database.write() as connection:
            upsert(connection, "queue_settings", ("name",), {"name": name, "value": value, "until": until})
        return QueueSetting(value, until)

    def clear(self, name: str) -> bool:
        """Remove a setting; return whether it was set."""
        with self._database.write() as connection:
            return connection.execute("DELETE FROM queue_settings WHERE name = :name", name=name) > 0


def read_settings(connection: Connection, now: Callable[[], datetime]) -> Mapping[str, QueueSetting]:
    """Return the settings that are in force; ``now`` is called only if one of them ends by itself."""
    rows = connection.rows("SELECT name, value, until FROM queue_settings")
    found = {row["name"]: QueueSetting(row["value"], time_if_set(row["until"])) for row in rows}
    if not any(setting.until for setting in found.values()):
        return found
    time = now()
    return {name: each for name, each in found.items() if each.until is None or each.until > time}
