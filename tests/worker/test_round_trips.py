"""The requests of a push of six layers: on a link with latency each is a round trip.

They are counted, not timed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.fakeregistry import DISTRIBUTION_3, SERVERLESS, FakeRegistry, On
from tests.support.home import CHUNK, Home
from tests.support.images import Image, make_image, write_archive
from tests.support.tokens import TokenServer, demand

LAYERS = 6
SIZES = [30_000, 25_000, 20_000, 15_000, 10_000, 5_000]
BLOBS = LAYERS + 1
"""The config, too."""
ONCE = Counter({On.PING: 1, On.PUT_MANIFEST: 1, On.HEAD_MANIFEST: 1})
"""Requests that each push makes once."""


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
    archive = write_archive(tmp_path / "app.tar", image_of(*SIZES), shape=shape)  # type: ignore[arg-type]
    first = requests_of(home, registry, archive, "1")
    assert first == ONCE + Counter({On.HEAD_BLOB: BLOBS, On.OPEN: BLOBS, On.CLOSE: BLOBS})

    again = requests_of(home, registry, archive, "1")
    assert again == ONCE + Counter({On.HEAD_BLOB: BLOBS})

    newer = write_archive(tmp_path / "newer.tar", image_of(*SIZES[:-1], 4_000), shape=shape)  # type: ignore[arg-type]
    one_new = requests_of(home, registry, newer, "2")
    of_new = Counter({On.OPEN: 2, On.CLOSE: 2})
    assert one_new == ONCE + Counter({On.HEAD_BLOB: BLOBS}) + of_new, "the layer and the config"


def test_in_chunks_each_blob_takes_no_other_requests_than_its_chunks(home: Home, tmp_path: Path) -> None:
    """But for one, to find out what this registry keeps of a broken chunk: once, whoever asks."""
    sizes = [70_000 + 100 * number for number in range(LAYERS)]
    archive = write_archive(tmp_path / "app.tar", image_of(*sizes), shape="containerd")
    home.settings = replace(home.settings, chunk_size=CHUNK)
    with FakeRegistry(DISTRIBUTION_3) as registry:
        first = requests_of(home, registry, archive, "1")
        chunks = len(registry.chunks)
        assert chunks == LAYERS * 4
        expected = Counter({On.HEAD_BLOB: BLOBS, On.OPEN: BLOBS, On.CHUNK: chunks, On.CLOSE: BLOBS})
        assert first == expected + ONCE + Counter({On.STATUS: 1})
        assert home.store.facts.get(registry.address).profile == "distribution-3"
        assert len({record.connection for record in registry.log}) <= 6, "they are kept"


def test_one_token_for_all_requests(home: Home, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "app.tar", image_of(*SIZES))
    with TokenServer(login=("ann", "s3cr3t")) as tokens, FakeRegistry(DISTRIBUTION_3) as registry:
        registry.faults.add(demand(tokens))
        home.settings = replace(home.settings, username="ann", password="s3cr3t")
        first = requests_of(home, registry, archive, "1")
        assert [asked.scopes for asked in tokens.asked] == [("repository:app:pull,push",)]
        assert first == ONCE + Counter({On.HEAD_BLOB: BLOBS, On.OPEN: BLOBS, On.CLOSE: BLOBS})
