"""Compressing a layer: speed and size for each kind and level, by what the layer holds; and for each library.

python -m tests.benchmarks.compress [--size 64M] [--threads N]
python -m tests.benchmarks.compress --libraries [--size 64M]

``--libraries`` compares the libraries that could make gzip layers, as a layer's coder would use them: parts
of 1 MiB of real files. zlib-ng (``pip install zlib-ng``) is measured where it is installed.
"""

from __future__ import annotations

import importlib
import io
import os
import random
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import click
import zstandard
from isal import isal_zlib

from pusher.config import parse_size
from pusher.spool import coders, pipeline
from pusher.spool.compress import Compression, Kind
from tests.benchmarks.archive import files_like_real_ones
from tests.benchmarks.link import real_files, write_layer
from tests.benchmarks.measure import MIB

_LEVELS = {Kind.NONE: (0,), Kind.GZIP: (1, 2, 3, 5, 7, 10), Kind.ZSTD: (1, 3, 9, 15, 19)}
_PIECE = 256 * 1024
_WINDOW = 32 * 1024


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
@click.option("--libraries", is_flag=True, help="Compare libraries instead, on real files.")
def main(size: str, threads: int | None, libraries: bool) -> None:
    """Print MB/s by the clock, MB/s of processor time, and the share of the size that is left."""
    if libraries:
        _print_libraries(parse_size(size, "--size"))
        return
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


def _print_libraries(size: int) -> None:
    data = _real_layer(size)
    print(f"{len(data):,} bytes of real files; MB/s of one processor, share of the size")
    for name, compress in _libraries():
        started = time.thread_time()
        left = sum(
            compress(data[at - min(at, _WINDOW) : at], data[at : at + MIB]) for at in range(0, size, MIB)
        )
        spent = time.thread_time() - started
        print(f"{name:24}{len(data) / spent / 1e6:8.0f}{left / len(data):8.4f}", flush=True)


def _real_layer(size: int) -> bytes:
    with tempfile.TemporaryDirectory(prefix="pusher-benchmark-") as folder:
        layer = Path(folder, "layer.tar")
        write_layer(layer, real_files(4 * size), 4 * size)
        with layer.open("rb") as file:  # from its middle: files of one folder are too much alike
            file.seek(2 * size)
            return file.read(size)


def _libraries() -> Iterator[tuple[str, Callable[[bytes, bytes], int]]]:
    """Yield a name and a function that returns the compressed size of a part; it gets the bytes before it."""
    for level in (1, 2, 3):
        yield f"ISA-L {level}", partial(_part, isal_zlib, level, 8)
    for level in (4, 5, 6, 7, 8, 9, 10, 12):
        yield f"libdeflate {level}", partial(_continued, level)
    for level in (4, 6, 9):
        yield f"zlib {level}", partial(_part, zlib, level, 8)
    try:
        zlib_ng = importlib.import_module("zlib_ng.zlib_ng")
    except ImportError:
        print("zlib-ng is not installed: pip install zlib-ng")
    else:
        for level, memory in ((4, 7), (5, 7), (7, 6), (9, 6)):
            yield f"zlib-ng {level}, memory {memory}", partial(_part, zlib_ng, level, memory)
    yield "zstd 3", lambda _, part: len(zstandard.ZstdCompressor(level=3).compress(part))


def _part(library: ModuleType, level: int, memory: int, before: bytes, part: bytes) -> int:
    packer = library.compressobj(level, zlib.DEFLATED, -15, memory, zlib.Z_DEFAULT_STRATEGY, before)
    return len(packer.compress(part)) + len(packer.flush(zlib.Z_SYNC_FLUSH))


def _continued(level: int, _: bytes, part: bytes) -> int:
    return len(coders._compress_small(level, part))


if __name__ == "__main__":
    main()
