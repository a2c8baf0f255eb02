"""The worker's home and image for the doctor's checks, too, and a registry where all is well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry
from tests.worker.conftest import archive, home, image, origin

__all__ = ["archive", "home", "image", "origin"]


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(DISTRIBUTION_3) as running:
        yield running


@pytest.fixture
def to(registry: FakeRegistry) -> str:
    return f"{registry.address}/team/app:1.2"
