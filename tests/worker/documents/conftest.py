"""Registries of several kinds, and a layout to push to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fakeregistry import FakeRegistry
from tests.worker.written import ALL, Written


@pytest.fixture(params=["serverless", "distribution 2"])
def registry(request: pytest.FixtureRequest) -> Iterator[FakeRegistry]:
    with FakeRegistry(ALL[request.param]) as registry:
        yield registry


@pytest.fixture
def serverless() -> Iterator[FakeRegistry]:
    with FakeRegistry(ALL["serverless"]) as registry:
        yield registry


@pytest.fixture
def layout(tmp_path: Path) -> Written:
    return Written(tmp_path)
