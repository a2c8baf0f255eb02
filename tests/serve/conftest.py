"""One registry for most tests, each with a repository of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.serve.served import Repository, Served


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served") / "registry") as served:
        yield served


@pytest.fixture
def repository(served: Served, request: pytest.FixtureRequest) -> Repository:
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:100]
    return Repository(served, f"team/{name}")
