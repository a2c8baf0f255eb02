"""One pass over a layer: hash the tar, compress it, hash and write the gzip, on three threads.

hashlib, zlib and ISA-L release the interpreter lock for a block at a time, so the threads really overlap.
Memory: at most ``_QUEUED + 2`` blocks of ``BLOCK`` bytes, and what as many blocks compress to.
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
_QUEUED: Final = 2


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
    output = _Output(write)
    sink = _Stage("write", output.take)
    packer = compressor(level)
    head = _Stage(
        "compress", lambda block: sink.put(packer.flush() if block is None else packer.compress(block))
    )
    diff_id, total = hashlib.sha256(), 0
    try:
        while block := read_block(stream):
            head.put(block)
            diff_id.update(block)
            total += len(block)
            if on_bytes:
                on_bytes(len(block))
            if check_stop:
                check_stop()
        head.finish()
        sink.finish()
    finally:
        head.abandon()
        sink.abandon()
    return Compressed(
        f"sha256:{diff_id.hexdigest()}", total, f"sha256:{output.digest.hexdigest()}", output.size
    )


class _Output:
    """Hashes and writes what was compressed."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.digest = hashlib.sha256()
        self.size = 0
        self._write = write

    def take(self, data: bytes | None) -> None:
        if data:
            self.digest.update(data)
            self._write(data)
            self.size += len(data)


class _Stage:
    """A thread that does ``work`` on each block it is given, in order, and on None at the end."""

    def __init__(self, name: str, work: Callable[[bytes | None], object]) -> None:
        self._work = work
        self._blocks: queue.Queue[bytes | None] = queue.Queue(_QUEUED)
        self._error: BaseException | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, block: bytes) -> None:
        """Hand over a block; raises what went wrong with an earlier one."""
        self._blocks.put(block)
        self._check()

    def finish(self) -> None:
        """Wait until everything is done."""
        self._blocks.put(None)
        self._thread.join()
        self._check()

    def abandon(self) -> None:
        """End the thread without doing what is queued; no harm after ``finish``."""
        self._abandoned = True
        if self._thread.is_alive():
            self._blocks.put(None)
            self._thread.join()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (block := self._blocks.get()) is not None:
            self._do(block)
        self._do(None)

    def _do(self, block: bytes | None) -> None:
        # After an error the queue is still emptied, so that nobody waits for room in it.
        if self._error is None and not self._abandoned:
            try:
                self._work(block)
            except BaseException as error:
                self._error = error
