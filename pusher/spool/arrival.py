"""Read a blob while it is still being downloaded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from pusher.errors import Stopped

_LOOK_EVERY: Final = 0.1
"""Seconds between checks whether to stop."""


class ArrivalFailed(Stopped):
    """The rest of the blob will not arrive; the error of the download says why."""


class BlobArrival:
    """How much of a blob of ``size`` bytes is on disk: the download records it, the upload waits for it.

    Bytes may be sent before they are verified, except the last ones.
    """

    def __init__(self, size: int, partial: Path, whole: Path) -> None:
        self._size = size
        self._places = (partial, whole)
        self._changed = threading.Condition()
        self._held = 0
        self._whole: bool | None = None

    def set_held(self, count: int) -> None:
        """Record that the first ``count`` bytes can be read."""
        with self._changed:
            self._held = count
            self._changed.notify_all()

    def finish(self, *, whole: bool) -> None:
        """Record that the blob is complete and verified, or failed; only the first call counts."""
        with self._changed:
            if self._whole is None:
                self._whole = whole
            self._changed.notify_all()

    def wait(self, end: int, check_stop: Callable[[], None]) -> None:
        """Return once the first ``finish`` bytes can be read; all of them only after they are verified.

        ``check_stop`` may raise to leave. Raises ArrivalFailed.
        """
        with self._changed:
            while not self._whole and (end >= self._size or end > self._held):
                if self._whole is False:
                    raise ArrivalFailed
                self._changed.wait(_LOOK_EVERY)
                check_stop()

    def open(self) -> BinaryIO:
        """Open the file, which is renamed once it is complete."""
        for place in (*self._places, *self._places):  # renamed between two tries, it is found in the second
            with suppress(FileNotFoundError):
                return place.open("rb")
        return self._places[1].open("rb")
