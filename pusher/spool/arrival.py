"""Read a blob while it is still being downloaded or compressed."""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from pusher.errors import Stopped

if TYPE_CHECKING:
    from hashlib import _Hash

_LOOK_EVERY: Final = 0.1
"""Seconds between checks whether to stop."""
_RESERVE: Final = 2
"""Bytes that must follow what is sent of a blob of unknown size: a last chunk of none, or of one byte, is
refused (see ``registry/upload/chunk_sizes.py``)."""
_BLOCK: Final = 1024 * 1024
_BATCH: Final = 8 * 1024 * 1024
_BATCH_WAIT: Final = 0.05
"""Seconds to wait for ``_BATCH`` bytes once some are there; what the system has yet to send lasts longer."""
_STARVED: Final = 20.0
"""Seconds without a byte after which those that were promised are not waited for any more."""
_LAST_REQUEST: Final = 25.0
"""Seconds for which a damaged layer's file is kept for the request that is reading it: longer than a chunk
takes on a steady link."""


class ArrivalFailed(Stopped):
    """The rest of the blob will not arrive, or is not needed.

    The error of the download or the compressor says why it will not.
    """


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

    @property
    def held(self) -> int:
        """Return how many bytes can be read."""
        with self._changed:
            return self._size if self._whole else self._held

    def wait(self, end: int, check_stop: Callable[[], None]) -> bool:
        """Return True once the first ``end`` bytes can be read; all of them only after they are verified.

        ``check_stop`` may raise to leave. Raises ArrivalFailed.
        """
        with self._changed:
            while not self._whole and (end >= self._size or end > self._held):
                if self._whole is False:
                    raise ArrivalFailed
                self._changed.wait(_LOOK_EVERY)
                check_stop()
        return True

    def promise(self, end: int) -> None:
        """Return None: a download may stand still at any byte."""

    def forecast(self) -> tuple[float, float]:
        """Return zeros: a download may take any time."""
        return 0.0, 0.0

    def open(self) -> BinaryIO:
        """Open the file, which is renamed once it is complete."""
        for place in (*self._places, *self._places):  # renamed between two tries, it is found in the second
            with suppress(FileNotFoundError):
                return place.open("rb")
        return self._places[1].open("rb")


class LayerArrival:
    """How much of a layer's blob is on disk: the compressor records it, the upload waits for it.

    Its size and digest are known at the end only, and so is whether the layer is the right one.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._places: list[Path] = []
        self._held = 0
        self._hashes: list[tuple[int, _Hash]] = []
        self._complete = False
        self._failed = False
        self._expected = self._seconds_left = 0.0
        self._is_owed = False

    def add_place(self, path: Path) -> None:
        """Record where the file is, or will be once it is renamed."""
        with self._changed:
            self._places.append(path)

    def record_write(self, held: int, found: _Hash) -> None:
        """Record that the first ``held`` bytes can be read, with their hash."""
        with self._changed:
            self._held = held
            self._hashes.append((held, found.copy()))
            self._changed.notify_all()

    def expect(self, size: float, seconds: float = 0.0) -> None:
        """Record how large the blob will be at least, and in how many seconds it will be complete, as far as
        that is known."""
        with self._changed:
            self._expected, self._seconds_left = size, seconds
            self._changed.notify_all()

    def forecast(self) -> tuple[float, float]:
        """Return the size and the seconds that were recorded by ``expect``, once there are any."""
        with self._changed:
            self._wait_for_forecast()
            return self._expected, self._seconds_left

    def promise(self, end: int) -> PromisedBytes | None:
        """Return the first ``end`` bytes, to be sent as they come; None if the blob may turn out smaller."""
        with self._changed:
            self._wait_for_forecast()
            is_certain = not (self._complete or self._failed) and self._expected >= end
            return PromisedBytes(self, end) if is_certain else None

    def _wait_for_forecast(self) -> None:
        self._changed.wait_for(lambda: self._expected or self._complete or self._failed, _STARVED)

    @property
    def is_owed(self) -> bool:
        """Return whether to continue to compress for a request although the job is to stop: until the request
        ends, as it reads the file."""
        with self._changed:
            return self._is_owed

    def set_owed(self, *, owed: bool) -> None:
        """Record that a request for promised bytes begins or ends."""
        with self._changed:
            self._is_owed = owed
            self._changed.notify_all()

    def wait_beyond(self, start: int, end: int, *, in_batches: bool = True) -> int:
        """Return how many of the first ``end`` bytes can be sent, once these are more than ``start``;
        ``start`` if that takes too long, or the blob is complete and has no more. ``in_batches``: wait a
        moment for more than a few. Raises ArrivalFailed."""
        with self._changed:
            while self._held - _RESERVE <= start and not self._complete:
                if self._failed:
                    raise ArrivalFailed
                held = self._held
                if not self._changed.wait(_STARVED) and held == self._held:
                    break
            if in_batches:  # each return costs a transaction
                self._changed.wait_for(
                    lambda: (
                        self._complete or self._failed or self._held - _RESERVE >= min(start + _BATCH, end)
                    ),
                    _BATCH_WAIT,
                )
            return min(end, max(start, self._held - _RESERVE))

    def finish(self) -> None:
        """Record that the blob is complete and its layer verified."""
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    def fail(self) -> None:
        """Record that the blob will never be complete; no effect after ``finish``."""
        with self._changed:
            self._failed = True
            self._changed.notify_all()

    def end_request(self) -> None:
        """Record that the blob is worthless; wait, not for long, until a request for promised bytes has got
        them.

        distribution 2.x deletes no session that was cut off inside a chunk.
        """
        self.fail()
        with self._changed:
            self._changed.wait_for(lambda: not self._is_owed, _LAST_REQUEST)

    @property
    def held(self) -> int:
        """Return how many bytes can be read."""
        with self._changed:
            return self._held

    def wait(self, end: int, check_stop: Callable[[], None]) -> bool:
        """Return True once the first ``end`` bytes can be read and more will follow, False once the blob is
        complete, whatever its size.

        ``check_stop`` may raise to leave. Raises ArrivalFailed.
        """
        with self._changed:
            while not self._complete:
                if self._failed:
                    raise ArrivalFailed
                if end + _RESERVE <= self._held:
                    return True
                self._changed.wait(_LOOK_EVERY)
                check_stop()
        return False

    def prefix_digest(self, end: int) -> str | None:
        """Return the SHA-256 of the first ``end`` bytes in hex; None while there are fewer.

        Raises ArrivalFailed if the file is gone.
        """
        with self._changed:
            if end > self._held:
                return None
            after = bisect_right(self._hashes, end, key=lambda each: each[0])
            # uploads only ask for later and later ends, unless a session is lost
            self._hashes = self._hashes[max(0, after - 1) :]
            start, found = self._hashes[0] if after else (0, hashlib.sha256())
            found = found.copy()
        try:
            with self.open() as file:
                file.seek(start)
                while start < end and (data := file.read(min(_BLOCK, end - start))):
                    found.update(data)
                    start += len(data)
        except OSError as error:
            raise ArrivalFailed from error
        return found.hexdigest() if start == end else None

    def open(self) -> BinaryIO:
        """Open the file, which is renamed once it is complete."""
        for _ in range(2):  # renamed between two tries, it is found in the second
            with self._changed:
                places = list(self._places)
            for place in places:
                with suppress(FileNotFoundError):
                    return place.open("rb")
        return places[-1].open("rb")


class PromisedBytes:
    """The beginning of a layer's blob, sent while it is made: a context in which compressing continues
    even if the job is to stop."""

    def __init__(self, arrival: LayerArrival, end: int) -> None:
        self._arrival = arrival
        self._end = end
        self._is_begun = False

    def __enter__(self) -> Self:
        self._arrival.set_owed(owed=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._arrival.set_owed(owed=False)

    def wait_beyond(self, start: int) -> int:
        """Return how many of these bytes can be sent, as ``LayerArrival.wait_beyond`` does: first as many as
        are there, as the link is idle until then, and later ones in batches."""
        in_batches, self._is_begun = self._is_begun, True
        return self._arrival.wait_beyond(start, self._end, in_batches=in_batches)
