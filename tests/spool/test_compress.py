"""Compression: valid gzip, the same bytes every time, however the input arrives."""

from __future__ import annotations

import gzip
import io
import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pusher.errors import InvalidOption
from pusher.spool import compress, pipeline
from tests.support.images import random_bytes, sha256

LEVELS = range(1, 10)


class Dribble(io.RawIOBase):
    """A pipe-like stream: every read gives between 1 byte and what was asked for."""

    def __init__(self, data: bytes, seed: int) -> None:
        self._data = io.BytesIO(data)
        self._random = random.Random(seed)

    def read(self, size: int = -1) -> bytes:
        return self._data.read(self._random.randint(1, size))


def run(stream: object, level: int = 2) -> tuple[pipeline.Compressed, bytes]:
    output = bytearray()
    found = pipeline.compress(stream, output.extend, level=level)  # type: ignore[arg-type]
    return found, bytes(output)


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_gives_gzip_with_right_digests_and_a_bare_header(level: int) -> None:
    data = random_bytes(3 * pipeline.BLOCK + 12345)
    found, output = run(io.BytesIO(data), level)
    assert gzip.decompress(output) == data
    assert (found.diff_id, found.uncompressed_size) == (sha256(data), len(data))
    assert (found.digest, found.size) == (sha256(output), len(output))
    # magic, deflate, no flags (so no name), time 0
    assert output[:8] == b"\x1f\x8b\x08\x00\0\0\0\0"


@pytest.mark.parametrize("level", [1, 2, 3, 6])
@pytest.mark.parametrize("seed", [1, 2])
def test_bytes_do_not_depend_on_how_the_input_arrives(level: int, seed: int) -> None:
    data = random_bytes(2 * pipeline.BLOCK + 777)
    assert run(Dribble(data, seed), level) == run(io.BytesIO(data), level)


@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=5000), level=st.sampled_from(LEVELS))
def test_any_bytes_come_back_and_always_compress_to_the_same(data: bytes, level: int) -> None:
    found, output = run(io.BytesIO(data), level)
    assert gzip.decompress(output) == data
    assert run(io.BytesIO(data), level) == (found, output)


def test_incompressible_data_hardly_grows() -> None:
    data = random_bytes(2_000_000, compressible=0.0)
    for level in LEVELS:
        assert run(io.BytesIO(data), level)[0].size < len(data) * 1.001 + 64


@pytest.mark.parametrize("level", [0, -1, 10, 100])
def test_a_level_that_does_not_exist_is_refused_with_what_does(level: int) -> None:
    for function in (compress.compressor, compress.label, compress.check_level):
        with pytest.raises(InvalidOption) as caught:
            function(level)
        assert str(level) in caught.value.message
        assert "1" in caught.value.hint
        assert "9" in caught.value.hint


def test_the_label_names_library_version_and_level() -> None:
    assert compress.label(2).startswith("isal-")
    assert compress.label(2).endswith(":2")
    assert compress.label(6).startswith("zlib-")
    assert compress.label(3) != compress.label(2)


def test_bytes_are_counted_on_the_callers_thread() -> None:
    data, seen = random_bytes(2 * pipeline.BLOCK + 5), []

    def count(size: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        seen.append(size)

    pipeline.compress(io.BytesIO(data), lambda _: None, level=1, on_bytes=count)
    assert seen == [pipeline.BLOCK, pipeline.BLOCK, 5]


class _GivenUpError(Exception):
    pass


def test_a_stop_ends_the_work_and_its_thread() -> None:
    before = threading.active_count()
    written = bytearray()

    def stop() -> None:
        raise _GivenUpError

    with pytest.raises(_GivenUpError):
        pipeline.compress(io.BytesIO(bytes(50 * pipeline.BLOCK)), written.extend, level=1, check_stop=stop)
    assert threading.active_count() == before
    assert len(written) < pipeline.BLOCK


def test_an_error_while_reading_comes_out_and_the_thread_ends() -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise _GivenUpError

    before = threading.active_count()
    with pytest.raises(_GivenUpError):
        run(Broken())
    assert threading.active_count() == before


@pytest.mark.parametrize("size", [10, 20 * pipeline.BLOCK])
def test_an_error_while_writing_comes_out_for_short_and_long_input(size: int) -> None:
    def write(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    before = threading.active_count()
    with pytest.raises(OSError, match="No space"):
        pipeline.compress(io.BytesIO(bytes(size)), write, level=1)
    assert threading.active_count() == before


def test_memory_is_bounded_when_the_disk_is_slower_than_the_source() -> None:
    """The reader is never more than the queue ahead of the writer."""
    read = written = 0
    furthest = 0
    lock = threading.Lock()

    class Source(io.RawIOBase):
        left = 40

        def read(self, size: int = -1) -> bytes:
            nonlocal read
            if not self.left:
                return b""
            self.left -= 1
            with lock:
                read += 1
            return random.Random(self.left).randbytes(pipeline.BLOCK)

    def write(data: bytes) -> None:
        nonlocal written, furthest
        with lock:
            written += 1
            furthest = max(furthest, read - written)

    pipeline.compress(Source(), write, level=1)  # type: ignore[arg-type]
    assert read == 40
    assert furthest <= 2 * (pipeline._QUEUED + 2)
