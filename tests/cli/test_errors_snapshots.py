"""Every error that a user can meet, met through the real command, and its exact text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pusher.errors.catalogue import catalogue
from tests.cli import (  # noqa: F401 - fill SITUATIONS
    situations_image,
    situations_local,
    situations_registry,
    situations_source,
)
from tests.cli.conftest import Pusher
from tests.cli.world import SITUATIONS, World
from tests.support import snapshots
from tests.support.quick import hand_in

FOLDER = Path(__file__).parent / "snapshots"
NOT_BY_A_COMMAND = {
    "registry-name-unknown": "takes a minute: tests/worker/test_stall_notices.py",
    "source-stalled": "takes half an hour: tests/worker/test_stall_notices.py",
    "machine-exhausted": "needs a machine that is: tests/worker/test_machine.py",
    "store-removed": "needs a run that has it open: tests/worker/test_store_faults.py",
    "demo-failed": "needs a pusher that fails: tests/serve/test_demo.py",
    "clock-wrong": "one of many lines of pusher doctor: tests/doctor/test_network.py",
}
"""Errors that no command ends with, each with its reason."""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pusher: Pusher, home: Path) -> Iterator[World]:
    """Every pause of the worker is a hundredth of what it is."""
    hand_in(monkeypatch)
    with ExitStack() as stack:
        yield World(tmp_path, stack, monkeypatch, pusher, home)


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_is_shown(name: str, world: World) -> None:
    code, act = SITUATIONS[name]
    act(world)
    snapshots.check(FOLDER / f"{name}.txt", world.shown())
    assert "Traceback" not in world.last.err
    assert all(error.count("pusher retry") <= 1 for error in world.last.err.split("error: "))
    if entry := catalogue().get(code):
        assert world.last.code == entry.exit_code
        assert not world.errors or code in world.codes()


def test_every_snapshot_belongs_to_a_situation() -> None:
    snapshots.assert_all_used(FOLDER, SITUATIONS)


def test_every_error_of_the_catalogue_was_met() -> None:
    met = {code for code, _ in SITUATIONS.values()}
    assert set(catalogue()) - met == set(NOT_BY_A_COMMAND)
