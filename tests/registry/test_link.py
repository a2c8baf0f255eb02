"""What is learned of the link: chunks that shrink, recover and grow."""

from __future__ import annotations

import pytest

from pusher.registry.chunks import DEFAULT_CHUNK, Limits, Stride
from pusher.registry.link import LinkFacts
from pusher.registry.profiles import (
    DEFAULT,
    DISTRIBUTION,
    DISTRIBUTION_2,
    DISTRIBUTION_3,
    MIB,
    SERVERLESS,
    Profile,
)
from pusher.registry.session import Session

FREE = Limits()


def session(size: int = DEFAULT_CHUNK, limits: Limits = FREE) -> Session:
    return Session("http://r.example/upload", size, limits, DEFAULT)


def test_a_link_that_breaks_gets_chunks_that_it_carried() -> None:
    link = LinkFacts()
    assert link.broke(session(100 * MIB), 20 * MIB) == 10 * MIB
    assert link.first_size(100 * MIB) == 10 * MIB
    assert link.first_size(None) == DEFAULT_CHUNK


def test_an_early_break_does_not_make_chunks_tiny() -> None:
    link = LinkFacts()
    assert link.broke(session(), 100) == 256 * 1024
    assert link.first_size(None) == 256 * 1024


def test_a_registry_that_takes_no_smaller_chunks_gets_the_same_again() -> None:
    limits = Limits(DEFAULT_CHUNK, None)
    assert LinkFacts().broke(session(limits=limits), 100) == DEFAULT_CHUNK


def test_whole_blobs_that_get_through_bring_the_chunks_back() -> None:
    link = LinkFacts()
    link.broke(session(), 4 * MIB)
    sizes = []
    while link.carries is not None:
        sizes.append(link.carries)
        link.got_through()
    assert sizes == [2 * MIB, 4 * MIB, 8 * MIB]
    assert link.first_size(None) == DEFAULT_CHUNK
    link.got_through()
    assert link.carries is None


@pytest.mark.parametrize("profile", [DISTRIBUTION, DISTRIBUTION_3])
def test_quick_chunks_double_up_to_below_100_mb(profile: Profile) -> None:
    stride, sizes = Stride(), []
    for _ in range(5):
        sizes.append(stride.size(DEFAULT_CHUNK, FREE, profile) // MIB)
        stride.passed(0.1)
    assert sizes == [10, 20, 40, 80, 80]
    stride.failed()
    assert stride.size(DEFAULT_CHUNK, FREE, DISTRIBUTION) == DEFAULT_CHUNK


def test_slow_chunks_stay_as_they_are() -> None:
    stride = Stride()
    stride.passed(5.0)
    assert stride.size(DEFAULT_CHUNK, FREE, DISTRIBUTION) == DEFAULT_CHUNK


@pytest.mark.parametrize("profile", [SERVERLESS, DISTRIBUTION_2, DEFAULT])
def test_where_chunks_must_not_differ_or_a_break_is_dear_they_do_not_grow(profile: Profile) -> None:
    stride = Stride()
    stride.passed(0.1)
    assert stride.size(DEFAULT_CHUNK, FREE, profile) == DEFAULT_CHUNK


@pytest.mark.parametrize(("largest", "size"), [(25 * MIB, 20), (10 * MIB, 10), (5 * MIB, 10), (None, 40)])
def test_grown_chunks_keep_to_the_limit(largest: int | None, size: int) -> None:
    stride = Stride()
    stride.passed(0.1)
    stride.passed(0.1)
    assert stride.size(DEFAULT_CHUNK, Limits(1, largest), DISTRIBUTION) == size * MIB
