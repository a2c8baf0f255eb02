"""Request bodies read from a file: counted, bounded, and sent again from their start."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from pusher.errors import of_machine
from pusher.oci.digest import hash_for, named
from pusher.registry.http.verified_file import Proof

BLOCK = 128 * 1024
"""Bytes read and handed to the connection at a time."""


class BlobDamaged(Exception):
    """The bytes on disk are not those of the blob any more; its argument is the digest."""


class Arrival(Protocol):
    """Bytes that are still on their way to the disk."""

    def wait(self, end: int, check_stop: Callable[[], None], /) -> None:
        """Return once the first ``end`` bytes can be read, all of them only after they are verified."""

    def open(self) -> BinaryIO:
        """A file with what is there."""


@dataclass(frozen=True)
class Blob:
    """A blob's final bytes: ``size`` bytes from byte ``start`` of ``path``, or of what ``arrival`` opens.

    A file that others may change has an ``opener``, which gives the one that was looked at or raises OSError,
    and a ``proof``: its last byte is not sent unless all have the digest.
    """

    digest: str
    size: int
    path: Path
    start: int = 0
    arrival: Arrival | None = field(default=None, compare=False)
    opener: Callable[[], BinaryIO] | None = field(default=None, compare=False)
    proof: Proof | None = field(default=None, compare=False)

    def wait(self, end: int, check_stop: Callable[[], None]) -> None:
        """See ``Arrival.wait``; what is on disk already has arrived."""
        if self.arrival is not None:
            self.arrival.wait(end, check_stop)

    def open(self) -> BinaryIO:
        """The file, at its beginning."""
        if self.arrival is not None:
            return self.arrival.open()
        return self.path.open("rb") if self.opener is None else self.opener()

    def intact(self) -> bool:
        """Whether the bytes on disk still have the blob's digest; reads them all."""
        digest = hash_for(self.digest)
        body = Body(self, 0, self.size)
        try:
            while block := body.read(1024 * 1024):
                digest.update(block)
        except BlobDamaged:
            return False
        finally:
            body.close()
        return named(digest) == self.digest


class Watch(Protocol):
    """Whoever looks on."""

    def check(self) -> None:
        """Called between requests; raises Stopped or LeaseLost to leave."""

    def allowance(self, wanted: int) -> int:
        """How many of ``wanted`` bytes may be sent now, at least one; waits until then."""

    def sending(self, in_flight: int) -> None:
        """Bytes of the present chunk that left; 0 once its fate is decided."""

    def acknowledged(self, offset: int) -> None:
        """The registry holds ``offset`` bytes."""


class Body:
    """``length`` bytes of a blob from ``offset`` on, as requests takes a body.

    Not bytes (they would fill memory), no generator (it would switch to chunked transfer encoding, which
    registries refuse for a chunk with Content-Range), and no plain file (sent twice, the second time empty).
    """

    def __init__(self, blob: Blob, offset: int, length: int, watch: Watch | None = None) -> None:
        self._blob = blob
        self._offset = offset
        self._length = length
        self._watch = watch
        self._file: BinaryIO | None = None
        self._position = 0
        self.sent = 0
        """Bytes handed to the connection so far, resends included."""
        self._unacknowledged = 0
        self.ended_at: float | None = None
        """When the last byte was (``time.monotonic``)."""
        if blob.proof is not None:
            with self._reading():
                blob.proof.go_to(offset, blob, watch.check if watch is not None else lambda: None)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        while block := self.read(BLOCK):
            yield block

    def read(self, size: int = -1) -> bytes:
        """The next at most ``size`` bytes; BlobDamaged if the file is shorter than the blob or unreadable."""
        left = self._length - self._position
        wanted = left if size < 0 else min(size, left)
        if wanted == 0:
            return b""
        if self._watch is not None:
            wanted = self._watch.allowance(wanted)
        with self._reading():
            data = self._read(wanted)
        if not data:
            raise BlobDamaged(self._blob.digest)
        if self._blob.proof is not None and not self._blob.proof.takes(data):
            raise BlobDamaged(self._blob.digest)
        self._position += len(data)
        self.sent += len(data)
        if self._position == self._length:
            self.ended_at = time.monotonic()
        if self._watch is not None:
            self._watch.sending(self._position)
        return data

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # which the transport would take for the connection's
            raise of_machine(error) or BlobDamaged(self._blob.digest) from error

    def _read(self, size: int) -> bytes:
        if self._file is None:
            self._file = self._blob.open()
            self._file.seek(self._blob.start + self._offset + self._position)
        return self._file.read(size)

    @property
    def transmitted(self) -> int:
        """Bytes that the other side of the connection has, as far as the system knows; ``sent`` elsewhere."""
        return self.sent - self._unacknowledged

    def record_unacknowledged(self, count: int) -> None:
        """Record that the last ``count`` bytes sent were not acknowledged when the request ended."""
        self._unacknowledged += min(count, self._position)

    def rewind(self) -> None:
        """Start again from the first byte, for a request that is sent a second time."""
        self.close()
        self._position = 0
        if self._blob.proof is not None:
            self._blob.proof.go_back()

    def close(self) -> None:
        """Close the file; the body can still be rewound."""
        if self._file is not None:
            self._file.close()
            self._file = None
