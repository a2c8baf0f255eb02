"""A registry like serverless-registry with small limits, and a home."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fakeregistry import DISTRIBUTION_3, SERVERLESS, FakeRegistry
from tests.support.home import CHUNK, Home
from tests.support.images import Image, make_image, write_archive


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(SERVERLESS.scaled(min=1_000, max=CHUNK)) as registry:
        yield registry


@pytest.fixture
def origin() -> Iterator[FakeRegistry]:
    """Where an image comes from."""
    with FakeRegistry(DISTRIBUTION_3) as registry:
        yield registry


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home") as home:
        yield home


@pytest.fixture
def image() -> Image:
    """Four chunks, one chunk, and a layer that fits in one request."""
    return make_image(70_000, 15_000, 300, compressible=0.0)


@pytest.fixture
def archive(tmp_path: Path, image: Image) -> Path:
    return write_archive(tmp_path / "app.tar", image)
