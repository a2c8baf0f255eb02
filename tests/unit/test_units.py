"""Bytes, shares and seconds for people."""

from __future__ import annotations

import pytest

from pusher.units import human_bytes, human_seconds, human_share


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (1023, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (100_000_000, "95.4 MiB"),
        (5 * 1024**3, "5.0 GiB"),
        (3 * 1024**4, "3.0 TiB"),
        (5000 * 1024**4, "5000.0 TiB"),
    ],
)
def test_bytes(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("done", "total", "text"),
    [
        (0, 5 * 1024**3, "0 B / 5.0 GiB"),
        (1024**3, 5 * 1024**3, "1.0 / 5.0 GiB"),
        (300 * 1024**2, 5 * 1024**3, "300.0 MiB / 5.0 GiB"),
        (0, 0, "0 / 0 B"),
    ],
)
def test_shares(done: int, total: int, text: str) -> None:
    assert human_share(done, total) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (0.4, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (252, "4m12s"),
        (3599.7, "1h00m"),
        (7500, "2h05m"),
        (86400 * 3 + 3600 * 4, "3d04h"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text
