"""A short one for every day; ``python -m tests.soak`` has an hour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soak.rate import RateSamples
from tests.soak.result import lines_of_faults
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


def test_faults_are_shown_with_the_lines_around_them() -> None:
    log = "\n".join("Traceback (most recent call last):" if n == 500 else f"line {n}" for n in range(1000))
    shown = lines_of_faults(log).splitlines()
    assert shown[0] == "line 485"
    assert shown[-1] == "line 529"
    assert lines_of_faults("line 1\nline 2") == ""


def test_the_rate_of_a_fleet_is_that_of_every_window() -> None:
    """One second in which twice as much is sent is found; the beginning, the end and a pause do not count."""
    samples, count = RateSamples(4000), 0
    for tenth in range(450):
        samples.add(100 + tenth / 10, count)
        count += 0 if tenth < 50 else 20 if 200 <= tenth < 210 else 10
    rates = samples.rates()
    assert min(rates) == pytest.approx(100)
    assert max(rates) == pytest.approx(110)
    starved = RateSamples(4000)
    for tenth in range(400):
        waited = 1.5 if tenth >= 150 else 0.0
        starved.add(100 + tenth / 10, tenth * 10 - (500 if tenth >= 150 else 0), waited)
    assert starved.rates()
    assert min(starved.rates()) == pytest.approx(100), "nothing was sent for want of a processor"
    slept = RateSamples(4000)
    for tenth in range(400):
        slept.add(100 + tenth / 10 + (50 if tenth >= 150 else 0), tenth * 10)
    assert slept.rates()
    assert slept.rates() == pytest.approx([100] * len(slept.rates()))
