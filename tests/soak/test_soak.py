"""A short one for every day; ``python -m tests.soak`` has an hour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soak.soak import Fleet, Soak
from tests.support.databases import PostgresServer
from tests.support.docker_registry import DockerRegistry


@pytest.mark.real
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [7])
def test_a_while_of_everything(
    seed: int, tmp_path: Path, make_docker_registry: Callable[..., DockerRegistry]
) -> None:
    soak = Soak(tmp_path, make_docker_registry(secret="soak"), seed)
    soak.run(5, limit=240)
    assert soak.figures["blobs read back"] > 0
    assert soak.figures["freeze"] > 0


@pytest.mark.real
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [14])
def test_a_fleet_with_one_server(
    seed: int,
    tmp_path: Path,
    make_docker_registry: Callable[..., DockerRegistry],
    postgres: PostgresServer,
) -> None:
    fleet = Fleet(machines=3, workers=2, jobs=30)
    soak = Soak(tmp_path, make_docker_registry(secret="soak"), seed, postgres, fleet)
    soak.run(5, limit=240)
    assert soak.figures["lose_machine"] > 0
