"""The state machine of an upload: its table is walked, and answers are judged without a connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

import pytest

from pusher.errors import PusherError
from pusher.registry.http.answer import Answer
from pusher.registry.upload.chunk_plan import ChunkPlan
from pusher.registry.upload.chunk_sizes import Limits
from pusher.registry.upload.profiles import (
    DEFAULT,
    DISTRIBUTION_2,
    DISTRIBUTION_3,
    ECR,
    MIB,
    MONOLITHIC,
    QUAY,
    SERVERLESS,
    Profile,
)
from pusher.registry.upload.session import Session
from pusher.registry.upload.setbacks import Setbacks, Stuck
from pusher.registry.upload.states import Close, Lost, Send, State
from pusher.registry.upload.uplink import LinkEstimate
from pusher.registry.upload.verdicts import (
    ChunkAnswer,
    Holds,
    Unusable,
    judge_chunk,
    judge_status,
    judge_unasked,
)
from tests.registry.helpers import ARROWS, CHUNK, REPOSITORY, RULES, Push, WalkedUpload, pushing
from tests.support.fakeregistry import Answer as Scripted
from tests.support.fakeregistry import DropReply, Fault, On, ResetAfter, too_large

# --- the table --------------------------------------------------------------------------------------------


def _plain(push: Push) -> None:
    push.run()


def _broken(*faults: Fault) -> Callable[[Push], None]:
    def walk(push: Push) -> None:
        push.registry.faults.add(*faults)
        push.run()

    return walk


def _appears_once_lost(push: Push) -> None:
    push.registry.faults.add(Fault(On.CHUNK, DropReply(), nth=2))
    with pytest.raises(PusherError):
        push.upload.run()
    push.registry.forget_sessions()
    push.registry.add_blob(REPOSITORY, push.data)
    push.run()


def _forgotten(push: Push) -> None:
    push.registry.faults.add(Fault(On.CHUNK, DropReply(), nth=2))
    with pytest.raises(PusherError):
        push.upload.run()
    push.registry.forget_sessions()
    push.run()


class _Compressed:
    """The file of a blob whose size becomes known after the first chunk."""

    held = CHUNK

    def __init__(self, path: Path) -> None:
        self.path = path

    def wait(self, end: int, _check_stop: Callable[[], None], /) -> bool:
        return end <= CHUNK

    def promise(self, _end: int, /) -> None:
        return None

    def forecast(self) -> tuple[float, float]:
        return 0.0, 0.0

    def open(self) -> BinaryIO:
        return self.path.open("rb")


def _completed(push: Push) -> None:
    complete = push.blob
    push.blob = replace(
        complete, size=10 * complete.size, arrival=_Compressed(complete.path), is_unfinished=True
    )
    push.restart()
    assert push.upload.run() is None
    push.blob = complete
    push.restart()
    push.run()


def _large_put_refused(push: Push) -> None:
    push.registry.faults.add(Fault(On.CLOSE, too_large()))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("first_size", "largest_size"):
            patch.setattr(LinkEstimate, name, lambda *_, **__: CHUNK)
        push.run()


_WALKS: Final[dict[tuple[str, str], tuple[dict[str, object], Callable[[Push], None]]]] = {
    ("OPEN", "SEND"): ({}, _plain),
    ("OPEN", "CLOSE"): ({"size": 100}, _plain),
    ("OPEN", "DONE"): ({}, _appears_once_lost),
    ("SEND", "SEND"): ({}, _plain),
    ("SEND", "CLOSE"): ({}, _plain),
    ("SEND", "DONE"): ({}, _completed),
    ("SEND", "ASK"): ({}, _broken(Fault(On.CHUNK, Scripted(404), nth=2))),
    ("SEND", "LOST"): ({"forced": "default"}, _broken(Fault(On.CHUNK, Scripted(405)))),
    ("ASK", "SEND"): ({}, _broken(Fault(On.CHUNK, ResetAfter(1500), nth=2))),
    ("ASK", "CLOSE"): ({}, _broken(Fault(On.CLOSE, ResetAfter(0)))),
    ("ASK", "LOST"): ({}, _forgotten),
    ("ASK", "DONE"): ({}, _broken(Fault(On.CLOSE, DropReply()))),
    ("CLOSE", "DONE"): ({}, _plain),
    ("CLOSE", "SEND"): ({"size": 3_000}, _broken(Fault(On.CLOSE, too_large()))),
    ("CLOSE", "ASK"): ({"chunk_size": None}, _large_put_refused),
    ("CLOSE", "LOST"): ({}, _broken(Fault(On.CLOSE, Scripted(404), times=2))),
    ("LOST", "OPEN"): ({}, _forgotten),
}


def test_every_arrow_of_the_table_has_a_walk() -> None:
    assert set(_WALKS) == ARROWS
    assert len(ARROWS) == 17


@pytest.mark.parametrize("arrow", _WALKS, ids=" to ".join)
def test_arrow(arrow: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no arrow beside the table: every upload of these tests looks at that."""
    monkeypatch.setattr(WalkedUpload, "walked", set())
    options, walk = _WALKS[arrow]
    with pushing(RULES["distribution-3"], tmp_path, **options) as push:
        walk(push)
        assert arrow in WalkedUpload.walked
        assert push.registry.blob(REPOSITORY, push.digest) == push.data


# --- judging answers --------------------------------------------------------------------------------------


def session_of(
    profile: Profile = DEFAULT, *, offset: int = 400, in_flight: int = 100, closing: bool = False
) -> Session:
    return Session("http://r/1", 100, Limits(), profile, offset=offset, in_flight=in_flight, closing=closing)


def status(last: int | None, code: int = 204, body: bytes = b"") -> Answer:
    headers = {} if last is None else {"Range": f"0-{last}"}
    return Answer("GET", "http://r/1", code, headers, body)


GONE: Final = status(None, 404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
CUT_OFF: Final = status(None, 404, b'{"errors":[{"code":"BLOB_UPLOAD_INVALID"}]}')
NO_ROUTE: Final = status(None, 404, b'{"errors":[{"code":"UNSUPPORTED"}]}')


@pytest.mark.parametrize(
    ("session", "answer", "accepted", "standing"),
    [
        pytest.param(session_of(), status(399), False, Holds(400, reported=True), id="nothing-arrived"),
        pytest.param(session_of(), status(449), False, Holds(450, reported=True), id="part-arrived"),
        pytest.param(session_of(), status(499), False, Holds(500, reported=True), id="all-arrived"),
        pytest.param(session_of(), status(399), True, Holds(500, reported=True), id="a-range-that-stands"),
        pytest.param(session_of(), status(99), True, Holds(500, reported=True), id="the-chunk-s-own-range"),
        pytest.param(session_of(), GONE, True, Holds(500), id="accepted-and-no-status"),
        pytest.param(session_of(in_flight=0), status(None), False, Holds(400), id="nothing-in-doubt"),
        pytest.param(session_of(in_flight=0), NO_ROUTE, False, Holds(400), id="no-such-request"),
        pytest.param(session_of(), None, False, Holds(400, in_doubt=True), id="may-not-ask"),
        pytest.param(session_of(), status(None, 403), False, Holds(400, in_doubt=True), id="forbidden"),
    ],
)
def test_a_status_tells_where_to_continue(
    session: Session, answer: Answer | None, accepted: bool, standing: Holds
) -> None:
    assert judge_status(session, answer, accepted=accepted) == standing


@pytest.mark.parametrize(
    ("session", "answer", "reason", "cut_off"),
    [
        pytest.param(session_of(), status(299), "it holds 300 bytes, which cannot be", False, id="less"),
        pytest.param(session_of(), status(599), "it holds 600 bytes, which cannot be", False, id="more"),
        pytest.param(session_of(SERVERLESS), status(449), "which cannot be", False, id="part"),
        pytest.param(session_of(), GONE, "no longer knows the upload", False, id="gone"),
        pytest.param(session_of(in_flight=0), GONE, "no longer knows the upload", False, id="idle"),
        pytest.param(session_of(DISTRIBUTION_2), CUT_OFF, "cut off inside a chunk", True, id="cut-off"),
        pytest.param(session_of(), status(None), "does not report how much", False, id="no-range"),
        pytest.param(session_of(QUAY, offset=0), None, "does not report how much", False, id="appends-at-0"),
    ],
)
def test_a_status_tells_that_a_session_is_unusable(
    session: Session, answer: Answer | None, reason: str, cut_off: bool
) -> None:
    standing = judge_status(session, answer)
    assert isinstance(standing, Unusable)
    assert reason in standing.reason
    assert standing.cut_off == cut_off


def test_a_chunk_that_nobody_can_ask_about_is_not_repeated_for_ever() -> None:
    assert isinstance(judge_status(session_of(), None, may_repeat=False), Unusable)


def test_at_registries_that_do_not_say_what_they_hold_our_count_holds() -> None:
    assert judge_unasked(session_of(ECR), 1000) == Holds(400)
    assert judge_unasked(session_of(MONOLITHIC, in_flight=0), 1000) == Holds(400)
    assert isinstance(judge_unasked(session_of(MONOLITHIC), 1000), Unusable)


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (202, ChunkAnswer.ACCEPTED),
        (201, ChunkAnswer.ACCEPTED),
        (413, ChunkAnswer.TOO_LARGE),
        (429, ChunkAnswer.LATER),
        (500, ChunkAnswer.LATER),
        (403, ChunkAnswer.LATER),
        (416, ChunkAnswer.REFUSED),
        (404, ChunkAnswer.REFUSED),
    ],
)
def test_what_the_answer_to_a_chunk_means(code: int, meaning: ChunkAnswer) -> None:
    answer = Answer("PATCH", "http://r/1", code, {"Location": "http://r/2", "Range": "0-99"})
    assert judge_chunk(answer) is meaning


# --- what comes next --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("session", "total", "state"),
    [
        pytest.param(session_of(in_flight=0), 1000, Send, id="bytes-are-missing"),
        pytest.param(session_of(in_flight=0), 400, Close, id="all-are-there"),
        pytest.param(session_of(offset=0, in_flight=0), 90, Close, id="goes-whole"),
        pytest.param(session_of(ECR, in_flight=0), 450, Close, id="the-last-chunk-goes-in-the-put"),
    ],
)
def test_what_comes_next(session: Session, total: int, state: type[State]) -> None:
    assert isinstance(ChunkPlan(total, LinkEstimate(), None).next_state(session), state)


@pytest.mark.parametrize(
    ("arrived", "again", "expected"),
    [(1000, 0, 800), (799, 0, 500), (350, 0, 100), (0, 0, 100), (350, 200, 200)],
    ids=["all", "not all", "a chunk", "less than a chunk", "the registry may hold more"],
)
def test_what_has_arrived_is_sent(arrived: int, again: int, expected: int) -> None:
    """From offset 200 in multiples of 100 bytes: a larger chunk would be waited for."""
    plan = ChunkPlan(5000, LinkEstimate(), None)
    plan.again = again
    session = session_of(DISTRIBUTION_2, offset=200, in_flight=0)
    assert plan.arrived_size(session, 800, arrived) == expected
    assert plan.arrived_size(session_of(SERVERLESS, offset=200, in_flight=0), 800, arrived) == 800


def test_a_session_that_continues_on_a_known_quiet_link_need_not_grow_again() -> None:
    """As that of a layer that was sent while it was compressed, once it is complete."""
    link, session = LinkEstimate(), Session("http://r/1", 10 * MIB, Limits(), DISTRIBUTION_3, offset=10 * MIB)
    assert ChunkPlan(900 * MIB, link, None).next_size(session) == 10 * MIB
    for _ in range(6):
        link.record_chunk(10 * MIB, 0.6, answer=0.1)
    plan = ChunkPlan(900 * MIB, link, None)
    assert plan.next_size(session) == 100 * MIB
    assert plan.next_size(replace(session, offset=0)) == 100 * MIB, "the same size until a chunk is sent"
    plan.growth.record_failure()
    assert plan.next_size(session) == 50 * MIB
    link.record_break(MIB, 10 * MIB)
    assert ChunkPlan(900 * MIB, link, None).next_size(session) == 10 * MIB


def test_a_session_in_far_too_small_chunks_is_lost_on_purpose() -> None:
    link = LinkEstimate()
    link.record_chunk(5 * MIB, 0.55, answer=0.5)
    session = Session("http://r/1", 5 * MIB, Limits(5 * MIB), SERVERLESS, offset=5 * MIB)
    state = ChunkPlan(1500 * MIB, link, None).next_state(session)
    assert isinstance(state, Lost)
    assert not state.fruitless
    assert isinstance(ChunkPlan(1500 * MIB, link, 5 * MIB).next_state(session), Send)


# --- setbacks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "broken_at", "patience", "verdict"),
    [
        (0, None, 2, Stuck.SESSION_ILL),
        (0, 50, 2, Stuck.LINK_BREAKS),
        (100, 50, 4, Stuck.LINK_BREAKS),
        (100, None, 8, Stuck.SESSION_ILL),
    ],
)
def test_what_is_acknowledged_is_worth_more_tries(
    offset: int, broken_at: int | None, patience: int, verdict: Stuck
) -> None:
    setbacks = Setbacks(LinkEstimate())
    setbacks.broken_at = broken_at
    judged = [setbacks.judge_stuck(offset) for _ in range(patience)]
    assert judged == [Stuck.PATIENT] * (patience - 1) + [verdict]


def test_later_is_no_reason_to_lose_patience() -> None:
    setbacks = Setbacks(LinkEstimate())
    for _ in range(20):
        setbacks.postponed = True
        assert setbacks.judge_stuck(0) is Stuck.PATIENT
    assert setbacks.stuck == 0


def test_only_sessions_that_get_no_further_are_hopeless() -> None:
    setbacks = Setbacks(LinkEstimate())
    for offset in range(1, 10):
        setbacks.record_lost()
        setbacks.record_gain(offset)
    assert not setbacks.has_lost_sessions
    for _ in range(4):
        setbacks.record_gain(3)
        setbacks.record_lost()
    assert setbacks.is_hopeless
    setbacks.begin_pass()
    assert not setbacks.is_hopeless
