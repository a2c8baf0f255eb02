"""Give a reader inputs, and keep those that fail."""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.fuzz.mutate import mutated
from tests.fuzz.readers import Reader, check_error

SEEDS: Final = Path(__file__).parent / "seeds"
PATIENCE: Final = 5.0
"""Seconds of processor time for an input of at most 1 MiB: what takes longer takes for ever."""


def kept(reader: Reader) -> list[bytes]:
    """Inputs that once failed."""
    return [path.read_bytes() for path in sorted((SEEDS / reader.name).glob("*"))]


def keep(reader: Reader, data: bytes) -> Path:
    """Keep an input that failed."""
    folder = SEEDS / reader.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    return path


def inputs(reader: Reader, chance: random.Random) -> Iterator[bytes]:
    """What failed once, the valid ones, and then changed ones without end."""
    seeds = [*kept(reader), *reader.seeds]
    yield from seeds
    while True:
        yield mutated(chance.choice(seeds), seeds, chance)


def attempt(reader: Reader, data: bytes) -> None:
    """Read ``data``. Raises what the reader must not raise, and AssertionError where it takes too long."""
    folder = Path(tempfile.mkdtemp(prefix="pusher-fuzz-"))
    started = time.thread_time()
    try:
        reader.read(data, folder)
    except reader.may_raise as error:
        with contextlib.suppress(UnicodeDecodeError):
            check_error(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    took = time.thread_time() - started
    assert took < PATIENCE, f"{reader.name} took {took:.1f} s for {len(data)} bytes"
