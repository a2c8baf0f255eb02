"""Write JSON lines, for programs: every event, and a ``progress`` object once a second during transfers.

Fields may be added, never renamed. Bytes are integers, times RFC 3339 in UTC.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TextIO

from pusher.progress.counters import Counters, Snapshot, blob_fields
from pusher.progress.format import rfc3339
from pusher.text import as_json

_EVERY: Final = 1.0


class JsonLines:
    """Writes one object per line, each with ``type`` and ``at``."""

    def __init__(
        self,
        counters: Counters,
        stream: TextIO,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._counters = counters
        self._stream = stream
        self._clock = clock
        self._wall = wall
        self._summed_at = clock()

    def render(self) -> None:
        """Write the new events."""
        for event in self._counters.drain():
            self._write(event.kind, event.fields)
        now = self._clock()
        if now - self._summed_at >= _EVERY:
            self._summed_at = now
            snapshot = self._counters.snapshot()
            if snapshot.active or snapshot.preparing or snapshot.waiting:
                self._write("progress", _fields(snapshot))
        self._stream.flush()

    def close(self) -> None:
        """Write the last events."""
        self.render()

    def _write(self, kind: str, fields: dict[str, object]) -> None:
        self._stream.write(as_json({"type": kind, "at": rfc3339(self._wall()), **fields}) + "\n")


def _fields(snapshot: Snapshot) -> dict[str, object]:
    return {
        "bytes_total": snapshot.total,
        "bytes_done": snapshot.done,
        "bytes_per_second": None if snapshot.speed is None else round(snapshot.speed),
        "seconds_left": None if snapshot.eta is None else round(snapshot.eta),
        "blobs": [
            {
                "job": b.job_id,
                **blob_fields(b.digest),
                "size": b.size,
                "offset": b.offset,
                "in_flight": b.in_flight,
            }
            for b in snapshot.active
        ],
        "preparing": [
            {"job": p.job_id, "diff_id": p.diff_id, "done": p.done, "total": p.total}
            for p in snapshot.preparing
        ],
        "waiting": [
            {
                "what": w.what,
                "seconds": round(w.seconds, 1),
                "until": rfc3339(w.until),
                "reason": w.reason,
            }
            for w in snapshot.waiting
        ],
    }
