"""Follow the settings of the queue: those that ``pusher limit`` and ``pusher parallel`` store."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pusher.config import Settings, Timetable
from pusher.config.settings import BY_NAME
from pusher.errors import InvalidOption, PusherError
from pusher.store.queue_settings import LIMIT_RATE, PARALLEL, QueueSetting
from pusher.store.store import Store
from pusher.worker.rate import RateLimiter


class QueueLimits:
    """What the queue's settings and a worker's own say together. Thread-safe."""

    def __init__(self, settings: Settings, note: Callable[[str], None]) -> None:
        self._own = settings
        self._note = note
        self._texts: dict[str, str | None] = {LIMIT_RATE: None, PARALLEL: None}
        self.rate: Timetable | None = None
        """For all workers together; a worker's own limit holds as well."""
        self.limiter = RateLimiter(settings.limit_rate, note, queue=lambda: self.rate)
        self.parallel = settings.parallel
        """Uploads at a time: as the queue says, or else as this run was started."""

    def read(self, store: Store) -> bool:
        """Read the queue's settings; return whether the number of uploads changed. Raises StoreError."""
        found = store.settings.all()
        before = self.parallel
        if self._is_new(LIMIT_RATE, found):
            self.rate = self._parse(LIMIT_RATE, found)
        if self._is_new(PARALLEL, found):
            given = self._parse(PARALLEL, found)
            self.parallel = self._own.parallel if given is None else given
            if self.parallel != before:
                why = "pusher parallel" if given else "as this run was started"
                self._note(f"uploads at a time: {self.parallel} ({why})")
        return self.parallel != before

    def _is_new(self, name: str, found: Mapping[str, QueueSetting]) -> bool:
        text = found[name].value if name in found else None
        before, self._texts[name] = self._texts[name], text
        return text != before

    def _parse(self, name: str, found: Mapping[str, QueueSetting]) -> Any:
        """Return the value of a setting; None without one, or if another version of pusher stored it."""
        if name not in found:
            return None
        try:
            return BY_NAME[name].convert(found[name].value, f"{name} of the queue")
        except InvalidOption as error:
            self._note(f"{error.message}; it has no effect here")
            return None

    @contextlib.contextmanager
    def follow(self, store: Store, change: Callable[[], None]) -> Iterator[None]:
        """Read the settings every second until the context ends; call ``change`` when the number of uploads
        changed. While the store is away the last ones hold."""
        done = threading.Event()

        def follow() -> None:
            while not done.wait(self._own.retry.queue_limits):
                with contextlib.suppress(PusherError):
                    if self.read(store):
                        change()

        thread = threading.Thread(target=follow, name="queue-limits", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
