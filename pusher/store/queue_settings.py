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
OFF: Final = "off"
"""The value of a setting that is off for a time, and has another one after that."""


@dataclass(frozen=True)
class QueueSetting:
    """A setting of the queue, as text that the setting of the same name in ``config`` can be read from."""

    value: str
    until: datetime | None = None
    """When it ends; None: not by itself."""
    then: str | None = None
    """The value after that; None: it is off."""


class QueueSettings:
    """Settings for all workers of this job store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> Mapping[str, QueueSetting]:
        """Return the settings that are in force, by name."""
        with self._database.read() as connection:
            return read_settings(connection, lambda: self._database.now(connection))

    def set(self, name: str, value: str, seconds: float | None = None) -> QueueSetting:
        """Set ``name`` until it is changed; or for so many seconds, after which it has the value that it was
        set to without a time. Return the setting."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            before = read_settings(connection, lambda: now).get(name)
            until, then = None, None
            if seconds is not None:
                until = now + timedelta(seconds=seconds)
                if before is not None:
                    then = before.value if before.until is None else before.then
            values = {"name": name, "value": value, "until": until, "next_value": then}
            upsert(connection, "queue_settings", ("name",), values)
        return QueueSetting(value, until, then)

    def clear(self, name: str) -> bool:
        """Remove a setting; return whether it was set."""
        with self._database.write() as connection:
            return connection.execute("DELETE FROM queue_settings WHERE name = :name", name=name) > 0


def read_settings(connection: Connection, now: Callable[[], datetime]) -> Mapping[str, QueueSetting]:
    """Return the settings that are in force; ``now`` is called only if one of them ends by itself."""
    rows = connection.rows("SELECT name, value, until, next_value FROM queue_settings")
    found = {
        row["name"]: QueueSetting(row["value"], time_if_set(row["until"]), row["next_value"]) for row in rows
    }
    if not any(setting.until for setting in found.values()):
        return found
    time = now()
    for name, setting in list(found.items()):
        if setting.until is not None and setting.until <= time:
            del found[name]
            if setting.then is not None:
                found[name] = QueueSetting(setting.then)
    return found
