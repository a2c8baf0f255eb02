"""Verify that the bytes sent from a file that another program may change are the blob's."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import BinaryIO, Final, Protocol

from pusher.oci.digest import digest_of_hash, hash_for

_BLOCK: Final = 4 << 20


class _Openable(Protocol):
    @property
    def start(self) -> int: ...

    def open(self) -> BinaryIO: ...


class DigestVerifier:
    """The hash of the bytes of a blob that were sent. If sending returns to an earlier offset, so does the
    hash. Used by one upload at a time."""

    def __init__(self, digest: str, size: int) -> None:
        self._digest = digest
        self._size = size
        self._begin, self._hash_at_begin = 0, hash_for(digest)
        self._end, self._hash = 0, hash_for(digest)

    def start_at(self, offset: int, blob: _Openable, check: Callable[[], None]) -> None:
        """Start at ``offset``: read the bytes before it that are not hashed yet, because an earlier process
        or a broken request sent them. ``check`` may raise to stop. Raises OSError."""
        known = [(0, hash_for(self._digest)), (self._begin, self._hash_at_begin), (self._end, self._hash)]
        nearest, found = max((each for each in known if each[0] <= offset), key=lambda each: each[0])
        found = found.copy()
        if nearest < offset:
            with blob.open() as file:
                file.seek(blob.start + nearest)
                while nearest < offset:
                    check()
                    data = file.read(min(_BLOCK, offset - nearest))
                    if not data:
                        raise OSError(errno.EINVAL, "it became shorter")
                    found.update(data)
                    nearest += len(data)
        self._begin, self._hash_at_begin = offset, found
        self.rewind()

    def rewind(self) -> None:
        """Return to the offset of ``start_at``."""
        self._end, self._hash = self._begin, self._hash_at_begin.copy()

    def may_send(self, data: bytes) -> bool:
        """Hash the next bytes; return whether they may be sent: the last ones only if the digest is right."""
        self._hash.update(data)
        self._end += len(data)
        return self._end < self._size or digest_of_hash(self._hash) == self._digest
