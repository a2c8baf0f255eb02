"""Read containerd's content store through Docker's API: manifests and blobs by digest, from any offset.

Docker serves BuildKit's gRPC interface at ``/grpc``. Since Docker 24 that includes the read half of
containerd's content service (``containerd/api/services/content/v1``), so that nothing need be exported: with
containerd's image store `docker save` reads the same blobs in pieces of 32 KiB, at a fifth of the speed.
"""

from __future__ import annotations

import errno
import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self, cast

from pusher.errors import ImageChanged, PusherError, SourceError, SourceStalled, StorageDoubtful
from pusher.oci.manifest import Descriptor
from pusher.oci.media_types import OCI_INDEX
from pusher.oci.platform import Platform
from pusher.registry.http.body import BlobFile
from pusher.registry.http.verified_file import DigestVerifier
from pusher.retry import Attempts, Backoff, RetryPolicy
from pusher.sources.base import SourceImage
from pusher.sources.blob_places import SMALL
from pusher.sources.engine.command import Daemon
from pusher.sources.engine.docker_api import DockerApi, GrpcConnection
from pusher.sources.engine.grpc import NOT_FOUND, GrpcBroken, GrpcClient, GrpcFailed
from pusher.sources.engine.protobuf import bytes_field, decode_fields, encode_field
from pusher.sources.engine.save_stream import image_of_tree
from pusher.sources.image_tree import tree_or_own
from pusher.sources.pins import EnginePin

_SERVICE: Final = "/containerd.services.content.v1.Content"


class ContentStore:
    """The content service of one gRPC server. Raises GrpcBroken, GrpcFailed, and what its stream raises."""

    def __init__(self, client: GrpcClient) -> None:
        self._client = client

    def size_of(self, digest: str) -> int | None:
        """Return a blob's size in bytes; None if it is missing."""
        try:
            (answer,) = self._client.call(f"{_SERVICE}/Info", encode_field(1, digest.encode()))
            info = decode_fields(bytes_field(answer, 1))
        except GrpcFailed as failed:
            if failed.status == NOT_FOUND:
                return None
            raise
        except ValueError as error:
            raise GrpcBroken("the answer is not that of a content service") from error
        size = info.get(2, 0)
        return size if isinstance(size, int) else None

    def read(self, digest: str, offset: int = 0) -> Iterator[memoryview]:
        """Yield a blob's bytes from ``offset`` on."""
        request = encode_field(1, digest.encode()) + encode_field(2, offset)
        for message in self._client.call(f"{_SERVICE}/Read", request):
            try:
                yield bytes_field(message, 2)
            except ValueError as error:
                raise GrpcBroken("the answer is not that of a content service") from error


class DockerContent:
    """The content store of one Docker daemon, over as many connections as there are calls at a time.

    ``new_check`` makes what a connection calls each second while Docker is silent; it may raise. ``away``:
    how long a blob that is being read waits for a daemon that restarts; ``wait`` gets each pause (seconds),
    sleeps, and may raise to stop. Methods raise StorageDoubtful where Docker does not let its content store
    be read.
    """

    def __init__(
        self,
        daemon: Daemon,
        new_check: Callable[[], Callable[[], None] | None] = lambda: None,
        away: Backoff = RetryPolicy.source,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._api = DockerApi(daemon)
        self._new_check = new_check
        self.away = away
        self.wait = wait
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._used: set[_Connection] = set()

    def read(self, blob: Descriptor) -> bytes | None:
        """Return the bytes of a small blob; None if it is missing."""
        with self._connection() as store:
            if store.size_of(blob.digest) is None:
                return None
            content = bytearray()
            for block in store.read(blob.digest):
                content += block
                if len(content) >= SMALL:
                    raise StorageDoubtful(f"{blob.digest} is too large to be what it should be")
            return bytes(content)

    def size_of(self, digest: str) -> int | None:
        """Return a blob's size in bytes; None if it is missing."""
        with self._connection() as store:
            return store.size_of(digest)

    def has(self, blob: Descriptor) -> bool:
        """Return whether a blob is there."""
        return self.size_of(blob.digest) is not None

    def offers(self, digest: str) -> bool:
        """Return whether a blob can be read here."""
        try:
            return self.size_of(digest) is not None
        except StorageDoubtful:
            return False

    def file_of(self, blob: Descriptor, image: str) -> BlobFile:
        """Return a blob of ``image`` as a file that is read from Docker: valid until the store is closed."""
        reader = _BlobReader(self, blob, image)
        verifier = DigestVerifier(blob.digest, blob.size)
        return BlobFile(
            blob.digest,
            blob.size,
            Path(),
            opener=reader.open,
            verifier=verifier,
            make_ready=reader.make_ready,
        )

    def take(self) -> _Connection:
        """Return a connection for one call, to be given back or ended."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = _Connection(self._api.open_grpc(self._new_check()))
        with self._lock:
            self._used.add(connection)
        return connection

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection whose call was read to its end."""
        with self._lock:
            self._used.discard(connection)
            self._idle.append(connection)

    def end(self, connection: _Connection) -> None:
        """Close a connection, which may be in the middle of a response."""
        with self._lock:
            self._used.discard(connection)
        connection.close()

    @contextmanager
    def _connection(self) -> Iterator[ContentStore]:
        try:
            connection = self.take()
        except SourceStalled:
            raise
        except (GrpcBroken, OSError, SourceError) as error:
            raise _unreadable_error(error) from error
        try:
            yield connection.store
        except BaseException as error:
            self.end(connection)
            if isinstance(error, GrpcBroken | GrpcFailed | OSError):
                raise _unreadable_error(error) from error
            raise
        self.give_back(connection)

    def close(self) -> None:
        """End all connections."""
        with self._lock:
            connections = [*self._idle, *self._used]
            self._idle.clear()
            self._used.clear()
        for connection in connections:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _BlobReader:
    """Reads one blob for one upload at a time. Chunks follow each other, each with a file of its own: the
    response to one call continues where the last file ended."""

    def __init__(self, content: DockerContent, blob: Descriptor, image: str) -> None:
        self._content = content
        self._blob = blob
        self._image = image
        self._connection: _Connection | None = None
        self._blocks: Iterator[memoryview] = iter(())
        self._block = memoryview(b"")
        self._at = 0

    def open(self) -> BinaryIO:
        return cast("BinaryIO", _BlobStream(self))

    def make_ready(self) -> None:
        """Begin to read, so that no request begins while Docker is away. Raises like ``read``."""
        if self._connection is None and not self._block and self._at < self._blob.size:
            self._block = self._next_block() or self._block

    def read(self, position: int, size: int) -> bytes:
        """Return at most ``size`` bytes from ``position`` on, none at the end.

        Raises ImageChanged if the blob was deleted, SourceStalled if Docker went away.
        """
        if position >= self._blob.size:
            return b""
        if position != self._at:
            self._abandon()
            self._at = position
        while not self._block:
            block = self._next_block()
            if block is None:
                return b""
            self._block = block
        taken, self._block = bytes(self._block[:size]), self._block[size:]
        self._at += len(taken)
        if self._at == self._blob.size and self._connection is not None:
            self._next_block()
        return taken

    def _next_block(self) -> memoryview | None:
        """Return the next block of the response; None at its end. After a break, call again."""
        attempts = Attempts(self._content.away)
        while True:
            try:
                if self._connection is None:
                    self._connection = self._content.take()
                    self._blocks = self._connection.store.read(self._blob.digest, self._at)
                block = next(self._blocks, None)
            except (GrpcBroken, GrpcFailed, OSError, SourceError) as error:
                self._abandon()
                if self._at >= self._blob.size:  # nothing more was expected
                    return None
                known = self._explain(error)
                pause = None if known is error else attempts.pause_after(known)
                if pause is None:
                    raise known from error
                self._content.wait(pause)
            except BaseException:
                self._abandon()
                raise
            else:
                if block is None:
                    self._finish()
                return block

    def _finish(self) -> None:
        """Give the connection back, whose response was read to its end."""
        if self._connection is not None:
            self._content.give_back(self._connection)
        self._connection = None

    def _abandon(self) -> None:
        """Drop what is left of the response."""
        self._blocks, self._block = iter(()), memoryview(b"")
        if self._connection is not None:
            self._content.end(self._connection)
        self._connection = None

    def _explain(self, error: Exception) -> PusherError:
        if isinstance(error, SourceStalled):
            return error
        if isinstance(error, GrpcFailed) and error.status == NOT_FOUND:
            return ImageChanged(
                f"{self._image} was deleted from Docker after it was enqueued",
                hint="build or pull it again and enqueue it, or `pusher cancel` the job",
            )
        return SourceStalled(
            f"Docker stopped delivering {self._image}: {error}", hint="check that it is running: docker info"
        )


class _BlobStream(io.RawIOBase):
    """A blob's bytes as a file."""

    def __init__(self, reader: _BlobReader) -> None:
        self._reader = reader
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence != os.SEEK_SET:
            raise OSError(errno.EINVAL, "only from the start")
        self._position = offset
        return offset

    def read(self, size: int = -1, /) -> bytes:
        data = self._reader.read(self._position, size if size >= 0 else SMALL)
        self._position += len(data)
        return data


def image_in_content(content: DockerContent, pin: EnginePin, *, own: Platform | None) -> SourceImage:
    """Return the image ``pin.id``, its documents in its pin; ``own``: this machine's platform.

    Raises StorageDoubtful and the errors of ``tree_or_own``.
    """
    size = content.size_of(pin.id)
    if size is None:
        raise StorageDoubtful(f"Docker's content store lacks {pin.id}")
    read: dict[str, bytes | None] = {}

    def read_once(blob: Descriptor) -> bytes | None:
        if blob.digest not in read:
            read[blob.digest] = content.read(blob)
        return read[blob.digest]

    root = Descriptor(OCI_INDEX, pin.id, size)
    tree = tree_or_own(root, read_once, content.has, pin.choice, own=own, where=f"Docker's {pin.name}")
    return image_of_tree(tree, read, pin)


class _Connection:
    """A content service, and the connection that it is called over."""

    def __init__(self, connection: GrpcConnection) -> None:
        self.store = ContentStore(connection.client)
        self.close = connection.close


def _unreadable_error(error: Exception) -> StorageDoubtful:
    return StorageDoubtful(f"Docker's content store cannot be read through its API: {error}")
