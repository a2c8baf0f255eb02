"""Read Docker's records of the blobs of its layers (moby ``distribution/metadata``).

For each diff ID Docker keeps the digests of the blobs that it compressed the layer to when it pushed it, or
unpacked it from, verified, when it pulled it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from pusher.oci.bounded_json import load_json
from pusher.oci.digest import hex_of, is_digest
from pusher.sources.foreign_files import open_regular
from pusher.system import open_flags

_FOLDER: Final = open_flags("O_RDONLY", "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC")
_RECORDS: Final = "distribution/v2metadata-by-diffid/sha256"
_MAX_BYTES: Final = 1 << 20


class DockerRecords:
    """The records of the data root ``root``.

    They are used only if no user except root and pusher's can have written them. Otherwise, and if
    they are unreadable, none are returned.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def blob_digests(self, diff_id: str) -> frozenset[str]:
        """Return the digests of blobs that are this layer, compressed."""
        try:
            drivers = [folder.name for folder in (self._root / "image").iterdir()]
        except OSError:
            return frozenset()
        found: set[str] = set()
        for driver in drivers:
            try:
                listed = load_json(self._read("image", driver, *_RECORDS.split("/"), hex_of(diff_id)))
                found.update(str(record["Digest"]) for record in listed)
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return frozenset(filter(is_digest, found))

    def _read(self, *parts: str) -> bytes:
        """Read a file below the root. Raises OSError, also if another user could have written it."""
        *folders, name = parts
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _check_owner(descriptor)
            for folder in folders:
                below = os.open(folder, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
                _check_owner(descriptor)
            file, size = open_regular(name.encode(), descriptor)
        finally:
            os.close(descriptor)
        with os.fdopen(file, "rb") as opened:
            _check_owner(file)
            return opened.read(min(size, _MAX_BYTES))


def _check_owner(descriptor: int) -> None:
    status = os.fstat(descriptor)
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("another user may write here")
