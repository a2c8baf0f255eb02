"""Every kind of registry in turn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pusher.registry.http.body import BlobFile, Body
from tests.registry.helpers import RULES
from tests.support.fakeregistry import Rules


@pytest.fixture(params=RULES)
def kind(request: pytest.FixtureRequest) -> str:
    """Name of the rules."""
    return str(request.param)


@pytest.fixture
def rules(kind: str) -> Rules:
    return RULES[kind]


@pytest.fixture
def blob_body(tmp_path: Path) -> Callable[[], Body]:
    """Makes bodies of ten bytes."""
    path = tmp_path / "ten"
    path.write_bytes(b"0123456789")
    return lambda: Body(BlobFile("sha256:" + "0" * 64, 10, path), 0, 10)
