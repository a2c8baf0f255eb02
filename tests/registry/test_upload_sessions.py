"""Sessions that are lost, registries that restart, and links that never carry a whole chunk."""

from __future__ import annotations

from pathlib import Path

import pytest

from pusher.config import Timeouts
from pusher.errors import (
    CredentialsRejected,
    PusherError,
    RegistryRefused,
    RegistryStalled,
    RegistryUnreachable,
    Retry,
)
from pusher.registry.upload.uplink import LinkEstimate
from tests.registry.helpers import CHUNK, LOGIN, RULES, SIZE, pushing
from tests.support.fakeregistry import (
    Answer,
    DropReply,
    Fault,
    ForgetSession,
    On,
    RefuseRange,
    ResetAfter,
    Stall,
    unauthorized,
)
from tests.support.link import ShakyLink

SHORT = Timeouts(connect=30, stall=0.8, answer=0.8, commit=0.8)


# --- the registry restarts --------------------------------------------------------------------------------


def test_restart_between_chunks_loses_nothing(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.watch.then[2 * CHUNK] = push.registry.restart
        push.run()
        push.assert_there()


def test_restart_with_lost_sessions(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.watch.then[2 * CHUNK] = lambda: push.registry.restart(lose_sessions=True)
        push.run()
        push.assert_there(losses=1)


def test_restart_with_a_new_secret_costs_the_session_at_2x_only(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.watch.then[2 * CHUNK] = lambda: push.registry.restart(new_secret=True)
        push.run()
        push.assert_there(losses=1 if kind == "distribution-2" else 0)


def test_unreachable_and_back(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.watch.then[2 * CHUNK] = push.registry.stop
        for _ in range(3):
            with pytest.raises(PusherError) as error:
                push.upload.run()
            assert error.value.retry in (Retry.OFFLINE, Retry.BACKOFF)
        assert isinstance(error.value, RegistryUnreachable)
        assert push.registry.address in error.value.message
        push.registry.start()
        push.run(restart=True)
        push.assert_there()


# --- stalls -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_bytes", [None, 1500], ids=["before the answer", "inside the body"])
def test_stalled_chunk(kind: str, after_bytes: int | None, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path, timeouts=SHORT) as push:
        push.registry.faults.add(Fault(On.CHUNK, Stall(after_bytes=after_bytes), nth=2))
        push.run()
        push.assert_there(losses=1 if kind == "distribution-2" else 0)
        assert [type(error) for error in push.errors] == [RegistryStalled]


def test_stalled_closing(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path, timeouts=SHORT) as push:
        push.registry.faults.add(Fault(On.CLOSE, Stall()))
        push.run()
        push.assert_there(faults=0)
        assert [type(error) for error in push.errors] == [RegistryStalled]


# --- sessions that go round in circles --------------------------------------------------------------------


UNKNOWN = b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}'


@pytest.mark.parametrize(
    "action", [Answer(404, body=UNKNOWN), Answer(400, body=UNKNOWN), RefuseRange()], ids=["404", "400", "416"]
)
def test_registry_that_never_takes_the_second_chunk_is_given_up(
    kind: str, action: Answer | RefuseRange, tmp_path: Path
) -> None:
    """Several registries behind one name, say, that do not share their uploads."""
    with pushing(RULES[kind], tmp_path) as push:
        second = Fault(On.CHUNK, action, times=None, where=lambda r: r.headers["content-range"][0] != "0")
        push.registry.faults.add(second)
        with pytest.raises(RegistryRefused):
            push.run()
        assert len(push.journal.chunk_sizes) <= 5


@pytest.mark.parametrize("size", [1000, CHUNK])
def test_chunks_refused_after_a_break_do_not_go_on_for_ever(size: int, tmp_path: Path) -> None:
    with pushing(RULES["serverless"], tmp_path, chunk_size=size) as push:
        push.registry.faults.add(
            Fault(On.CHUNK, ResetAfter(700)), Fault(On.CHUNK, RefuseRange(), nth=2, times=None)
        )
        with pytest.raises(RegistryRefused):
            push.run()
        assert len(push.registry.requests(On.CHUNK)) < 40


def test_one_byte_of_the_first_chunk_kept(tmp_path: Path) -> None:
    """``0-0`` is then one byte and looks like none."""
    with pushing(RULES["distribution-3"], tmp_path) as push:
        push.registry.faults.add(Fault(On.CHUNK, ResetAfter(1)))
        push.run()
        push.assert_there(losses=1, faults=2)


@pytest.mark.parametrize("at", [1, 2, CHUNK - 1])
def test_going_on_inside_a_chunk(at: int, tmp_path: Path) -> None:
    with pushing(RULES["distribution-3"], tmp_path) as push:
        push.registry.faults.add(Fault(On.CHUNK, ResetAfter(at), nth=2))
        push.run()
        push.assert_there()
        assert push.registry.requests(On.CHUNK)[2].headers["content-range"].startswith(f"{CHUNK + at}-")


# --- what is learned --------------------------------------------------------------------------------------


def test_2x_and_3x_are_told_apart_before_anything_breaks(kind: str, tmp_path: Path) -> None:
    """By one question about the location from before the first chunk, which costs nothing."""
    with pushing(RULES[kind], tmp_path) as push:
        push.run()
        push.assert_there(faults=0)
        learned = None if kind == "serverless" else kind
        assert push.link.profile == push.journal.facts.get("profile") == learned
        assert len(push.registry.requests(On.STATUS)) == (0 if learned is None else 1)
        assert push.journal.calls.count("record_profile") == (0 if learned is None else 1)


def test_it_is_not_asked_where_a_response_takes_long_beside_what_is_left(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LinkEstimate, "pays_to_probe", lambda _link, left: left >= 6 * CHUNK)
    with pushing(RULES[kind], tmp_path) as push:
        assert push.blob.size < 6 * CHUNK
        push.run()
        push.assert_there(faults=0)
        assert push.registry.requests(On.STATUS) == []


def test_2x_and_3x_are_told_apart_by_a_broken_chunk(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.registry.faults.add(Fault(On.CHUNK, ResetAfter(1500), nth=2), Fault(On.STATUS, Answer(502)))
        push.run()
        learned = None if kind == "serverless" else kind
        assert push.link.profile == push.journal.facts.get("profile") == learned


def test_a_session_that_is_gone_says_nothing_of_the_version(tmp_path: Path) -> None:
    with pushing(RULES["distribution-3"], tmp_path) as push:
        push.registry.faults.add(Fault(On.CHUNK, DropReply()), Fault(On.STATUS, ForgetSession()))
        push.run()
        push.assert_there(losses=1)
        assert push.journal.facts == {"profile": "distribution-3"}, "learned from the second session"


def test_link_that_carries_less_than_a_chunk(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path, chunk_size=10_000, checked=False) as push:
        with ShakyLink(push.registry.address, reset_every=6_000) as link:
            push.address = link.address
            push.restart()
            push.run(tries=60)
        assert push.registry.blob("team/app", push.digest) == push.data
        assert push.journal.chunk_sizes[-1] <= (10_000 if kind == "distribution-3" else 5_000)


# --- logins -----------------------------------------------------------------------------------------------


def test_wrong_password_on_a_retry_does_not_cost_the_session(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.registry.faults.add(Fault(On.CHUNK, ResetAfter(0), nth=3))
        with pytest.raises(PusherError):
            push.upload.run()
        push.registry.credentials = ("ann", "changed")
        for _ in range(3):
            push.restart()
            with pytest.raises(CredentialsRejected):
                push.upload.run()
        push.registry.credentials = LOGIN
        push.run(restart=True)
        push.assert_there()


def test_registry_that_lets_nobody_ask_for_the_state(kind: str, tmp_path: Path) -> None:
    """A login that may push and not pull: the chunk is sent again; some refuse it and say the position."""
    with pushing(RULES[kind], tmp_path) as push:
        push.registry.faults.add(
            Fault(On.STATUS, unauthorized(), times=None),
            Fault(On.CHUNK, ResetAfter(0), nth=3),
            Fault(On.CHUNK, DropReply(), nth=5),
        )
        push.run()
        push.assert_there(losses=0 if kind == "serverless" else 1, faults=8)


# --- an upload that somebody else finishes ----------------------------------------------------------------


def test_blob_that_is_there_is_not_sent(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.registry.add_blob("team/app", push.data)
        assert push.run() == "exists"
        assert [record.kind for record in push.registry.requests()] == [On.PING, On.PING, On.HEAD_BLOB]
        assert push.journal.calls == []


def test_blob_that_appears_after_its_session_was_lost(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.registry.faults.add(Fault(On.CHUNK, DropReply(), nth=2))
        with pytest.raises(PusherError):
            push.upload.run()
        push.registry.forget_sessions()
        push.registry.add_blob("team/app", push.data)
        assert push.run() in ("exists", "uploaded")
        assert push.excess <= 0


def test_blob_that_appears_before_the_closing(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.watch.then[SIZE] = lambda: (push.registry.add_blob("team/app", push.data), None)[1]
        push.registry.faults.add(Fault(On.CLOSE, ResetAfter(0)))
        assert push.run() == "uploaded"
        push.assert_there(leaks=1)
        assert len(push.registry.requests(On.CLOSE)) == 1


def test_blob_is_sent_although_head_finds_it_where_head_is_not_believed(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path, believe_head=False) as push:
        push.registry.add_blob("team/app", push.data)
        assert push.run() == "uploaded"
        push.assert_there(faults=0)
