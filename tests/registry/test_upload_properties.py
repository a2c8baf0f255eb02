"""Any blob, any chunks, any faults, any restarts: the registry ends up with exactly the bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.registry.helpers import REPOSITORY, RULES, Killed, Push, pushing
from tests.registry.kinds import KINDS, pushing_to
from tests.support.fakeregistry import (
    Action,
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
    too_large,
    unauthorized,
)
from tests.support.fakeregistry.wire import Request

COSTS_THE_SESSION = (ForgetSession, LieRange)
ANYWHERE = (On.HEAD_BLOB, On.OPEN, On.CHUNK, On.STATUS, On.CLOSE)


def _actions() -> st.SearchStrategy[Action]:
    return st.one_of(
        st.integers(0, 20_000).map(ResetAfter),
        st.sampled_from(["drop", "reset", "close"]).map(
            lambda how: CloseAfter() if how == "close" else DropReply(reset=how == "reset")
        ),
        st.sampled_from([500, 502, 504]).map(bad_gateway),
        st.sampled_from([502, 504]).map(AnswerAfterEffect),
        st.sampled_from([429, 503]).map(lambda status: busy("0", status=status)),
        st.builds(unauthorized),
    )


def _chunk_faults() -> st.SearchStrategy[Action]:
    return st.one_of(
        st.builds(RefuseRange, positioned=st.booleans()),
        st.builds(LieRange, by=st.integers(-5000, 5000)),
        st.builds(LieRange, text=st.sampled_from(["", "0-0", "0--1", "bytes=0-7", "x", "-"])),
        st.builds(ForgetSession),
    )


def _is_large(request: Request) -> bool:
    """No front refuses a body of a few bytes."""
    return (request.content_length or 0) > 1000


FAULTS = st.one_of(
    st.builds(Fault, st.sampled_from(ANYWHERE), _actions(), nth=st.integers(1, 6)),
    st.builds(Fault, st.sampled_from([On.CHUNK, On.STATUS]), _chunk_faults(), nth=st.integers(1, 6)),
    st.builds(
        Fault, st.just(On.CHUNK), st.builds(too_large), nth=st.integers(1, 6), where=st.just(_is_large)
    ),
)


def _can_be_survived(faults: list[Fault]) -> bool:
    """Two 401 in a row are a wrong password; a registry that loses four sessions in a row is given up."""
    refusals = sum(getattr(fault.action, "status", 0) == 401 for fault in faults)
    return refusals <= 1 and sum(isinstance(fault.action, COSTS_THE_SESSION) for fault in faults) <= 3


def _push_through(push: Push, kills: list[int], *, restarts: bool = True) -> None:
    """Each number kills the process at that entry of the journal, counted from the last start.

    ``restarts``: once it was killed, a new process after every setback. What an unknown registry is like is
    found out within one.
    """
    for kill in kills:
        push.journal.kill_at = len(push.journal.calls) + kill
        try:
            push.run(tries=60)
            return
        except Killed:
            push.restart()
    push.journal.kill_at = None
    push.run(tries=60, restart=restarts and bool(kills))


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    kind=st.sampled_from(sorted(RULES)),
    size=st.integers(0, 60_000),
    chunk=st.integers(2_000, 25_000),
    faults=st.lists(FAULTS, max_size=5).filter(_can_be_survived),
    kills=st.lists(st.integers(1, 8), max_size=3),
)
def test_whatever_happens(kind: str, size: int, chunk: int, faults: list[Fault], kills: list[int]) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        pushing(RULES[kind], Path(folder), size=size, chunk_size=chunk) as push,
    ):
        push.registry.faults.add(*faults)

        _push_through(push, kills)

        assert push.registry.blob(REPOSITORY, push.digest) == push.data
        assert push.intent.wrong == []
        struck = sum(fault.fired for fault in faults)
        piece = max(push.journal.chunk_sizes, default=0)
        excess = push.registry.body_bytes_received() - size
        assert excess <= (struck + len(kills)) * min(piece, size) + push.journal.lost_bytes
        assert len(push.registry.sessions) <= len(push.journal.lost_sessions) + struck + len(kills)
        harmless = not any(isinstance(fault.action, COSTS_THE_SESSION) or _is_413(fault) for fault in faults)
        if kind != "distribution-2" and harmless and not any(_spoils_the_close(fault) for fault in faults):
            assert push.journal.lost_acknowledged == 0


@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    profile=st.sampled_from(["its own", "default", None]),
    size=st.integers(0, 30_000),
    chunk=st.integers(2_000, 6_000),
    faults=st.lists(FAULTS, max_size=3).filter(_can_be_survived),
    kills=st.lists(st.integers(1, 8), max_size=2),
)
def test_whatever_happens_at_any_registry(
    kind: str, profile: str | None, size: int, chunk: int, faults: list[Fault], kills: list[int]
) -> None:
    """With the right profile, with none, and with what its answers show."""
    forced = KINDS[kind].name if profile == "its own" else profile
    with (
        tempfile.TemporaryDirectory() as folder,
        pushing_to(KINDS[kind], Path(folder), forced=forced, size=size, chunk_size=chunk) as push,
    ):
        push.registry.faults.add(*faults)

        _push_through(push, kills, restarts=profile == "its own")

        assert push.registry.blob(REPOSITORY, push.digest) == push.data
        assert push.intent.wrong == []
        if profile == "its own":
            struck = sum(fault.fired for fault in faults) + len(kills)
            piece = size if KINDS[kind].profile.whole else max(push.journal.chunk_sizes, default=0)
            excess = push.registry.body_bytes_received() - size
            assert excess <= struck * min(piece, size) + push.journal.lost_bytes


def _is_413(fault: Fault) -> bool:
    return getattr(fault.action, "status", 0) == 413


def _spoils_the_close(fault: Fault) -> bool:
    """Two closings that fail, or an upload of one byte of which the registry says ``0-0``."""
    return fault.on is On.CLOSE or (isinstance(fault.action, ResetAfter) and fault.action.body_bytes == 1)
