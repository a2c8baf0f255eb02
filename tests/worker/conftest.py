"""A registry like serverless-registry with small limits, a home, and retries that keep no test waiting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.registry import intermediaries, request_rate
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


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pause of the registry's client is a hundredth of what it is."""
    monkeypatch.setattr(request_rate, "_LEAST", 0.001)
    monkeypatch.setattr(intermediaries, "_BRIEF", 0.05)
    monkeypatch.setattr(intermediaries, "_FIRST", 0.5)  # longer than some answers of a front take
