"""Every kind of registry in turn."""

from __future__ import annotations

import pytest

from tests.registry.helpers import RULES
from tests.support.fakeregistry import Rules


@pytest.fixture(params=RULES)
def kind(request: pytest.FixtureRequest) -> str:
    """Name of the rules."""
    return str(request.param)


@pytest.fixture
def rules(kind: str) -> Rules:
    return RULES[kind]
