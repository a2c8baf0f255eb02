"""The main job as a whole, smaller than in tests/benchmarks/bad_link.py and otherwise the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.bad_link import MB, push_over_bad_link
from tests.support.engines import Docker
from tests.support.fakeregistry import SERVERLESS
from tests.support.real import require

CHUNK = 2 * MB


@pytest.mark.parametrize("rate", [4 * MB], ids=lambda rate: f"reset every {rate // MB} MB")
def test_a_big_image_over_a_bad_link(dockerd: Docker, tmp_path: Path, rate: int) -> None:
    require("skopeo")
    rules = SERVERLESS.scaled(min=1 * MB, max=20 * MB)
    figures = push_over_bad_link(
        dockerd, tmp_path, layer=60 * MB, reset_every=rate, rules=rules, options=("--chunk-size", str(CHUNK))
    )
    assert (figures.kills, figures.sessions_lost) == (2, 0)
    assert figures.resets > 10
    assert figures.blobs > 60 * MB
    breaks = figures.resets + figures.kills
    assert figures.received <= figures.blobs + breaks * CHUNK, "more than a chunk was sent twice for a break"
