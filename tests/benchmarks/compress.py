"""Compressing a layer: speed and size for each kind and level, by what the layer holds.

python -m tests.benchmarks.compress [--size 64M] [--threads N]
"""

from __future__ import annotations

import io
import os
import random
import time
from collections.abc import Callable

import click

from pusher.config import parse_size
from pusher.spool import pipeline
from pusher.spool.compress import Compression, Kind
from tests.benchmarks.archive import files_like_real_ones

_LEVELS = {Kind.NONE: (0,), Kind.GZIP: (1, 2, 3, 4, 6, 9), Kind.ZSTD: (1, 3, 9, 15, 19)}
_PIECE = 256 * 1024


def _contents(size: int) -> dict[str, bytes]:
    """Random bytes, what is like real files, and both in turn."""
    source = random.Random(size)
    noise, files = source.randbytes(size), files_like_real_ones(size, source)
    pieces: list[Callable[[int], bytes]] = [
        lambda at: noise[at : at + _PIECE],
        lambda at: files[at : at + _PIECE],
    ]
    turns = (pieces[number % 2](at) for number, at in enumerate(range(0, size, _PIECE)))
    return {"random": noise, "files": files, "mixed": b"".join(turns)}


@click.command()
@click.option("--size", default="64M", show_default=True, help="Bytes of a layer.")
@click.option("--threads", type=int, help="Threads of a compression; default: one a processor.")
def main(size: str, threads: int | None) -> None:
    """Print MB/s by the clock, MB/s of processor time, and the share of the size that is left."""
    contents = _contents(parse_size(size, "--size"))
    print(f"{os.cpu_count()} processors; MB/s by the clock, MB/s of processor time, ratio")
    print(f"{'':10}" + "".join(f"{name:>24}" for name in contents))
    for kind, levels in _LEVELS.items():
        for level in levels:
            how = Compression(kind, level, threads)
            print(f"{how!s:10}" + "".join(_figures(data, how) for data in contents.values()), flush=True)


def _figures(data: bytes, how: Compression) -> str:
    clock, processor = time.perf_counter(), time.process_time()
    found = pipeline.compress(io.BytesIO(data), len, how=how)
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    return f"{len(data) / clock / 1e6:8.0f}{len(data) / processor / 1e6:8.0f}{found.size / len(data):8.3f}"


if __name__ == "__main__":
    main()
