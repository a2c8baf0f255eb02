"""That what is sent of a file that others may change is the blob: hashed as it goes out."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import BinaryIO, Final, Protocol

from pusher.oci.digest import hash_for, named

_BLOCK: Final = 4 << 20


class _Opened(Protocol):
    @property
    def start(self) -> int: ...

    def open(self) -> BinaryIO: ...


class Proof:
    """The hash of a blob's ``size`` bytes as far as they were sent; where sending goes back to what the
    registry has, so does the hash. For one upload at a time."""

    def __init__(self, digest: str, size: int) -> None:
        self._digest = digest
        self._size = size
        self._begin, self._hash_at_begin = 0, hash_for(digest)
        self._end, self._hash = 0, hash_for(digest)

    def go_to(self, offset: int, blob: _Opened, check: Callable[[], None]) -> None:
        """What is sent next begins at ``offset``. Bytes before it that an earlier process sent, or a request
        that broke, are read again. ``check`` may raise to leave. Raises OSError."""
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
        self.go_back()

    def go_back(self) -> None:
        """What was sent since ``go_to`` is sent a second time."""
        self._end, self._hash = self._begin, self._hash_at_begin.copy()

    def takes(self, data: bytes) -> bool:
        """Whether the next bytes may be sent: the blob's last ones only if all have the digest."""
        self._hash.update(data)
        self._end += len(data)
        return self._end < self._size or named(self._hash) == self._digest
