"""Define request bodies that are read from a file, counted, and can be sent again."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import field, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, NoReturn, Protocol

from pusher.dataclass import dataclass
from pusher.errors import find_lost_disk, find_machine_error
from pusher.oci.digest import digest_of_hash, hash_for
from pusher.registry.http.verified_file import DigestVerifier

BLOCK = 128 * 1024
"""Bytes read and handed to the connection at a time."""
LARGEST_BLOCK: Final = 1024 * 1024
"""The same on a link so fast that each block would cost more time than its bytes."""
_QUICK: Final = 0.02
"""Seconds within which a block is sent on such a link."""


class BlobDamaged(Exception):
    """The bytes on disk are no longer the blob's; the argument is its digest."""


class BodyCut(Exception):
    """The rest of a body that was begun will not come soon."""


class Promise(Protocol):
    """The first bytes of a file that is still being written, for a request that begins before they are there;
    a context in which they are awaited."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def wait_beyond(self, start: int, /) -> int:
        """Return how many bytes can be read once these are more than ``start``; ``start`` if no more come."""


class Arrival(Protocol):
    """A file that is still being written."""

    @property
    def held(self) -> int:
        """Return how many bytes can be read."""

    def wait(self, end: int, check_stop: Callable[[], None], /) -> bool:
        """Wait until the first ``end`` bytes can be read; the last ones only once all are verified.

        Return False if the size was not known and now is, so that ``end`` must be computed again.
        """

    def promise(self, end: int, /) -> Promise | None:
        """Return the first ``end`` bytes if they are certain enough to come soon, else None."""

    def forecast(self) -> tuple[float, float]:
        """Return how many bytes the file will have at least, and the seconds until it has them; zeros where
        that is not known."""

    def open(self) -> BinaryIO:
        """Open the file."""


@dataclass(frozen=True)
class BlobFile:
    """The bytes of a blob: ``size`` bytes from byte ``start`` of ``path``, or of the file of ``arrival``.

    A file that others may change has an ``opener``, which opens the file that was checked or raises OSError,
    and a ``verifier``: the last byte is not sent unless the digest is right. ``make_ready`` is called before
    each request that sends bytes, and raises where they cannot be read now.

    Of a blob that is still being compressed, ``digest`` stands for the layer and ``size`` is a limit
    (``is_unfinished``).
    """

    digest: str
    size: int
    path: Path
    start: int = 0
    arrival: Arrival | None = field(default=None, compare=False)
    opener: Callable[[], BinaryIO] | None = field(default=None, compare=False)
    verifier: DigestVerifier | None = field(default=None, compare=False)
    make_ready: Callable[[], None] | None = field(default=None, compare=False)
    is_unfinished: bool = False

    def wait(self, end: int, check_stop: Callable[[], None]) -> bool:
        """Wait as ``Arrival.wait`` does; return True at once if the whole blob is on disk."""
        if self.make_ready is not None:
            self.make_ready()
        return self.arrival is None or self.arrival.wait(end, check_stop)

    def open(self) -> BinaryIO:
        """Open the file."""
        if self.arrival is not None:
            return self.arrival.open()
        if self.opener is not None:
            return self.opener()
        try:
            return self.path.open("rb")
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            return self.path.open("rb")  # another machine has just replaced it by the same bytes

    def is_intact(self) -> bool:
        """Read all bytes on disk; return whether they still have the blob's digest."""
        try:
            return self.compute_digest() == self.digest
        except BlobDamaged:
            return False

    def compute_digest(self, check: Callable[[], None] = lambda: None) -> str:
        """Read all bytes on disk; return their digest. ``check`` may raise to stop.

        Raises BlobDamaged if the file is too short, unreadable, or not the one that was checked.
        """
        digest = hash_for(self.digest)
        body = Body(replace(self, verifier=None), 0, self.size)
        try:
            while block := body.read(1024 * 1024):
                check()
                digest.update(block)
        finally:
            body.close()
        return digest_of_hash(digest)


class UploadObserver(Protocol):
    """Controls and observes the sending of a blob."""

    def check(self) -> None:
        """Raise Stopped or LeaseLost to stop. Called between requests."""

    def allowance(self, wanted: int) -> int:
        """Wait until bytes may be sent; return how many of ``wanted``, at least one."""

    def report_sent(self, in_flight: int) -> None:
        """Report the bytes of the current chunk that were sent; 0 once it was answered or failed."""

    def report_acknowledged(self, offset: int) -> None:
        """Report that the registry acknowledged ``offset`` bytes."""


class FileSlice:
    """``length`` bytes of an open file from byte ``start`` on, which the system can send by itself."""

    def __init__(self, file: BinaryIO, start: int, length: int, blob: BlobFile) -> None:
        self._file = file
        self._blob = blob
        self.start = start
        self.length = length

    def __len__(self) -> int:
        return self.length

    def fileno(self) -> int:
        """Return the descriptor of the file."""
        return self._file.fileno()

    def read(self) -> bytes:
        """Return the bytes. Raises BlobDamaged if the file is too short or unreadable."""
        with _reading(self._blob):
            self._file.seek(self.start)
            data = self._file.read(self.length)
        if len(data) < self.length:
            raise BlobDamaged(self._blob.digest)
        return data

    def read_block(self, start: int, end: int) -> bytes:
        """Return some of the file's bytes from ``start`` on, before ``end``. Raises as ``read``."""
        with _reading(self._blob):
            return os.pread(self.fileno(), min(BLOCK, end - start), start)

    def check_readable(self, start: int) -> None:
        """Raise as ``read`` if the byte at ``start`` cannot be read: ``sendfile`` does not tell the errors of
        the file from those of the connection."""
        self.read_block(start, start + 1)

    def raise_damaged(self) -> NoReturn:
        """Raise the error for a file that is too short."""
        raise BlobDamaged(self._blob.digest)


class Blocks:
    """A body as requests sends it: the blocks of a ``Body``, whose total length is known."""

    def __init__(self, body: Body, clock: Callable[[], float] = time.monotonic) -> None:
        self._body = body
        self._clock = clock

    def __len__(self) -> int:
        return len(self._body)

    def __iter__(self) -> Iterator[bytes | FileSlice]:
        size, began = BLOCK, self._clock()
        while block := self._body.read_slice(size):
            yield block
            now = self._clock()
            size = min(2 * size, LARGEST_BLOCK) if now - began < _QUICK else BLOCK
            began = now


class Body:
    """``length`` bytes of a blob from ``offset`` on, as a body for requests.

    Not bytes, which would fill memory; not a generator, which would be sent with chunked transfer encoding,
    which registries refuse for a chunk with Content-Range; and not a file, which is empty the second time.
    """

    def __init__(
        self,
        blob: BlobFile,
        offset: int,
        length: int,
        watch: UploadObserver | None = None,
        supply: Callable[[int], int] | None = None,
    ) -> None:
        """``supply`` gets a number of bytes and returns how many of the blob may be sent, once these are more
        or no more will come; None if all are there."""
        self._blob = blob
        self._supply = supply
        self.starved = 0.0
        """Seconds in which nothing could be sent because it was not there yet."""
        self._offset = offset
        self._length = length
        self._watch = watch
        self._file: BinaryIO | None = None
        self._position = 0
        self.sent = 0
        """Bytes passed to the connection so far, resends included."""
        self._unacknowledged = 0
        self.ended_at: float | None = None
        """When the last byte was (``time.monotonic``)."""
        if blob.verifier is not None:
            with _reading(blob):
                blob.verifier.start_at(offset, blob, watch.check if watch is not None else lambda: None)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        while block := self.read(BLOCK):
            yield block

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes. Raises BlobDamaged if the file is too short or unreadable."""
        wanted = self._allowance(size)
        if wanted == 0:
            return b""
        with _reading(self._blob):
            data = self._open().read(wanted)
        if not data:
            raise BlobDamaged(self._blob.digest)
        if self._blob.verifier is not None and not self._blob.verifier.may_send(data):
            raise BlobDamaged(self._blob.digest)
        self._count(len(data))
        return data

    def read_slice(self, size: int) -> bytes | FileSlice:
        """Return at most the next ``size`` bytes, without reading them if they need not be verified; nothing
        at the end. Raises BlobDamaged."""
        if self._blob.verifier is not None:
            return self.read(size)
        wanted = self._allowance(size)
        if wanted == 0:
            return b""
        with _reading(self._blob):
            file = self._open()
        found = FileSlice(file, self._blob.start + self._offset + self._position, wanted, self._blob)
        self._count(wanted)
        return found

    def _allowance(self, size: int) -> int:
        """Wait until bytes may be sent; return how many of ``size`` (negative: all that are left).

        Raises BodyCut.
        """
        left = self._length - self._position
        wanted = left if size < 0 else min(size, left)
        if self._supply is not None and wanted:
            began, start = time.monotonic(), self._offset + self._position
            wanted = min(wanted, self._supply(start) - start)
            self.starved += time.monotonic() - began
            if wanted == 0:
                raise BodyCut
        return wanted if self._watch is None or wanted == 0 else self._watch.allowance(wanted)

    def _count(self, size: int) -> None:
        """Count bytes that are passed to the connection."""
        self._position += size
        self.sent += size
        if self._position == self._length:
            self.ended_at = time.monotonic()
        if self._watch is not None:
            self._watch.report_sent(self._position)

    def _open(self) -> BinaryIO:
        """Return the file, opened at the current position."""
        if self._file is None:
            self._file = self._blob.open()
            self._file.seek(self._blob.start + self._offset + self._position)
        return self._file

    @property
    def transmitted(self) -> int:
        """Return the bytes that the peer has acknowledged; ``sent`` if the system does not say."""
        return self.sent - self._unacknowledged

    def record_unacknowledged(self, count: int) -> None:
        """Record that the last ``count`` bytes sent were not acknowledged when the request ended."""
        self._unacknowledged += min(count, self._position)

    def rewind(self) -> None:
        """Start again from the first byte, for a request that is sent again."""
        self.close()
        self._position = 0
        if self._blob.verifier is not None:
            self._blob.verifier.rewind()

    def close(self) -> None:
        """Close the file; the body can still be rewound."""
        if self._file is not None:
            with suppress(OSError):  # a file server that is gone, which the reading has reported
                self._file.close()
            self._file = None


@contextmanager
def _reading(blob: BlobFile) -> Iterator[None]:
    """Translate the errors of reading a blob's file, which the transport would take for the connection's."""
    try:
        yield
    except OSError as error:
        known = find_lost_disk(error, f" of {blob.path}") or find_machine_error(error)
        raise known or BlobDamaged(blob.digest) from error
