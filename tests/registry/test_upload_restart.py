"""pusher is killed at every step and started again: the journal alone must be enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.registry.helpers import CHUNK, REPOSITORY, RULES, Killed, Push, pushing
from tests.support.fakeregistry import Fault, On, ResetAfter

SIZE = 2 * CHUNK + 500
SIZES = {"one put": CHUNK, "chunks": SIZE}


def _killed(push: Push) -> bool:
    """Run until the kill; then a new process goes on. Whether the kill struck."""
    try:
        push.run(restart=True)
        return False
    except Killed:
        push.journal.kill_at = push.watch.kill_at = None
        push.restart()
        push.run(restart=True)
        return True


def _assert_right(push: Push, kind: str) -> None:
    assert push.registry.blob(REPOSITORY, push.digest) == push.data
    assert push.intent.wrong == []
    lost = push.journal.lost_bytes
    assert push.registry.body_bytes_received() <= push.blob.size + CHUNK + lost
    assert len(push.journal.lost_sessions) <= (1 if kind == "distribution-2" else 0)
    # the one session that may be open for good is that of an answer which nobody lived to write down
    assert len(push.registry.sessions) <= len(push.journal.lost_sessions) + 1


@pytest.mark.parametrize("before", [True, False], ids=["before it is durable", "after it is durable"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_killed_at_every_entry_of_the_journal(kind: str, before: bool, size: int, tmp_path: Path) -> None:
    steps = 0
    while True:
        with pushing(RULES[kind], tmp_path, size=size) as push:
            push.journal.kill_at, push.journal.kill_before = steps + 1, before
            struck = _killed(push)
            _assert_right(push, kind)
        if not struck:
            break
        steps += 1
    assert steps >= (8 if size == SIZE else 3)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_killed_at_every_moment_that_the_onlooker_sees(kind: str, size: int, tmp_path: Path) -> None:
    steps = 0
    while True:
        with pushing(RULES[kind], tmp_path, size=size) as push:
            push.watch.kill_at = steps + 1
            struck = _killed(push)
            _assert_right(push, kind)
        if not struck:
            break
        steps += 1
    assert steps >= (12 if size == SIZE else 4)


def test_killed_while_recovering_from_a_reset(kind: str, tmp_path: Path) -> None:
    steps = 0
    while True:
        with pushing(RULES[kind], tmp_path, size=SIZE) as push:
            push.registry.faults.add(Fault(On.CHUNK, ResetAfter(1500), nth=2))
            push.journal.kill_at = steps + 1
            struck = _killed(push)
            assert push.registry.blob(REPOSITORY, push.digest) == push.data
            assert push.registry.body_bytes_received() <= SIZE + 2 * CHUNK + push.journal.lost_bytes
        if not struck:
            break
        steps += 1
    assert steps >= 9


def test_graceful_stop_between_chunks_resumes_everywhere(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path, size=SIZE) as push:
        push.watch.then[CHUNK] = lambda: setattr(push.watch, "kill_at", push.watch.calls + 1)
        with pytest.raises(Killed):
            push.run()
        assert push.journal.session is not None
        assert (push.journal.session.offset, push.journal.session.in_flight) == (CHUNK, 0)
        push.watch.kill_at = None
        push.restart()
        push.run()
        push.assert_there(faults=0)
