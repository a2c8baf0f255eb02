"""Chunk sizes: within the limits, all equal, and never one byte left over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.registry.upload import chunk_sizes
from pusher.registry.upload.chunk_sizes import (
    DEFAULT_CHUNK,
    Limits,
    announced_limits,
    chunk_size,
    next_length,
    smaller_size,
)
from pusher.registry.upload.profiles import DEFAULT, DISTRIBUTION, GIB, MIB, SERVERLESS, Profile

WANTED = st.one_of(st.none(), st.integers(1000, 2 * GIB))
LARGEST = st.one_of(st.none(), st.integers(20 * MIB, 500 * MIB))


def plan(total: int, size: int, profile: Profile) -> list[int]:
    lengths, offset = [], 0
    while offset < total:
        lengths.append(next_length(offset, total, size, profile))
        offset += lengths[-1]
    return lengths


@given(total=st.integers(1, 5 * GIB), wanted=WANTED, largest=LARGEST, smallest=st.integers(1, 10 * MIB))
def test_serverless_sizes(total: int, wanted: int | None, largest: int | None, smallest: int) -> None:
    limits = Limits(smallest, largest)
    size = chunk_size(total, wanted, limits, SERVERLESS)
    assert size >= max(2, smallest)
    assert largest is None or size <= largest
    count, rest = divmod(total, size)
    assert total <= size or rest != 1
    assert count + bool(rest) <= 10_000


@given(
    total=st.integers(1, 60_000),
    wanted=st.integers(100, 9000),
    profile=st.sampled_from([SERVERLESS, DEFAULT]),
)
def test_chunks_of_a_blob(total: int, wanted: int, profile: Profile) -> None:
    size = chunk_size(total, wanted, Limits(), profile)
    assert abs(size - wanted) <= 2 or size >= total
    lengths = plan(total, size, profile)
    assert sum(lengths) == total
    assert set(lengths[:-1]) <= {size}
    assert 0 < lengths[-1] <= size
    assert total == 1 or lengths[-1] > 1


@given(offset=st.integers(0, 5000), total=st.integers(2, 5000), size=st.integers(2, 900))
def test_going_on_inside_a_chunk_leaves_no_byte_either(offset: int, total: int, size: int) -> None:
    if offset >= total - 1:
        return
    while offset < total:
        length = next_length(offset, total, size, DISTRIBUTION)
        assert 1 < length <= size or (size == 2 and length == 1)
        offset += length
    assert offset == total


def test_the_smallest_part_that_keeps_to_the_number_of_parts() -> None:
    limits = Limits(1, None)
    assert chunk_size(5 * GIB, 1000, limits, SERVERLESS) == -(-5 * GIB // 10_000)
    total = 9_999 * 2000 + 1
    assert -(-total // chunk_size(total, 2000, limits, SERVERLESS)) <= 10_000


@pytest.mark.parametrize(
    ("total", "wanted", "limits", "expected"),
    [
        (100 * MIB, None, Limits(), DEFAULT_CHUNK),
        (100 * MIB, 7 * MIB, Limits(), 7 * MIB),
        (100 * MIB, 7 * MIB, Limits(8 * MIB), 8 * MIB),
        (100 * MIB, 7 * MIB, Limits(1, 6 * MIB), 6 * MIB),
        (2001, 1000, Limits(), 999),
        (2001, 1000, Limits(1000), 1001),
        (2001, 1000, Limits(1000, 1000), 1000),
        (1, 1000, Limits(), 1000),
        (0, 1000, Limits(), 1000),
    ],
)
def test_examples(total: int, wanted: int | None, limits: Limits, expected: int) -> None:
    size = chunk_size(total, wanted, limits, DEFAULT)
    assert size == expected or size == total < expected or (total < 2 and size >= 2)


NONSENSE = [
    *("", "0", "-5", "5MiB", "1e6", "0x10", "12, 13", "٣٤", "²", " ", "nan"),
    *("99999999999999999999", "1" * 5000),  # Python converts no more than 4300 digits
]


@pytest.mark.parametrize("value", NONSENSE)
def test_nonsense_in_headers_counts_as_nothing(value: str) -> None:
    headers = {"OCI-Chunk-Min-Length": value, "OCI-Chunk-Max-Length": value}
    limits = announced_limits(headers, DEFAULT)
    assert limits == Limits(1, None)
    assert announced_limits(headers, SERVERLESS) == Limits(5 * MIB, 100_000_000)


def test_announced_limits() -> None:
    headers = {"OCI-Chunk-Min-Length": "1000", "OCI-Chunk-Max-Length": " 5000 "}
    assert announced_limits(headers, SERVERLESS) == Limits(1000, 5000)
    assert announced_limits(headers, SERVERLESS, learned_max=3000) == Limits(1000, 3000)
    assert announced_limits(headers, SERVERLESS, learned_max=7000) == Limits(1000, 5000)
    assert announced_limits(headers, SERVERLESS, learned_max=10) == Limits(1000, 1000)
    assert announced_limits({}, DEFAULT, learned_max=10) == Limits(1, 10)
    assert announced_limits({"CF-RAY": "8f2e1c-FRA"}, DEFAULT) == Limits(1, 100_000_000)
    assert announced_limits({**headers, "CF-RAY": "8f2e1c-FRA"}, DEFAULT) == Limits(1000, 5000)
    assert announced_limits({"OCI-Chunk-Min-Length": "9", "OCI-Chunk-Max-Length": "3"}, DEFAULT) == Limits(
        3, 3
    )


@given(size=st.integers(2, GIB), at_most=st.integers(1, GIB), smallest=st.integers(1, 10 * MIB))
def test_smaller(size: int, at_most: int, smallest: int) -> None:
    found = smaller_size(size, Limits(smallest), at_most=at_most)
    if found is None:
        assert size <= max(smallest, 2)
    else:
        assert max(smallest, 2) <= found < size
        assert found <= max(at_most, smallest, 2)


def test_halving_ends() -> None:
    sizes = [chunk_sizes.DEFAULT_CHUNK]
    while (size := smaller_size(sizes[-1], Limits(1000), at_most=sizes[-1])) is not None:
        sizes.append(size)
    assert sizes[-1] == 1000
    assert len(sizes) < 20
