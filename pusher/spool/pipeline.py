"""Hash a tar, compress it, hash and write the blob in one pass, each step in threads of its own.

hashlib and the compressors release the interpreter lock for each block, so the threads run in parallel.
Memory: at most ``_QUEUED + 2`` parts beyond those being compressed; a part is a block, or a zstd frame.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from pusher.oci.layer_blob import LayerBlob
from pusher.spool.blocks import Readable, read_block
from pusher.spool.coders import Work
from pusher.spool.compress import Compression, Kind

if TYPE_CHECKING:
    from hashlib import _Hash

_QUEUED: Final = 1


def compress(
    stream: Readable,
    write: Callable[[bytes], object],
    *,
    how: Compression,
    on_bytes: Callable[[int], None] | None = None,
    on_written: Callable[[int, _Hash], None] | None = None,
    check_stop: Callable[[], None] | None = None,
) -> LayerBlob:
    """Read ``stream`` to its end and ``write`` its blob.

    ``on_written`` gets the size and the hash of what is written so far, in the thread that writes.
    ``on_bytes`` gets the number of uncompressed bytes of each block; it and ``check_stop`` (which may raise
    to give up) are called in the caller's thread, ``write`` in another. Their exceptions are raised here.
    """
    coder = how.coder()
    # The digest of an uncompressed layer is its diff ID, so it is not hashed twice.
    output = _Output(write, on_written, hashed=how.kind is not Kind.NONE or on_written is not None)
    writer = _Writer(output.take, how.workers + _QUEUED)
    workers = ThreadPoolExecutor(how.workers, thread_name_prefix="compress")

    def hand_over(work: Work | None) -> None:
        if work is not None:
            writer.put(workers.submit(work))

    diff_id, total = hashlib.sha256(), 0
    try:
        while block := read_block(stream):
            hand_over(coder.take(block))
            diff_id.update(block)
            total += len(block)
            if on_bytes:
                on_bytes(len(block))
            if check_stop:
                check_stop()
        hand_over(coder.finish())
        writer.finish()
    finally:
        workers.shutdown(wait=False, cancel_futures=True)
        writer.abandon()
        workers.shutdown()
    found = f"sha256:{diff_id.hexdigest()}"
    return LayerBlob(
        output.digest or found, output.size, how.label, how.media_type, diff_id=found, uncompressed_size=total
    )


class _Output:
    """Hashes and writes the compressed bytes."""

    def __init__(
        self,
        write: Callable[[bytes], object],
        on_written: Callable[[int, _Hash], None] | None,
        *,
        hashed: bool,
    ) -> None:
        self._hash = hashlib.sha256() if hashed else None
        self.size = 0
        self._write = write
        self._on_written = on_written

    @property
    def digest(self) -> str | None:
        return f"sha256:{self._hash.hexdigest()}" if self._hash else None

    def take(self, data: bytes) -> None:
        if self._hash:
            self._hash.update(data)
        self._write(data)
        self.size += len(data)
        if self._on_written and self._hash:
            self._on_written(self.size, self._hash)


class _Writer:
    """A thread that calls ``take`` with each part, in the order of ``put``.

    ``room``: how many parts may be queued, compressed or not, before ``put`` blocks.
    """

    def __init__(self, take: Callable[[bytes], None], room: int) -> None:
        self._take = take
        self._parts: queue.Queue[Future[bytes] | None] = queue.Queue(room)
        self._error: BaseException | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="write", daemon=True)
        self._thread.start()

    def put(self, part: Future[bytes]) -> None:
        """Queue a part; raises the error of an earlier one."""
        self._parts.put(part)
        self._check()

    def finish(self) -> None:
        """Wait until everything is written."""
        self._parts.put(None)
        self._thread.join()
        self._check()

    def abandon(self) -> None:
        """End the thread and discard queued parts; no effect after ``finish``."""
        self._abandoned = True
        if self._thread.is_alive():
            self._parts.put(None)
            self._thread.join()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (part := self._parts.get()) is not None:
            # After an error the queue is still emptied, so that no thread waits for room in it.
            if self._error is None and not self._abandoned:
                try:
                    self._take(part.result())
                except BaseException as error:
                    self._error = error
