"""A short one for every day; ``python -m tests.soak`` has an hour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soak.soak import Soak
from tests.support.docker_registry import DockerRegistry


@pytest.mark.real
@pytest.mark.parametrize("seed", [7])
def test_a_while_of_everything(
    seed: int, tmp_path: Path, make_docker_registry: Callable[..., DockerRegistry]
) -> None:
    soak = Soak(tmp_path, make_docker_registry(secret="soak"), seed)
    soak.run(15, limit=60)
    assert soak.figures["blobs read back"] > 0
    assert soak.figures["freeze"] > 0
