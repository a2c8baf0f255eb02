"""Store what all workers divide among them: one JSON object a budget, changed in short transactions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from pusher.dataclass import dataclass
from pusher.store.connection import json_of
from pusher.store.engine import Database
from pusher.store.queue_settings import QueueSetting, read_settings
from pusher.store.writes import insert_if_missing

T = TypeVar("T")


@dataclass(frozen=True)
class BudgetState:
    """A budget before a change."""

    content: Mapping[str, Any]
    at: float
    """Seconds by the store's clock."""
    settings: Mapping[str, QueueSetting]
    """Those of the queue, which the budget may depend on."""


Change: TypeAlias = Callable[[BudgetState], tuple[Mapping[str, Any], T]]
"""Returns the new content, and a result."""


class Budgets:
    """The budgets of this job store. A new one is an empty object."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def change(self, name: str, change: Change[T]) -> T:
        """Change a budget, which no other worker changes meanwhile; return the result.

        ``change`` must not wait for anything: other workers wait for it.
        """
        with self._database.write() as connection:
            # before the lock, for which other workers wait
            settings = read_settings(connection, lambda: self._database.now(connection))
            select = "SELECT content FROM budgets WHERE name = :name FOR UPDATE"
            row = connection.row(select, name=name)
            if row is None:
                insert_if_missing(connection, "budgets", {"name": name, "content": "{}"})
                row = connection.row(select, name=name)
            content = {} if row is None else json_of(row["content"])
            now = self._database.now(connection)
            changed, result = change(BudgetState(content, now.timestamp(), settings))
            connection.execute(
                "UPDATE budgets SET content = :content WHERE name = :name",
                name=name,
                content=json.dumps(changed),
            )
        return result
