"""Write progress as plain lines, for logs and pipes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from pusher.oci.digest import short
from pusher.progress.counters import Counters, Event, Preparing, Snapshot
from pusher.progress.format import human_left, human_wait, local_time, percent
from pusher.text import printable
from pusher.units import human_bytes, human_share

SUMMARY_EVERY: Final = 10.0
"""Seconds between two summary lines, at least."""
_REPEATED_AFTER: Final = 60.0
"""Seconds after which a reason to wait is reported again: in an outage all blobs and jobs have the same. Also
those after which an unchanged summary is."""
_MIN_PAUSE: Final = 1.0
"""Seconds of waiting that are reported; shorter pauses are over before they are read."""


class Lines:
    """Writes starts and ends at once, and a summary line at intervals during transfers.

    ``several``: the run may be for several jobs: lines name theirs, and have a time.
    """

    def __init__(
        self,
        counters: Counters,
        stream: TextIO,
        *,
        single: bool = False,
        several: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._counters = counters
        self._stream = stream
        self._single = single
        self._several = several
        self._adds_times = several and not has_times(stream)
        self._wall = wall
        self._clock = clock
        self._summed_at = clock()
        self._summary = ("", 0.0)  # the last one, and when it was written
        self._reasons: dict[object, float] = {}  # when each was reported

    def render(self) -> None:
        """Write the new events; called several times per second."""
        snapshot = self._counters.snapshot()
        for event in self._counters.drain():
            line = describe(event, snapshot, single=self._single, each_blob=True)
            if line is not None and not self._was_reported(event):
                self._write(f"{self._name_job(event, snapshot)}{line}")
        now = self._clock()
        if now - self._summed_at >= SUMMARY_EVERY:
            self._summed_at = now
            if snapshot.active or snapshot.preparing:
                self._write_summary(summary(snapshot), now)
        self._stream.flush()

    def _write_summary(self, line: str, now: float) -> None:
        """Write it, less often while it is always the same, as in an outage of an hour."""
        last, written_at = self._summary
        if line != last or now - written_at >= _REPEATED_AFTER:
            self._summary = (line, now)
            self._write(line)

    def _write(self, line: str) -> None:
        time = f"{local_time(self._wall())}  " if self._adds_times else ""
        self._stream.write(f"{time}{line}\n")

    def _name_job(self, event: Event, snapshot: Snapshot) -> str:
        """Return ``Job 3: `` for a line about a blob of it; of one job alone all lines are about it."""
        if not self._several or event.kind.startswith("job-"):
            return ""
        job_id = event.fields.get("job")
        if job_id is None and event.kind == "waiting":
            blobs = (blob for blob in snapshot.blobs if short(blob.digest) == event.fields["what"])
            job_id = next((blob.job_id for blob in blobs), None)
        return "" if job_id is None else f"Job {job_id}: "

    def _was_reported(self, event: Event) -> bool:
        """Return whether it is a wait whose reason was reported recently."""
        if event.kind != "waiting":
            return False
        now, reason = self._clock(), event.fields["reason"]
        before = self._reasons.get(reason)
        if before is not None and now - before < _REPEATED_AFTER:
            return True
        self._reasons[reason] = now
        return False

    def close(self) -> None:
        """Write the last events of the run."""
        self.render()


def has_times(stream: TextIO) -> bool:
    """Return whether what reads the stream adds times: the log of a worker, or systemd's journal."""
    if getattr(stream, "adds_times", False):
        return True
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"  # systemd.exec(5)


def describe(event: Event, snapshot: Snapshot, *, single: bool, each_blob: bool) -> str | None:
    """Return the line for an event, safe for a terminal, or None if it has none.

    ``single``: the run is for one job, and its caller reports how it ended. ``each_blob``: blobs have lines.
    """
    if event.kind == "log":
        return str(event.fields["line"])  # made fit where it was written; it may be a traceback
    line = _describe_event(event, snapshot, single=single, each_blob=each_blob)
    return None if line is None else printable(line)


def _describe_event(event: Event, snapshot: Snapshot, *, single: bool, each_blob: bool) -> str | None:
    f: dict[str, Any] = event.fields
    match event.kind:
        case "job-started" if not f["again"]:
            return f"Job {f['job']}: {arrow(f['image'], f['destination'])}"
        case "job-ended" if single and f["state"] in ("succeeded", "failed", "queued"):
            return None
        case "job-ended" if single and f["state"] == "waiting" and not f["resumes"]:
            return None
        case "job-ended" if any(wait.what == f"job {f['job']}" for wait in snapshot.waiting):
            return None  # its waiting is shown instead
        case "job-ended":
            return (
                f"Job {f['job']} {f['state']}: {f['message']}"
                if f["message"]
                else f"Job {f['job']} {f['state']}"
            )
        case "note":
            return f"{f['message']}"
        case "waiting" if each_blob and f["seconds"] >= _MIN_PAUSE:
            pause = human_wait(f["seconds"], datetime.fromisoformat(f["until"]))
            return f"{f['what']}: waiting {pause}: {f['reason']}"
        case "layer-preparing" if each_blob:
            size = f" {human_bytes(f['size'])}" if f["size"] is not None else ""
            return f"{short(f['diff_id'])}: {f['doing']}{size}"
        case "layer-prepared" if each_blob:
            how = "compressed to" if f["how"] == "compressed" else f["how"]
            return f"{short(f['diff_id'])}: {how} {human_bytes(f['size'])}, blob {short(f['digest'])}"
        case "blob-started" if each_blob:
            if f["digest"] is None:
                begun = f"resuming at {human_bytes(f['offset'])}" if f["offset"] else "sending"
                return f"{short(f['diff_id'])}: {begun} while it is being compressed"
            if f["offset"]:
                return f"{short(f['digest'])}: resuming at {human_share(f['offset'], f['size'])}"
            return f"{short(f['digest'])}: sending {human_bytes(f['size'])}"
        case "blob-done" if each_blob:
            how = {"exists": "already exists", "mounted": "mounted from another repository"}.get(
                f["how"], f["how"]
            )
            return f"{short(f['digest'])}: {how}, {human_bytes(f['size'])}"
    return None


def arrow(image: str, destination: str) -> str:
    """Return ``image -> destination``, or one of them if they are the same."""
    return image if image == destination else f"{image} -> {destination}"


def _share_of(layers: list[Preparing]) -> str:
    """Return how much of the layers is read, where their sizes are known."""
    total = sum(layer.total or 0 for layer in layers)
    if not total or any(layer.total is None for layer in layers):
        return ""
    return f" ({human_share(sum(layer.done for layer in layers), total)})"


def summary(snapshot: Snapshot) -> str:
    """Return a line like ``1.2 / 3.4 GiB (35%), 5.1 MiB/s, 7m12s left, sending 2 blobs``."""
    parts = []
    if snapshot.total:
        known = snapshot.is_total_known  # else there is no share
        is_done = snapshot.done >= snapshot.total
        share = f" ({percent(snapshot.sent, snapshot.total, is_done=is_done)}%)" if known else "+"
        parts.append(human_share(snapshot.sent, snapshot.total) + share)
    if snapshot.speed is not None and snapshot.active:
        parts.append(f"{human_bytes(snapshot.speed)}/s")
    if snapshot.eta is not None and snapshot.active and not snapshot.preparing:
        parts.append(f"{human_left(snapshot.eta)} left")
    if count := len(snapshot.active):
        parts.append(f"sending {count} {'blob' if count == 1 else 'blobs'}")
    for doing in dict.fromkeys(layer.doing for layer in snapshot.preparing):
        layers = [layer for layer in snapshot.preparing if layer.doing == doing]
        parts.append(f"{doing} {len(layers)} {'layer' if len(layers) == 1 else 'layers'}{_share_of(layers)}")
    return ", ".join(parts)
