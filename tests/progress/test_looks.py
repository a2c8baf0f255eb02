"""What the live display looks like, kept word for word at several widths."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console, Group

from pusher.progress.counters import Counters, Snapshot
from pusher.progress.terminal import block
from tests.progress.helpers import MIB, Clock, digest
from tests.support import snapshots

FOLDER = Path(__file__).parent / "snapshots"
A, B, C, D = (digest(letter) for letter in "abcd")


class Run:
    """Counters on a clock of their own, one job begun."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.counters = Counters(self.clock, lambda: datetime(2025, 1, 31, 12, tzinfo=UTC))
        self.counters.job_started(3, "app:1.2", "registry.example.com/team/app:1.2")


def ordinary(run: Run) -> None:
    counters = run.counters
    counters.blob_done(3, D, 100 * MIB, "exists")
    counters.blob_started(3, A, 400 * MIB, 100 * MIB)
    counters.blob_started(3, B, 2048 * MIB, 0)
    counters.preparing(3, C, 0, 900 * MIB)
    run.clock.advance(10)
    counters.blob_sending(3, A, 100 * MIB)
    counters.preparing(3, C, 90 * MIB, 900 * MIB)
    counters.waiting("bbbbbbbbbbbb", 42, "the connection was reset by registry.example.com")


def first_moment(run: Run) -> None:
    """No speed is known, so no time left either."""
    run.counters.blob_started(3, A, 400 * MIB, 0)
    run.counters.blob_sending(3, A, 65536)
    run.clock.advance(0.2)


def all_has_left(run: Run) -> None:
    """The registry puts the blob together; nobody knows for how long."""
    run.counters.blob_started(3, A, 40 * MIB, 0)
    run.clock.advance(4)
    run.counters.blob_sending(3, A, 40 * MIB)


def lost_session(run: Run) -> None:
    run.counters.blob_started(3, A, 400 * MIB, 0)
    run.clock.advance(5)
    run.counters.blob_sending(3, A, 300 * MIB)
    run.counters.blob_acknowledged(3, A, 300 * MIB)
    run.counters.blob_acknowledged(3, A, 0)
    run.clock.advance(1)


def more_than_all(run: Run) -> None:
    """A registry may say anything."""
    run.counters.blob_started(3, A, 100 * MIB, 0)
    run.clock.advance(5)
    run.counters.blob_acknowledged(3, A, 150 * MIB)
    run.counters.blob_sending(3, A, 60 * MIB)


def crawling(run: Run) -> None:
    run.counters.blob_started(3, A, 900 * 1024 * MIB, 0)
    run.clock.advance(20)
    run.counters.blob_acknowledged(3, A, 3000)


def many_layers(run: Run) -> None:
    for number in range(120):
        name = f"sha256:{number:012x}" + "0" * 52
        if number < 80:
            run.counters.blob_done(3, name, 10 * MIB, "exists")
        else:
            run.counters.blob_started(3, name, 30 * MIB, 0)
            run.counters.blob_sending(3, name, number * 10_000)
    run.clock.advance(2)


def units(run: Run) -> None:
    """The widest figures there are."""
    run.counters.blob_started(3, A, round(999.9 * 1024 * MIB), 0)
    run.counters.blob_started(3, B, 512, 0)
    run.clock.advance(20)
    run.counters.blob_acknowledged(3, A, round(999.9 * MIB))
    run.counters.blob_acknowledged(3, B, 511)


STATES: tuple[Callable[[Run], None], ...] = (
    ordinary,
    first_moment,
    all_has_left,
    lost_session,
    more_than_all,
    crawling,
    many_layers,
    units,
)
WIDTHS = (20, 40, 60, 80, 120, 200)


def snapshot_of(state: Callable[[Run], None]) -> Snapshot:
    run = Run()
    state(run)
    return run.counters.snapshot()


def screen(snapshot: Snapshot, width: int, *, ascii_only: bool = False) -> str:
    """What a terminal of that width shows below the log."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, soft_wrap=True)
    console.print(Group(*block(snapshot, width=width, height=24, ascii_only=ascii_only)))
    return out.getvalue()


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_looks(state: Callable[[Run], None]) -> None:
    snapshot = snapshot_of(state)
    screens = [f"--- {width} columns\n{screen(snapshot, width)}" for width in WIDTHS]
    screens.append(f"--- 80 columns, ASCII\n{screen(snapshot, 80, ascii_only=True)}")
    snapshots.check(FOLDER / f"{state.__name__}.txt", "".join(screens))


def test_every_snapshot_belongs_to_a_state() -> None:
    snapshots.assert_all_used(FOLDER, [state.__name__ for state in STATES])


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_it_fits(state: Callable[[Run], None], ascii_only: bool) -> None:
    snapshot = snapshot_of(state)
    for width in range(10, 201):
        rows = block(snapshot, width=width, height=24, ascii_only=ascii_only)
        assert len(rows) < 24
        assert all(row.cell_len < width for row in rows)
        assert not ascii_only or all(row.plain.isascii() for row in rows)
