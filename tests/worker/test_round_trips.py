"""The requests of a push of six layers: on a link with latency each is a round trip.

They are counted, not timed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fakeregistry import DISTRIBUTION_3, SERVERLESS, FakeRegistry, On
from tests.support.home import Home
from tests.support.images import Image, make_image, write_archive

LAYERS = 6
SIZES = [30_000, 25_000, 20_000, 15_000, 10_000, 5_000]
BLOBS = LAYERS + 1
"""The config, too."""


@pytest.fixture(params=[DISTRIBUTION_3, SERVERLESS.scaled(min=100, max=10**6)], ids=lambda rules: rules.name)
def registry(request: pytest.FixtureRequest) -> Iterator[FakeRegistry]:
    with FakeRegistry(request.param) as registry:
        yield registry


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home", chunk_size=None, parallel=4) as home:
        yield home


def image_of(*sizes: int) -> Image:
    return make_image(*sizes, compressible=0.0)


def requests_of(home: Home, registry: FakeRegistry, archive: Path, tag: str) -> Counter[On]:
    """Push; count the requests by kind."""
    before = len(registry.log)
    home.push(archive, f"{registry.address}/app:{tag}")
    return Counter(record.kind for record in registry.log[before:])


@pytest.mark.parametrize("shape", ["docker25", "containerd"])
def test_three_requests_for_each_new_blob_and_one_for_each_known_one(
    home: Home, registry: FakeRegistry, tmp_path: Path, shape: str
) -> None:
    """From layers that are compressed here, and from blobs on disk."""
    once = Counter({On.PING: 1, On.PUT_MANIFEST: 1, On.HEAD_MANIFEST: 1})
    archive = write_archive(tmp_path / "app.tar", image_of(*SIZES), shape=shape)  # type: ignore[arg-type]
    first = requests_of(home, registry, archive, "1")
    assert first == once + Counter({On.HEAD_BLOB: BLOBS, On.OPEN: BLOBS, On.CLOSE: BLOBS})

    again = requests_of(home, registry, archive, "1")
    assert again == once + Counter({On.HEAD_BLOB: BLOBS})

    newer = write_archive(tmp_path / "newer.tar", image_of(*SIZES[:-1], 4_000), shape=shape)  # type: ignore[arg-type]
    one_new = requests_of(home, registry, newer, "2")
    of_new = Counter({On.OPEN: 2, On.CLOSE: 2})
    assert one_new == once + Counter({On.HEAD_BLOB: BLOBS}) + of_new, "the layer and the config"
