"""The image that is pushed: a docker-archive, half of it noise, half of it like real files.

The same size always gives the same bytes. Memory stays small, whatever the size.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import struct
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

_NOISE: Final = (4, 4)
_FILES: Final = (4, 8, 16, 16)
"""Layers of each kind; 4 stands for a fourth of the image."""
_POOL: Final = 8 * 1024 * 1024
_GZIP_WINDOW: Final = 32 * 1024


def write_archive(path: Path, size: int) -> None:
    """Write a docker-archive whose layers hold ``size`` bytes of files, as `docker save` before 25 does."""
    source = random.Random(size)
    contents = ((source.randbytes, _NOISE), (_pieces_of(_pool(source), source), _FILES))
    layers = [(size // share, content) for content, shares in contents for share in shares]
    diff_ids: list[str] = []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for number, (length, content) in enumerate(layers):
            layer = path.with_name(f"layer-{number}.tar")
            diff_ids.append(_write_layer(layer, length, content, source))
            with layer.open("rb") as file:
                archive.addfile(_member(f"{number:064x}/layer.tar", layer.stat().st_size), file)
            layer.unlink()
        for entry, data in image_entries(diff_ids, "localhost/benchmark:1"):
            archive.addfile(entry, io.BytesIO(data))


def image_entries(diff_ids: Sequence[str], name: str) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yield what follows the layers in an archive, ``<number>/layer.tar`` each: config and manifest.json."""
    config = _json(
        {
            "architecture": "amd64",
            "config": {"Cmd": ["/none"]},
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        }
    )
    path = f"{hashlib.sha256(config).hexdigest()}.json"
    layers = [f"{number:064x}/layer.tar" for number in range(len(diff_ids))]
    image = {"Config": path, "RepoTags": [name], "Layers": layers}
    for entry, data in ((path, config), ("manifest.json", _json([image]))):
        yield _member(entry, len(data)), data


def _write_layer(path: Path, size: int, content: Callable[[int], bytes], source: random.Random) -> str:
    """A tar with files of up to 1 MiB; its diff ID."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        left, number = size, 0
        while left:
            length = min(left, source.randint(1, 1024 * 1024))
            name = f"usr/{path.stem}/{number // 100}/{number}"
            tar.addfile(_member(name, length), io.BytesIO(content(length)))
            left, number = left - length, number + 1
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def files_like_real_ones(size: int, source: random.Random) -> bytes:
    """``size`` bytes, half of them words and half tables."""
    return _pieces_of(_pool(source), source)(size)


def _pool(source: random.Random) -> bytes:
    """Half lines of words as often as words are, half tables of small numbers as in programs."""
    letters = "etaoinshrdlucmfwypvbgkqjxz_."
    words = ["".join(source.choices(letters, k=source.randint(1, 12))) for _ in range(20_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    text = io.BytesIO()
    while text.tell() < _POOL // 2:
        indent = " " * source.randrange(0, 16, 4)
        text.write(f"{indent}{' '.join(source.choices(words, weights, k=200))}\n".encode())
    table = io.BytesIO()
    value = 0
    while table.tell() < _POOL // 2:
        value += source.randrange(0, 4096, 8)
        table.write(
            struct.pack("<IHH", value & 0xFFFFFFFF, source.choice((0, 0, 1, 7)), source.randrange(256))
        )
    return text.getvalue() + table.getvalue()


def _pieces_of(pool: bytes, source: random.Random) -> Callable[[int], bytes]:
    """Content cut from the pool at random: gzip looks back 32 KiB and hardly ever meets a piece twice."""

    def cut(size: int) -> Iterator[bytes]:
        while size:
            length = min(size, 2 * _GZIP_WINDOW)
            start = source.randrange(len(pool) - length)
            yield pool[start : start + length]
            size -= length

    return lambda size: b"".join(cut(size))


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o644, 1_600_000_000
    return member


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
