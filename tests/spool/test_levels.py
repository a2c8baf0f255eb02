"""Which gzip level a link gets: a few fixed ones, and no other while its rate is about the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pusher.spool.levels import FAST, choose_level, first_level

MB = 1e6
RATES = st.floats(1, 1e10)
PROCESSORS = st.integers(1, 64)


@pytest.mark.parametrize(
    ("rate", "processors", "expected"),
    [
        (0.1 * MB, 1, 10),
        (5 * MB, 2, 10),
        (5 * MB, 1, 7),
        (12 * MB, 2, 7),
        (15 * MB, 1, 5),
        (40 * MB, 2, 5),
        (40 * MB, 1, FAST),
        (40 * MB, 16, 10),
        (100 * MB, 2, FAST),
        (120 * MB, 8, 5),
        (70 * MB, 8, 7),
        (1000 * MB, 64, FAST),
    ],
)
def test_the_smallest_that_the_processors_make_in_time(rate: float, processors: int, expected: int) -> None:
    assert choose_level(rate, processors) == expected


@pytest.mark.parametrize(
    ("response", "processors", "expected"),
    [
        (None, 2, FAST),
        (0.0, 2, FAST),
        (0.029, 64, FAST),
        (0.031, 0.2, 5),
        (0.031, 1, 5),
        (0.031, 1.4, 7),
        (0.031, 2, 7),
        (0.031, 3, 7),
        (0.031, 8, 10),
        (3.0, 2, 7),
    ],
)
def test_an_unknown_link_to_far_away_is_not_taken_for_a_fast_one(
    response: float | None, processors: float, expected: int
) -> None:
    assert first_level(response, processors) == expected


@pytest.mark.parametrize(
    ("response", "elsewhere", "expected"),
    [
        (0.02, 5 * MB, 10),
        (0.02, 40 * MB, 5),
        (0.02, 200 * MB, FAST),
        (0.1, 5 * MB, 10),
        (0.1, 30 * MB, 5),
        (0.1, 200 * MB, 5),
    ],
)
def test_what_another_registry_got_tells_of_an_unknown_link(
    response: float, elsewhere: float, expected: int
) -> None:
    assert first_level(response, 2, elsewhere) == expected


@given(RATES, RATES, PROCESSORS)
def test_a_faster_link_never_gets_a_slower_level(one: float, other: float, processors: int) -> None:
    slow, fast = sorted((one, other))
    assert choose_level(slow, processors) >= choose_level(fast, processors)


@given(RATES, PROCESSORS, PROCESSORS)
def test_more_processors_never_get_a_faster_level(rate: float, one: int, other: int) -> None:
    few, many = sorted((one, other))
    assert choose_level(rate, many) >= choose_level(rate, few)


@given(RATES, PROCESSORS, st.floats(0.81, 1.24))
def test_a_rate_that_wavers_keeps_its_level(rate: float, processors: int, change: float) -> None:
    level = choose_level(rate, processors)
    assert choose_level(rate * change, processors, level) == level


@given(RATES, PROCESSORS, st.sampled_from([None, 2, 5, 6, 7, 9, 10]))
def test_the_level_before_matters_near_the_limits_alone(
    rate: float, processors: int, before: int | None
) -> None:
    level = choose_level(rate, processors, before)
    assert level in (2, 5, 7, 10)
    assert choose_level(rate * 1.25, processors) <= level <= choose_level(rate / 1.25, processors)
