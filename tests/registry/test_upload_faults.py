"""Every fault at every kind of registry: the right bytes get there, and hardly any twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.registry.helpers import CHUNK, RULES, SIZE, pushing
from tests.support.fakeregistry import (
    Action,
    Answer,
    AnswerAfterEffect,
    CloseAfter,
    DropReply,
    Fault,
    ForgetSession,
    LieRange,
    On,
    RefuseRange,
    ResetAfter,
    bad_gateway,
    busy,
    unauthorized,
)

TWO: Final = {"distribution-2": 1}
"""2.x loses a session that has grown unseen."""
TOLD_APART: Final = ("distribution-2", "distribution-3")
ALL: Final = dict.fromkeys(RULES, 1)


@dataclass
class Row:
    """What goes wrong, and how many sessions that costs."""

    name: str
    faults: tuple[tuple[On, Action, int], ...]
    """Kind of request, what happens, to the how-manieth."""
    losses: Mapping[str, int] = field(default_factory=dict)
    excess: int = CHUNK
    """Bytes at most sent twice where no session is lost."""
    leaks: int = 0
    """Sessions that nobody can know of."""
    only: tuple[str, ...] = tuple(RULES)


def one(name: str, on: On, action: Action, nth: int = 1, **more: object) -> Row:
    return Row(name, ((on, action, nth),), **more)  # type: ignore[arg-type]


def refused(status: int) -> Action:
    if status in (429, 503):
        return busy("0", status=status)
    return bad_gateway(status)


LOST_REPLY: Final = (On.CHUNK, DropReply(), 2)
ROWS: Final = [
    # the connection
    one("reset in the middle of the first chunk", On.CHUNK, ResetAfter(1500), losses=TWO),
    one("reset in the middle of a chunk", On.CHUNK, ResetAfter(1500), 3, losses=TWO),
    one("reset in the middle of the last chunk", On.CHUNK, ResetAfter(700), 5, losses=TWO),
    one("reset before a chunk's first byte", On.CHUNK, ResetAfter(0), 3),
    one("reset after a chunk's last byte", On.CHUNK, ResetAfter(CHUNK), 3, losses=TWO),
    one("reset between chunks", On.CHUNK, CloseAfter(reset=True), 2, excess=CHUNK),
    one("connection closed between chunks", On.CHUNK, CloseAfter(), 2),
    one("reply to a chunk lost", On.CHUNK, DropReply(), 2, losses=TWO, excess=0),
    one("reply to a chunk reset", On.CHUNK, DropReply(reset=True), 2, losses=TWO, excess=0),
    one("reply to the last chunk lost", On.CHUNK, DropReply(), 5, losses=TWO, excess=0),
    one("reply to the opening lost", On.OPEN, DropReply(), excess=0, leaks=1),
    one("reply to the closing lost", On.CLOSE, DropReply(), excess=0),
    one("reset of the closing", On.CLOSE, ResetAfter(0), excess=0),
    one("reply to HEAD lost", On.HEAD_BLOB, DropReply(), excess=0),
    one("greeting cut", On.PING, ResetAfter(0), excess=0),
    Row("reply to the status lost", (LOST_REPLY, (On.STATUS, DropReply(), 1)), losses=TWO, excess=0),
    Row(
        "resets without end", tuple((On.CHUNK, ResetAfter(100), n) for n in (2, 3, 4)), {"distribution-2": 3}
    ),
    # answers
    *(
        one(f"{status} to {on.value}", on, refused(status), 3 if on is On.CHUNK else 1)
        for status in (429, 500, 502, 503, 504)
        for on in (On.HEAD_BLOB, On.OPEN, On.CHUNK, On.CLOSE)
    ),
    *(
        Row(f"{status} to the status", (LOST_REPLY, (On.STATUS, refused(status), 1)), TWO, excess=0)
        for status in (429, 500, 503)
    ),
    one("busy without Retry-After", On.CHUNK, busy(), 3),
    one("a chunk is taken, a front says 502", On.CHUNK, AnswerAfterEffect(502), 3, losses=TWO, excess=0),
    one("the blob is closed, a front says 504", On.CLOSE, AnswerAfterEffect(504), excess=0),
    one("the blob is closed, the registry says 500", On.CLOSE, AnswerAfterEffect(500), excess=0),
    *(
        one(f"401 to {on.value}", on, unauthorized(), 3 if on is On.CHUNK else 1)
        for on in (On.HEAD_BLOB, On.OPEN, On.CHUNK, On.CLOSE)
    ),
    Row("401 to the status", ((On.CHUNK, ResetAfter(0), 2), (On.STATUS, unauthorized(), 1))),
    one("416 with the position", On.CHUNK, RefuseRange(), 3),
    one("416 without a position", On.CHUNK, RefuseRange(positioned=False), 3),
    one("416 to the first chunk", On.CHUNK, RefuseRange(positioned=False)),
    # lost sessions
    one("session gone before a chunk", On.CHUNK, ForgetSession(), 3, losses=ALL),
    one("session gone before the closing", On.CLOSE, ForgetSession(), losses=ALL),
    Row("session gone after a lost reply", (LOST_REPLY, (On.STATUS, ForgetSession(), 1)), ALL),
    # lies
    *(
        one(f"a chunk's Range {name}", On.CHUNK, lie, 3)
        for name, lie in {
            "too high": LieRange(by=1000),
            "too low": LieRange(by=-1000),
            "one too high": LieRange(by=1),
            "garbage": LieRange(text="0-many"),
            "missing": LieRange(text=""),
            "empty": LieRange(text="0-0"),
            "of the chunk only": LieRange(text="8000-11999"),
        }.items()
    ),
    *(
        Row(f"the status's Range {name}", (LOST_REPLY, (On.STATUS, lie, 1)), losses=ALL)
        for name, lie in {
            "too high": LieRange(by=1),
            "below what was acknowledged": LieRange(by=-CHUNK - 1),
            "garbage": LieRange(text="none"),
            "missing": LieRange(text=""),
        }.items()
    ),
    Row(
        "the status's Range inside a chunk of a registry that takes whole ones",
        (LOST_REPLY, (On.STATUS, LieRange(by=-1), 1)),
        losses=ALL,
        only=("serverless",),
    ),
]


@pytest.mark.parametrize("restart", [False, True], ids=["same process", "restarted"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_fault(row: Row, kind: str, restart: bool, tmp_path: Path) -> None:
    if kind not in row.only:
        return
    learned = kind if kind in TOLD_APART else None  # else the first status is not about a doubt
    with pushing(RULES[kind], tmp_path, learned=learned) as push:
        push.registry.faults.add(*(Fault(on, action, nth=nth) for on, action, nth in row.faults))

        assert push.run(restart=restart) == "uploaded"

        push.registry.faults.assert_all_fired()
        losses = row.losses.get(kind, 0)
        push.assert_there(losses=losses, faults=len(row.faults), leaks=row.leaks)
        if not losses:
            assert push.excess <= row.excess * len(row.faults)
            assert push.journal.chunk_sizes[-1] == CHUNK


def test_undisturbed_push_sends_every_byte_once(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        assert push.run() == "uploaded"
        push.assert_there(faults=0)
        assert push.registry.chunks == [CHUNK] * 4 + [SIZE - 4 * CHUNK]
        calls = ["record_session"] + ["record_chunk", "record_offset"] * 5 + ["record_closing"]
        if kind in TOLD_APART:
            calls[3:3] = ["record_facts", "record_profile"]
        assert push.journal.calls == calls
        assert push.watch.offsets == [4000, 8000, 12000, 16000, 17500]
        assert {0, CHUNK, SIZE - 4 * CHUNK} <= set(push.watch.in_flight)


def test_answers_with_retry_after_say_how_long(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.registry.faults.add(
            Fault(On.CHUNK, busy("7"), nth=2), Fault(On.CLOSE, busy("11", status=429)), Fault(On.OPEN, busy())
        )
        push.run()
        assert [error.retry_after for error in push.errors] == [None, 7.0, 11.0]


def test_busy_closings_without_end_lose_nothing(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.registry.faults.add(Fault(On.CLOSE, busy("0"), times=6), Fault(On.CLOSE, Answer(429), times=6))
        push.run()
        push.assert_there(faults=0)
