"""One pass over a layer: hash the tar, compress it, hash and write the gzip, on two threads.

hashlib, zlib and ISA-L release the interpreter lock for a block at a time, so the two threads really overlap.
Memory: at most ``_QUEUED + 2`` blocks of ``BLOCK`` bytes and what one block compresses to.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Final

from pusher.spool.compress import compressor

BLOCK: Final = 1 << 20
_QUEUED: Final = 3


@dataclass(frozen=True)
class Compressed:
    """Digests and sizes in bytes of a layer that was read once."""

    diff_id: str
    uncompressed_size: int
    digest: str
    size: int


def read_block(stream: BinaryIO, size: int = BLOCK) -> bytes:
    """Exactly ``size`` bytes, or fewer at the end only: pipes give what they have."""
    data = stream.read(size)
    if len(data) in (0, size):
        return data
    parts, missing = [data], size - len(data)
    while missing and (data := stream.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def compress(
    stream: BinaryIO,
    write: Callable[[bytes], object],
    *,
    level: int,
    on_bytes: Callable[[int], None] | None = None,
    check_stop: Callable[[], None] | None = None,
) -> Compressed:
    """Read ``stream`` to its end and ``write`` its gzip.

    ``on_bytes`` gets the number of uncompressed bytes of each block; it and ``check_stop`` (which may raise
    to give up) are called on the caller's thread, ``write`` on another. Whatever any of them raises comes out
    here.
    """
    tail = _Tail(write, level)
    diff_id, total = hashlib.sha256(), 0
    try:
        while block := read_block(stream):
            tail.put(block)
            diff_id.update(block)
            total += len(block)
            if on_bytes:
                on_bytes(len(block))
            if check_stop:
                check_stop()
    except BaseException:
        tail.abandon()
        raise
    tail.finish()
    return Compressed(f"sha256:{diff_id.hexdigest()}", total, f"sha256:{tail.digest.hexdigest()}", tail.size)


class _Tail:
    """The second thread: compresses, hashes and writes the blocks it is given."""

    def __init__(self, write: Callable[[bytes], object], level: int) -> None:
        self.digest = hashlib.sha256()
        self.size = 0
        self._write = write
        self._compressor = compressor(level)
        self._blocks: queue.Queue[bytes | None] = queue.Queue(_QUEUED)
        self._error: BaseException | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="compress", daemon=True)
        self._thread.start()

    def put(self, block: bytes) -> None:
        """Hand over a block; raises what went wrong with an earlier one."""
        self._blocks.put(block)
        if self._error:
            raise self._error

    def finish(self) -> None:
        """Wait until everything is written."""
        self._blocks.put(None)
        self._thread.join()
        if self._error:
            raise self._error

    def abandon(self) -> None:
        """End the thread without writing what is queued."""
        self._abandoned = True
        self._blocks.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (block := self._blocks.get()) is not None:
            # After an error the queue is still emptied, so that the caller never waits for room in it.
            if self._error is None and not self._abandoned:
                self._work(block)
        if self._error is None and not self._abandoned:
            self._work(None)

    def _work(self, block: bytes | None) -> None:
        try:
            data = self._compressor.flush() if block is None else self._compressor.compress(block)
            self.digest.update(data)
            self._write(data)
            self.size += len(data)
        except BaseException as error:
            self._error = error
