"""A complete deflate stream is changed so that another one can follow it, whatever its blocks are."""

from __future__ import annotations

import random
import zlib

import deflate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pusher.spool.blocks import BLOCK
from pusher.spool.final_block import continue_stream
from tests.support.images import random_bytes

NEXT = deflate.deflate_compress(b"what follows")


def text(size: int, seed: int = 0) -> bytes:
    return random_bytes(size, seed, compressible=1)


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def compressed(data: bytes, level: int = 7) -> bytes:
    return bytes(deflate.deflate_compress(data, level))


def assert_continues(stream: bytes, data: bytes) -> None:
    found = continue_stream(stream, data)
    assert found is not None
    inflate = zlib.decompressobj(-15)
    assert inflate.decompress(found + NEXT) == data + b"what follows"
    assert inflate.eof
    assert inflate.unused_data == b""
    assert len(found) <= len(stream) + 5


@pytest.mark.parametrize("level", range(13))
@pytest.mark.parametrize(
    "data",
    [
        b"x",
        bytes(BLOCK),
        text(5_000),
        text(BLOCK, 1) + bytes(100_000),
        noise(1),
        noise(65_535),
        noise(200_000),
        text(300_000) + noise(30_000),
        text(300_000) + noise(150_000),
        noise(150_000) + text(300_000),
    ],
    ids=["byte", "zeros", "block", "blocks", "tiny", "stored", "stored3", "then1", "then3", "after"],
)
def test_another_stream_follows(data: bytes, level: int) -> None:
    assert_continues(compressed(data, level), data)


@pytest.mark.parametrize("seed", range(16))
def test_wherever_the_last_bit_is(seed: int) -> None:
    """The bits of the empty block that ends the stream fit into its last byte, or do not."""
    data = text(BLOCK // 2 + 997 * seed, seed)
    assert_continues(compressed(data), data)


@pytest.mark.parametrize("level", [1, 6, 9])
def test_streams_of_other_compressors(level: int) -> None:
    data = text(BLOCK) + noise(10_000) + text(50_000, 3)
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    assert_continues(packer.compress(data) + packer.flush(), data)


def test_a_final_block_with_the_fixed_codes_is_not_found() -> None:
    data = text(300_000)
    packer = zlib.compressobj(6, zlib.DEFLATED, -15, 8, zlib.Z_FIXED)
    begun = compressed(data)
    continued = continue_stream(begun, data)
    assert continued is not None
    assert continue_stream(continued + packer.compress(b"fixed") + packer.flush(), data + b"fixed") is None


@pytest.mark.parametrize("change", ["other", "more", "less", "cut", "trailing"])
def test_what_is_not_the_stream_of_the_data_is_refused(change: str) -> None:
    data = text(400_000)
    stream = compressed(data)
    match change:
        case "other":
            data = data[:-1] + b"\0"
        case "more":
            data += b"x"
        case "less":
            data = data[:-1]
        case "cut":
            stream = stream[:-10]
        case "trailing":
            stream += bytes(20_000)
    assert continue_stream(stream, data) is None


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([text, noise]), st.integers(1, 120_000)), min_size=1, max_size=5),
    st.integers(1, 12),
)
def test_what_comes_back_is_always_right(parts: list[tuple[object, int]], level: int) -> None:
    data = b"".join(make(size, number) for number, (make, size) in enumerate(parts) if callable(make))
    found = continue_stream(compressed(data, level), data)
    assert found is None or zlib.decompress(found + NEXT, -15) == data + b"what follows"
