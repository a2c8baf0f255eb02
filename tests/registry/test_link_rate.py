"""The rate of a link: what all uploads together got through, while any of them was sending."""

from __future__ import annotations

import pytest

from pusher.registry.upload.link_rate import LinkRate

MB = 1_000_000


class Chunks:
    """Chunks with the time at which they begin and their duration, recorded as they end."""

    def __init__(self, *chunks: tuple[float, float, int], known: float | None = None) -> None:
        now = [0.0]
        self.rate = LinkRate(known, clock=lambda: now[0])
        for begin, seconds, size in sorted(chunks, key=lambda chunk: chunk[0] + chunk[1]):
            now[0] = begin + seconds
            self.rate.record_chunk(size, seconds)

    def of(self) -> float | None:
        return self.rate.bytes_per_second


def test_nothing_is_known_before_the_first_large_chunk() -> None:
    assert Chunks().of() is None
    assert Chunks(known=5.0).of() == 5.0
    assert Chunks((0, 0.1, 200_000), known=5.0).of() == 5.0, "this is the response time"


def test_one_upload() -> None:
    assert Chunks((0, 2, 10 * MB), (2, 2, 10 * MB)).of() == pytest.approx(5 * MB)


def test_pauses_between_chunks_do_not_count() -> None:
    assert Chunks((0, 2, 10 * MB), (60, 2, 10 * MB)).of() == pytest.approx(5 * MB)


def test_uploads_at_the_same_time_share_the_link() -> None:
    four = [(0.0, 8.0, 10 * MB)] * 4
    assert Chunks(*four).of() == pytest.approx(5 * MB)
    assert Chunks((0, 10, 30 * MB), (4, 2, 10 * MB), (8, 4, 20 * MB)).of() == pytest.approx(5 * MB)


def test_what_was_measured_replaces_what_was_known() -> None:
    assert Chunks((0, 1, 10 * MB), known=1.0).of() == pytest.approx(10 * MB)


def test_a_link_that_becomes_slow_is_noticed() -> None:
    fast = [(float(n), 1.0, 10 * MB) for n in range(16)]
    slow = [(20.0 + n, 1.0, 300_000) for n in range(16)]
    assert Chunks(*fast, *slow).of() == pytest.approx(300_000)


def test_the_response_time_of_a_config_is_not_counted() -> None:
    """0.1 s of 0.15 s were waiting: the link takes 40 MB/s, not 13."""
    assert Chunks((0, 0.1, 2000), (1, 0.15, 2 * MB)).of() == pytest.approx(2 * MB / 0.075)
    assert Chunks((0, 0.1, 2000), (1, 0.5, 16 * MB)).of() == pytest.approx(40 * MB)


def test_chunks_in_no_time_have_a_rate() -> None:
    assert Chunks((0, 0.0, 2 * MB)).of() == pytest.approx(2e9)
