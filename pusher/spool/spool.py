"""Store blobs in the spool, a content-addressed folder shared by every worker of this PUSHER_HOME.

``sha256/<hex>`` and ``sha512/<hex>`` are complete, durable blobs; ``tmp/`` has files being written,
``partial/<hex>`` downloads that can be resumed, ``incoming/`` archives from a pipe. A blob's
modification time is that of its last use.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pusher.config.private import make_private_folder
from pusher.errors import LayerMismatch
from pusher.oci.digest import (
    ALGORITHMS,
    algorithm_of,
    digest_of_hash,
    hash_for,
    hex_of,
    is_digest,
    of_hex,
    short,
)
from pusher.oci.layer_blob import ORIGINAL, LayerBlob
from pusher.spool import partial, temporary
from pusher.spool.arrival import BlobArrival, LayerArrival
from pusher.spool.blocks import Readable, read_blocks
from pusher.spool.compress import Compression
from pusher.spool.disk import SpoolDisk, revalidate
from pusher.units import human_bytes

_UNUSED: Final = 3600.0
"""Seconds after which an unfinished file in a shared spool is removed."""


class Spool:
    """Blobs under ``root``, which is created. Every method may be called from any thread and process.

    All of them raise DiskFull, HomeUnusable or MachineExhausted if the file system refuses.
    """

    def __init__(self, root: Path, *, is_shared: bool = False) -> None:
        """``is_shared``: with other machines, which see what this one wrote once the file server has it, and
        do not know when this machine lost power."""
        self.root = root
        self.is_shared = is_shared
        self._disk = SpoolDisk(root, is_shared=is_shared)
        self._blobs = {algorithm: root / algorithm for algorithm in ALGORITHMS}
        self._temporary = root / "tmp"
        self._partial = root / "partial"
        self._incoming = root / "incoming"
        with self._disk.translate_errors("the spool"):
            make_private_folder(root.parent)
            for folder in (root, *self._blobs.values(), self._temporary, self._partial):
                make_private_folder(folder, closed=True)

    def write_layer(
        self,
        stream: Readable,
        *,
        how: Compression,
        expected_diff_id: str | None = None,
        size: int | None = None,
        arrival: LayerArrival | None = None,
        on_bytes: Callable[[int], None] | None = None,
        check_stop: Callable[[], None] | None = None,
    ) -> LayerBlob:
        """Compress a tar into the spool, in one pass; with Kind.NONE copy it unchanged.

        ``arrival`` records how much of it can be read already; its end is the caller's to record, except of a
        layer with the wrong diff ID. ``size`` is that of the tar, for messages.
        ``on_bytes`` gets the uncompressed bytes of each block read; ``check_stop`` may raise to give up.
        Raises LayerMismatch if the tar has another diff ID than expected. After any error nothing is left.
        """
        from pusher.spool.pipeline import compress  # imports the compressors

        name = f"layer {short(expected_diff_id)}" if expected_diff_id else "a layer"
        needs = None if size is None else f"up to {human_bytes(size)}"
        with self._writing(name, needs) as (file, write):
            if arrival is not None:
                arrival.add_place(file.path)
            found = compress(
                stream,
                write,
                how=how,
                on_bytes=on_bytes,
                on_written=arrival.record_write if arrival is not None else None,
                check_stop=check_stop,
            )
            if expected_diff_id not in (None, found.diff_id):
                if arrival is not None:
                    arrival.end_request()
                raise LayerMismatch(
                    f"a layer should have diff ID {expected_diff_id}, but has {found.diff_id}",
                    hint="the source is damaged: save or pull the image again",
                )
            if arrival is not None:
                arrival.add_place(self.path(found.digest))
            self._commit(file, found.digest, name)
        return found

    def write_blob(
        self,
        stream: Readable,
        *,
        digest: str,
        size: int,
        media_type: str,
        on_bytes: Callable[[int], None] | None = None,
        check_stop: Callable[[], None] | None = None,
    ) -> LayerBlob:
        """Store final bytes unchanged; LayerMismatch unless they are ``size`` bytes with ``digest``."""
        found, count = hash_for(digest), 0
        with self._writing(f"blob {short(digest)}", human_bytes(size)) as (file, write):
            for block in read_blocks(stream):
                found.update(block)
                write(block)
                count += len(block)
                if on_bytes:
                    on_bytes(len(block))
                if check_stop:
                    check_stop()
            if (count, digest_of_hash(found)) != (size, digest):
                raise LayerMismatch(
                    f"the image lists a blob of {size} bytes with digest {digest}, "
                    f"its source has {count} bytes with {digest_of_hash(found)}",
                    hint="the source is damaged: save or pull the image again",
                )
            self._commit(file, digest, f"blob {short(digest)}")
        return LayerBlob(digest, size, ORIGINAL, media_type)

    def _commit(self, file: temporary.TemporaryFile, digest: str, name: str) -> None:
        """Give a complete file its final name, unless another machine's file has it: it may be reading that
        one, and a file server forgets files that are replaced (ESTALE)."""
        with self._disk.translate_errors(name):
            if not (self.is_shared and self._find_file(digest, file.size)):
                file.commit(self.path(digest))

    @contextmanager
    def open_partial(
        self, digest: str, size: int, *, check_stop: Callable[[], None] = lambda: None
    ) -> Iterator[partial.PartialBlob | None]:
        """Open the downloaded part of a blob of ``size`` bytes; None while another worker downloads it.

        DiskFull at once if there is no room for the rest. Written bytes stay, whatever ends the context.
        """
        name = f"blob {short(digest)}"

        @contextmanager
        def guard(count: int) -> Iterator[None]:
            with self._disk.translate_errors(name):
                self._disk.leave_room(count)
                yield

        path = self._partial / hex_of(digest)
        with self._disk.translate_errors(name):
            descriptor = partial.open_locked(path, create=True)
        if descriptor is None:
            yield None
            return
        file = partial.PartialBlob(path, digest, descriptor, guard, synced=self.is_shared)
        try:
            with self._disk.translate_errors(name):
                file.read(check_stop)
            with self._disk.translate_errors(name, needs=human_bytes(size - file.size)):
                self._disk.leave_room(size - file.size)
            yield file
        finally:
            file.close()

    def new_arrival(self, digest: str, size: int) -> BlobArrival:
        """Return the arrival of a blob that is about to be downloaded."""
        return BlobArrival(size, self._partial / hex_of(digest), self.path(digest))

    def fetched_size(self, digest: str) -> int:
        """Return how many bytes of a blob were downloaded."""
        with suppress(FileNotFoundError):
            return (self._partial / hex_of(digest)).stat().st_size
        return 0

    def room(self) -> int:
        """Return the bytes that blobs may still take."""
        return self._disk.room()

    def path(self, digest: str) -> Path:
        """Return the path at which a blob is, or would be."""
        return self._blobs[algorithm_of(digest)] / hex_of(digest)

    def has(self, digest: str, size: int | None = None) -> bool:
        """Return whether the blob is there (and has this many bytes); mark it as used.

        A blob that may not have reached the disk before a crash of the machine is read again, and removed if
        it is damaged.
        """
        path = self.path(digest)
        with self._disk.translate_errors(f"blob {short(digest)}"), suppress(FileNotFoundError):
            status = self._find_file(digest, size)
            if status is None:
                return False
            if not temporary.is_durable(status):
                if not self.verify(digest):
                    self.remove(digest)
                    return False
                path.chmod(stat.S_IRUSR)
            os.utime(path)
            return True
        return False

    def _find_file(self, digest: str, size: int | None) -> os.stat_result | None:
        """Return the status of the blob's file, if it is there (and has this many bytes). Raises OSError."""
        path = self.path(digest)
        for is_last in (not self.is_shared, True):
            with suppress(FileNotFoundError):
                status = path.stat()
                if size is None or status.st_size == size:
                    return status
            if not is_last:
                revalidate(path.parent)
        return None

    def revalidate(self) -> None:
        """Have a file system that machines share ask its server which blobs and archives there are."""
        if self.is_shared:
            for folder in (*self._blobs.values(), self._incoming):
                revalidate(folder)

    def now(self) -> float:
        """Return the time in seconds since the epoch, by the clock that the times of files are set by: that
        of the file server where the spool is shared, unless no file can be made there."""
        if self.is_shared:
            with suppress(OSError), temporary.temporary_file(self._temporary) as file:
                return file.path.stat().st_mtime
        return time.time()

    def size(self, digest: str) -> int:
        """Return the blob's size in bytes. Raises FileNotFoundError."""
        return self.path(digest).stat().st_size

    def remove(self, digest: str) -> None:
        """Remove the blob and its partial download; no error if there is none."""
        with self._disk.translate_errors(f"blob {short(digest)}"):
            self.path(digest).unlink(missing_ok=True)
            partial.discard(self._partial / hex_of(digest))

    def usage(self) -> int:
        """Return the bytes of complete blobs."""
        return sum(size for _, size, _ in self.blobs())

    def blobs(self) -> Iterator[tuple[str, int, float]]:
        """Yield digest, size in bytes and time of last use (seconds since the epoch) of every blob."""
        for folder in self._blobs.values():
            yield from self._files(folder)

    def _files(self, folder: Path) -> Iterator[tuple[str, int, float]]:
        with self._disk.translate_errors("the spool"), os.scandir(folder) as entries:
            for entry in entries:
                # NFS and FUSE keep files that are removed while they are open, as .nfs... and .fuse_hidden...
                if is_digest(digest := of_hex(entry.name)):
                    with suppress(FileNotFoundError):  # removed by another process just now
                        found = entry.stat()
                        yield digest, found.st_size, found.st_mtime

    def all_files(self) -> list[tuple[str, int, float]]:
        """Return the same for complete blobs and partial downloads."""
        return [*self.blobs(), *self._files(self._partial)]

    def find_unneeded(
        self, keep: Collection[str], limit: int, *, used_before: float | None = None
    ) -> list[tuple[str, int]]:
        """Return digest and size of the blobs not in ``keep``, longest unused first, that must be removed for
        such blobs to take at most ``limit`` bytes.

        ``used_before`` (seconds since the epoch) spares blobs used at or after that time: another worker may
        have written one and not recorded it yet when ``keep`` was read.
        """
        left = sorted((used, size, digest) for digest, size, used in self.all_files() if digest not in keep)
        total, found = sum(size for _, size, _ in left), list[tuple[str, int]]()
        for used, size, digest in left:
            if total <= limit or (used_before is not None and used >= used_before):
                break
            found.append((digest, size))
            total -= size
        return found

    def remove_all(self, blobs: Collection[tuple[str, int]]) -> int:
        """Remove the blobs that ``find_unneeded`` returned; return the bytes freed."""
        for digest, _ in blobs:
            self.remove(digest)
        return sum(size for _, size in blobs)

    def sweep(self) -> int:
        """Remove unfinished files of dead processes, archives from a pipe included; return the bytes freed.

        Some file systems that machines share do not show the locks of the others.
        """
        with self._disk.translate_errors("the spool"):
            unchanged_since = self.now() - _UNUSED if self.is_shared else None
            freed = temporary.sweep(self._temporary, unchanged_since)
            if self._incoming.exists():
                freed += temporary.sweep(self._incoming, unchanged_since, ".part")
            return freed

    def verify(self, digest: str) -> bool:
        """Read the blob again; return whether it is there and matches its digest. Raises OSError if it cannot
        be read, which says nothing about the blob: a file server may be away."""
        with suppress(FileNotFoundError), self.path(digest).open("rb") as file:
            return digest_of_hash(hashlib.file_digest(file, lambda: hash_for(digest))) == digest
        return False

    @contextmanager
    def _writing(
        self, name: str, needs: str | None
    ) -> Iterator[tuple[temporary.TemporaryFile, Callable[[bytes | memoryview], None]]]:
        """Yield a temporary file and a ``write`` that translates errors; the source's own errors are
        unchanged."""
        with self._disk.translate_errors(name, needs=needs):
            context = temporary.temporary_file(self._temporary, synced=self.is_shared)
            file = context.__enter__()
        try:

            def write(data: bytes | memoryview) -> None:
                with self._disk.translate_errors(name, file, needs):
                    self._disk.leave_room(len(data))
                    file.write(data)

            yield file, write
        finally:
            context.__exit__(None, None, None)
