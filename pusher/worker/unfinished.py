"""Send a layer's blob while the layer is still being compressed.

Two threads work on it: one compresses, another one sends what is in the spool already. Once the blob is
complete its digest is known, and the second thread continues as for any other blob.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Final

from pusher.dataclass import dataclass
from pusher.oci.digest import provisional_digest
from pusher.registry.http.body import BlobFile
from pusher.registry.upload.session import Session
from pusher.spool.arrival import LayerArrival
from pusher.spool.compress import Compression
from pusher.store.records import UploadRecord

_BLOCK: Final = 1024 * 1024
_SURELY_LARGE: Final = 5
"""How many times a layer is as large as its blob, at most as a rule: real files shrink to a third."""
_CAUTION: Final = 0.7
"""What is left of a layer becomes at least this part of what its beginning lets expect."""
_END_SECONDS: Final = 10.0
"""Most seconds between the end of a compressor's file and the report of how it ended."""


class UnfinishedBlob:
    """The blob of a layer that is being compressed. Thread-safe."""

    def __init__(self, diff_id: str, size: int, how: Compression) -> None:
        """Prepare for a layer of ``size`` uncompressed bytes."""
        self.diff_id = diff_id
        self.compression = str(how)
        self.arrival = LayerArrival()
        self.blob = BlobFile(
            provisional_digest(diff_id), _limit(size), Path(), arrival=self.arrival, is_unfinished=True
        )
        self.complete: BlobFile | None = None
        """The complete blob, if the thread that sent parts of it is to send the rest."""
        self.is_damaged = False
        """What was compressed is not the layer, so that what was sent of it is worthless."""
        self.is_needless = False
        """The registry turned out to have it, so that no more of it is to be sent."""
        self._lock = threading.Lock()
        self._ended = False
        self._end = threading.Event()
        self._sends = False
        self._conditions: list[Callable[[BlobFile], bool]] = []

    def on_complete(self, condition: Callable[[BlobFile], bool]) -> None:
        """Have ``finish`` call ``condition`` with the complete blob; if it returns False, sending ends."""
        with self._lock:
            self._conditions.append(condition)

    def begin(self) -> bool:
        """Return whether to send parts of it: not if it is complete already, or failed."""
        with self._lock:
            self._sends = not self._ended
            return self._sends

    @property
    def is_being_sent(self) -> bool:
        """Return whether parts of it are still being sent as those of an unfinished blob."""
        with self._lock:
            return self._sends

    def stop_sending(self) -> None:
        """Record that no more parts of it are sent."""
        with self._lock:
            self._sends = False

    def finish(self, blob: BlobFile) -> bool:
        """Record that it is complete; return whether the thread that sent parts of it sends the rest."""
        with self._lock:
            self._ended = True
            if self._sends and all(condition(blob) for condition in self._conditions):
                self.complete = blob
        self._end.set()
        self.arrival.finish()
        return self.complete is not None

    def fail(self, *, damaged: bool) -> None:
        """Record that it will not be complete; ``damaged``: see ``is_damaged``."""
        with self._lock:
            self._ended = True
            self.is_damaged = damaged
        self._end.set()
        self.arrival.fail()

    def wait_for_end(self) -> None:
        """Wait until it is known how it ended: its file is removed a moment before."""
        self._end.wait(_END_SECONDS)

    def begins_like(self, upload: UploadRecord, session: Session, check_stop: Callable[[], None]) -> bool:
        """Return whether it begins with the bytes that an earlier session got; wait until that is known."""
        if upload.prefix_size is None or upload.prefix_sha256 is None:
            return is_untouched(session)
        self.arrival.wait(upload.prefix_size, check_stop)
        return self.arrival.prefix_digest(upload.prefix_size) == upload.prefix_sha256


@dataclass
class EarlyStart:
    """Starts to send a layer's blob as soon as it is clear that it will have at least ``least`` bytes.

    If it turns out smaller, the session that was opened for it is used all the same.
    """

    unfinished: UnfinishedBlob
    layer_size: int
    least: int
    send: Callable[[UnfinishedBlob], None]
    begun_at: float = field(default_factory=time.monotonic)
    _started: bool = False

    def start_if_surely_large(self) -> None:
        """Start before the layer is read if its size alone shows that: the session is opened meanwhile."""
        if self.layer_size >= _SURELY_LARGE * self.least:
            self._start()

    def start_if_large(self, done: int) -> None:
        """Start if the first ``done`` bytes of the layer show that; what they become may not be all written
        yet, so that too little is expected at first."""
        held = self.unfinished.arrival.held
        total = held * self.layer_size / done
        seconds_left = (time.monotonic() - self.begun_at) * (self.layer_size - done) / done
        self.unfinished.arrival.expect(held + _CAUTION * (total - held), seconds_left)
        if self._started or done == self.layer_size:
            return
        if _CAUTION * total >= self.least:
            self._start()

    def _start(self) -> None:
        self._started = True
        self.send(self.unfinished)


def is_prefix(blob: BlobFile, upload: UploadRecord, session: Session, check_stop: Callable[[], None]) -> bool:
    """Return whether a complete blob begins with the bytes that an unfinished one's session got."""
    if upload.prefix_size is None or upload.prefix_sha256 is None:
        return is_untouched(session)
    found, left = hashlib.sha256(), upload.prefix_size
    try:
        with blob.open() as file:
            while left and (data := file.read(min(_BLOCK, left))):
                found.update(data)
                left -= len(data)
                check_stop()
    except OSError:
        return False
    return left == 0 and found.hexdigest() == upload.prefix_sha256


def is_untouched(session: Session) -> bool:
    """Return whether nothing was sent in a session."""
    return session.offset == session.in_flight == 0


def _limit(size: int) -> int:
    """Return more bytes than any compressor makes of ``size``: blocks that do not shrink are stored."""
    return size + size // 64 + 1024 * 1024
