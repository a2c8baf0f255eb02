"""Generate an image for the demo: an archive as ``docker save`` writes it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import BinaryIO, Final

_BLOCK: Final = 1 << 20


def write_image(path: Path, name: str, sizes: list[int]) -> None:
    """Write an image with incompressible layers of these sizes in bytes."""
    with tarfile.open(path, "w") as archive:
        diff_ids = [_add_layer(archive, f"layer{number}.tar", size) for number, size in enumerate(sizes)]
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        _add(archive, "config.json", json.dumps(config).encode())
        layers = [f"layer{number}.tar" for number in range(len(sizes))]
        listed = [{"Config": "config.json", "RepoTags": [name], "Layers": layers}]
        _add(archive, "manifest.json", json.dumps(listed).encode())


def _add_layer(archive: tarfile.TarFile, name: str, size: int) -> str:
    """Return its diff ID."""
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as layer:
            member = tarfile.TarInfo(name.replace("tar", "bin"))
            member.size = size
            layer.addfile(member, _Random(size))
        length = file.tell()
        file.seek(0)
        found = hashlib.file_digest(file, "sha256")
        _add(archive, name, file, length)
        return f"sha256:{found.hexdigest()}"


def _add(archive: tarfile.TarFile, name: str, data: bytes | BinaryIO, size: int | None = None) -> None:
    member = tarfile.TarInfo(name)
    if isinstance(data, bytes):
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    else:
        member.size = size or 0
        data.seek(0)
        archive.addfile(member, data)


class _Random:
    """A file of random bytes."""

    def __init__(self, size: int) -> None:
        self._left = size

    def read(self, size: int = _BLOCK) -> bytes:
        size = min(size, self._left)
        self._left -= size
        return os.urandom(size)
