"""Every registry with its own profile, with none, and with a wrong one: the bytes get there, or an error says
why not; with its own, no more than a chunk a fault is sent twice where the registry can resume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pusher.errors import ChunkTooLarge, InvalidOption, LayerTooLarge, PusherError
from pusher.registry.http.body import BlobFile
from pusher.registry.upload.profiles import PROFILES
from tests.registry.helpers import CHUNK, REPOSITORY, SIZE, Push
from tests.registry.kinds import IN_CHUNKS, KINDS, WHOLE, Kind, pushing_to
from tests.support.fakeregistry import (
    Action,
    Answer,
    DropReply,
    Fault,
    ForgetSession,
    On,
    ResetAfter,
    bad_gateway,
    busy,
    unauthorized,
)

REST = SIZE - 4 * CHUNK
each = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
each_in_chunks = pytest.mark.parametrize("kind", IN_CHUNKS.values(), ids=IN_CHUNKS)
each_whole = pytest.mark.parametrize("kind", WHOLE.values(), ids=WHOLE)


def bodies(push: Push) -> list[int]:
    """Of the requests that were answered 2xx."""
    sent = push.registry.requests(On.CHUNK, On.CLOSE)
    return [record.body_received for record in sent if record.status in (201, 202)]


# --- the profile that it has ------------------------------------------------------------------------------


@each
def test_every_byte_is_sent_once(kind: Kind, tmp_path: Path) -> None:
    with pushing_to(kind, tmp_path, forced=kind.name) as push:
        assert push.run() == "uploaded"
        push.assert_there(faults=0)
        whole, last_in_put = kind.profile.whole, kind.profile.last_in_put
        chunks = [CHUNK] * 4 + ([REST] if last_in_put else [REST, 0])
        assert bodies(push) == ([SIZE] if whole else chunks)
        assert len(push.registry.requests(On.OPEN)) == 1


@pytest.mark.parametrize("size", [0, 1, 2, CHUNK, CHUNK + 1, 2 * CHUNK])
@each
def test_blobs_of_any_size(kind: Kind, size: int, tmp_path: Path) -> None:
    with pushing_to(kind, tmp_path, forced=kind.name, size=size) as push:
        assert push.run() == "uploaded"
        push.assert_there(faults=0)
        if 0 < size <= CHUNK:
            assert bodies(push) == ([size, 0] if kind.profile.max_whole == 0 else [size])


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.by_answers], ids=lambda k: k.name)
def test_its_answers_show_which_it_is(kind: Kind, tmp_path: Path) -> None:
    with pushing_to(kind, tmp_path, forced=None) as push:
        assert push.run() == "uploaded"
        assert push.journal.profiles == [kind.name]
        assert push.journal.facts == {}


def test_a_profile_that_does_not_exist(tmp_path: Path) -> None:
    with (
        pushing_to(KINDS["Quay"], tmp_path, forced="nonsense") as push,
        pytest.raises(InvalidOption) as error,
    ):
        push.run()
    assert "'nonsense'" in error.value.message
    assert "serverless-registry" in error.value.hint


def test_a_blob_beyond_what_it_stores(tmp_path: Path) -> None:
    kind = KINDS["Quay"]
    with pushing_to(kind, tmp_path, forced=None) as push:
        assert kind.profile.max_blob is not None
        push.blob = BlobFile(push.digest, kind.profile.max_blob + 1, tmp_path / "is-never-opened")
        push.restart()
        with pytest.raises(LayerTooLarge, match="Quay"):
            push.run()


# --- faults -----------------------------------------------------------------------------------------------

BREAKS = {
    "reset inside the first chunk": (ResetAfter(1500), 1),
    "reset inside the second chunk": (ResetAfter(1500), 2),
    "reset inside the fourth chunk": (ResetAfter(3999), 4),
}
DOUBTS = {
    "reset after the first chunk": (ResetAfter(CHUNK), 1),
    "reply to the first chunk lost": (DropReply(), 1),
    "reply to the second chunk lost": (DropReply(), 2),
    "reply to the fourth chunk reset": (DropReply(reset=True), 4),
}
HARMLESS = {
    "503": (busy("0"), 2),
    "429": (busy("0", status=429), 1),
    "502": (bad_gateway(502), 3),
    "401": (unauthorized(), 2),
    "reset before a chunk": (ResetAfter(0), 3),
}


def _table(table: Mapping[str, tuple[Action, int]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("action", "nth"), table.values(), ids=table)


def _through(kind: Kind, folder: Path, fault: Fault, *, losses: int, restart: bool) -> None:
    with pushing_to(kind, folder, forced=kind.name) as push:
        push.registry.faults.add(fault)
        assert push.run(restart=restart) == "uploaded"
        push.registry.faults.assert_all_fired()
        push.assert_there(losses=losses)
        assert len(push.registry.requests(On.OPEN)) == 1 + losses
        if not losses:
            assert push.excess <= CHUNK


@pytest.mark.parametrize("restart", [False, True], ids=["same process", "restarted"])
@_table(BREAKS)
@each_in_chunks
def test_break(kind: Kind, action: Action, nth: int, restart: bool, tmp_path: Path) -> None:
    fault = Fault(On.CHUNK, action, nth=nth)
    _through(kind, tmp_path, fault, losses=int(kind.break_costs), restart=restart)


@pytest.mark.parametrize("restart", [False, True], ids=["same process", "restarted"])
@_table(DOUBTS)
@each_in_chunks
def test_doubt(kind: Kind, action: Action, nth: int, restart: bool, tmp_path: Path) -> None:
    fault = Fault(On.CHUNK, action, nth=nth)
    struck_inside = isinstance(action, ResetAfter) and kind.break_costs
    _through(kind, tmp_path, fault, losses=int(kind.doubt_costs or struck_inside), restart=restart)


@pytest.mark.parametrize("restart", [False, True], ids=["same process", "restarted"])
@_table(HARMLESS)
@each_in_chunks
def test_what_is_no_doubt_for_the_registry(
    kind: Kind, action: Action, nth: int, restart: bool, tmp_path: Path
) -> None:
    """Where nobody can ask, even a 503 leaves it open whether the chunk arrived."""
    with pushing_to(kind, tmp_path, forced=kind.name) as push:
        push.registry.faults.add(Fault(On.CHUNK, action, nth=nth))
        assert push.run(restart=restart) == "uploaded"
        push.registry.faults.assert_all_fired()
        unknowable = kind.name in ("aliyun", "artifactory") and getattr(action, "status", 0) != 401
        push.assert_there(losses=int(unknowable))


@each_in_chunks
def test_being_offline_costs_nothing(kind: Kind, tmp_path: Path) -> None:
    with pushing_to(kind, tmp_path, forced=kind.name) as push:
        push.watch.then[2 * CHUNK] = push.registry.stop
        for _ in range(12):
            with pytest.raises(PusherError):
                push.upload.run()
        push.registry.start()
        assert push.run(restart=True) == "uploaded"
        push.assert_there(faults=0)


@pytest.mark.parametrize("restart", [False, True], ids=["same process", "restarted"])
@each_in_chunks
def test_session_lost(kind: Kind, restart: bool, tmp_path: Path) -> None:
    _through(kind, tmp_path, Fault(On.CHUNK, ForgetSession(), nth=3), losses=1, restart=restart)


@pytest.mark.parametrize("restart", [False, True], ids=["same process", "restarted"])
@pytest.mark.parametrize("action", [DropReply(), ResetAfter(0), bad_gateway(502)], ids=str)
@each
def test_closing_in_doubt(kind: Kind, action: Action, restart: bool, tmp_path: Path) -> None:
    with pushing_to(kind, tmp_path, forced=kind.name) as push:
        push.registry.faults.add(Fault(On.CLOSE, action))
        assert push.run(restart=restart) == "uploaded"
        assert push.registry.blob(REPOSITORY, push.digest) == push.data
        assert push.excess <= (SIZE if kind.profile.whole else CHUNK)
        assert len(push.registry.requests(On.OPEN)) <= (2 if kind.profile.whole else 1)


@pytest.mark.parametrize("restart", [False, True], ids=["same process", "restarted"])
@pytest.mark.parametrize("at", [1, 1500, SIZE - 1])
@each_whole
def test_one_put_that_breaks_starts_again_and_says_so(
    kind: Kind, at: int, restart: bool, tmp_path: Path
) -> None:
    with pushing_to(kind, tmp_path, forced=kind.name) as push:
        push.registry.faults.add(Fault(On.CLOSE, ResetAfter(at)))
        assert push.run(restart=restart) == "uploaded"
        push.assert_there(losses=1)
        assert "one request" in push.journal.lost_sessions[0]


def test_the_first_chunk_is_not_sent_again_unasked_where_it_would_be_appended(tmp_path: Path) -> None:
    with pushing_to(KINDS["Quay"], tmp_path, forced=None) as push:
        push.registry.faults.add(Fault(On.CHUNK, DropReply()), Fault(On.STATUS, unauthorized(), times=None))
        assert push.run() == "uploaded"
        push.assert_there(losses=1, faults=2)
        assert [record.status for record in push.registry.requests(On.CLOSE)] == [201]


def test_a_chunk_sent_again_tells_where_to_go_on(tmp_path: Path) -> None:
    with pushing_to(KINDS["Amazon ECR"], tmp_path, forced="ecr") as push:
        push.registry.faults.add(Fault(On.CHUNK, DropReply(), nth=2))
        push.run(restart=True)
        statuses = [record.status for record in push.registry.requests(On.CHUNK)]
        assert statuses == [201, None, 416, 201, 201]
        assert push.registry.requests(On.STATUS) == []


# --- body limits ------------------------------------------------------------------------------------------


@each_in_chunks
def test_a_body_limit_in_front_shrinks_the_chunks_of_the_empty_session(kind: Kind, tmp_path: Path) -> None:
    limited = replace(kind, rules=replace(kind.rules, max_body=2500))
    with pushing_to(limited, tmp_path, forced=kind.name) as push:
        assert push.run() == "uploaded"
        push.assert_there(faults=1)
        assert push.journal.chunk_sizes == [CHUNK, CHUNK // 2]
        assert push.link.max_chunk == CHUNK // 2


def test_a_body_limit_in_front_of_a_registry_without_chunks(tmp_path: Path) -> None:
    kind = KINDS["Google"]
    limited = replace(kind, rules=replace(kind.rules, max_body=2500))
    with pushing_to(limited, tmp_path, forced=None) as push:
        with pytest.raises(ChunkTooLarge):
            push.run()
        assert len(push.registry.requests(On.CLOSE)) == 1


def test_a_body_limit_makes_chunks_of_one_put(tmp_path: Path) -> None:
    """Nexus with nginx before it: whether it takes chunks is found out."""
    kind = KINDS["Nexus"]
    rules = replace(KINDS["Gitea"].rules, max_body=5000)
    with pushing_to(replace(kind, rules=rules), tmp_path, forced="nexus") as push:
        assert push.run() == "uploaded"
        assert push.registry.blob(REPOSITORY, push.digest) == push.data
        assert push.registry.chunks == [CHUNK] * 4 + [REST]
        assert len(push.registry.requests(On.OPEN)) == 1


# --- nothing known, or wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [CHUNK, SIZE])
@each
def test_a_registry_of_which_nothing_is_known(kind: Kind, size: int, tmp_path: Path) -> None:
    with pushing_to(kind, tmp_path, forced="default", size=size) as push:
        assert push.run() == "uploaded"
        assert push.registry.blob(REPOSITORY, push.digest) == push.data
        assert len(push.registry.requests(On.OPEN)) <= 3


@pytest.mark.parametrize("profile", PROFILES)
@each
def test_a_wrong_profile_does_no_harm(kind: Kind, profile: str, tmp_path: Path) -> None:
    with pushing_to(kind, tmp_path, forced=profile) as push:
        try:
            push.run(tries=12)
        except PusherError:
            assert push.registry.blobs[REPOSITORY] == {}
        else:
            assert push.registry.blob(REPOSITORY, push.digest) == push.data
        assert len(push.registry.requests()) < 200


# --- what is found out ------------------------------------------------------------------------------------


def _without_chunks(status: int, code: str) -> Fault:
    body = f'{{"errors": [{{"code": "{code}", "message": "no"}}]}}'.encode()
    return Fault(On.CHUNK, Answer(status, body=body), times=None)


@pytest.mark.parametrize(
    ("status", "code", "chunks"),
    [
        (405, "X", 1),
        (501, "X", 1),
        (404, "UNSUPPORTED", 1),
        *((status, "BLOB_UPLOAD_INVALID", 2) for status in (404, 400, 416)),
    ],
)
def test_refused_chunks_become_one_put_from_then_on(
    status: int, code: str, chunks: int, tmp_path: Path
) -> None:
    kind = replace(KINDS["Gitea"], rules=replace(KINDS["Gitea"].rules, session_id=lambda: "an-id"))
    with pushing_to(kind, tmp_path, forced=None) as push:
        push.registry.faults.add(_without_chunks(status, code))
        assert push.run() == "uploaded"
        push.assert_there(losses=1, faults=chunks)
        assert len(push.registry.requests(On.CHUNK)) == chunks
        assert push.journal.facts == {"profile": "monolithic"}

        push.registry.remove_blob(REPOSITORY, push.digest)
        push.journal.session = None
        push.restart()
        assert push.run() == "uploaded"
        assert len(push.registry.requests(On.CHUNK)) == chunks


@pytest.mark.parametrize("status", [400, 405, 499, 501, 507, 511, 530])
def test_errors_in_passing_teach_nothing(status: int, tmp_path: Path) -> None:
    """Two of them on a first chunk, in no registry's words: the next blob goes in chunks again."""
    kind = replace(KINDS["Gitea"], rules=replace(KINDS["Gitea"].rules, session_id=lambda: "an-id"))
    with pushing_to(kind, tmp_path, forced=None) as push:
        push.registry.faults.add(Fault(On.CHUNK, Answer(status, body=b"<html>no</html>"), times=2))
        assert push.run() == "uploaded"
        assert push.journal.facts == {}


def test_a_front_that_refuses_patch_is_got_around_and_the_registry_stays_what_it_is(tmp_path: Path) -> None:
    with pushing_to(KINDS["distribution 3.x"], tmp_path, forced=None) as push:
        push.registry.faults.add(_without_chunks(405, ""))
        assert push.run() == "uploaded"
        push.assert_there(losses=1, faults=1)
        assert push.journal.facts == {}


def test_one_refused_first_chunk_proves_nothing(tmp_path: Path) -> None:
    kind = replace(KINDS["Gitea"], rules=replace(KINDS["Gitea"].rules, session_id=lambda: "an-id"))
    with pushing_to(kind, tmp_path, forced=None) as push:
        push.registry.faults.add(Fault(On.CHUNK, ForgetSession()))
        assert push.run() == "uploaded"
        push.assert_there(losses=1)
        assert push.registry.chunks == [CHUNK] * 4 + [REST]
        assert push.journal.facts == {}


def test_a_registry_that_took_a_chunk_takes_chunks(tmp_path: Path) -> None:
    kind = replace(KINDS["Gitea"], rules=replace(KINDS["Gitea"].rules, session_id=lambda: "an-id"))
    with pushing_to(kind, tmp_path, forced=None) as push:
        push.registry.faults.add(
            Fault(On.CHUNK, ForgetSession(), nth=2), Fault(On.CHUNK, Answer(404), nth=3, times=2)
        )
        assert push.run() == "uploaded"
        assert set(push.journal.profiles) == {"default"}
        assert push.registry.chunks[-5:] == [CHUNK] * 4 + [REST]


def test_a_refused_put_becomes_a_chunk_from_then_on(tmp_path: Path) -> None:
    kind = replace(KINDS["Artifactory"], rules=replace(KINDS["Artifactory"].rules, common_headers={}))
    with pushing_to(kind, tmp_path, forced=None, size=CHUNK) as push:
        assert push.run() == "uploaded"
        push.assert_there(losses=1)
        assert push.journal.facts == {"profile": "chunked"}

        push.registry.remove_blob(REPOSITORY, push.digest)
        push.journal.session = None
        push.restart()
        assert push.run() == "uploaded"
        assert bodies(push)[-2:] == [CHUNK, 0]
        assert len(push.registry.requests(On.OPEN)) == 3


def test_neither_chunks_nor_one_put_of_that_size_is_an_error(tmp_path: Path) -> None:
    rules = replace(KINDS["Gitea"].rules, session_id=lambda: "an-id", max_body=5000)
    with pushing_to(replace(KINDS["Gitea"], rules=rules), tmp_path, forced=None) as push:
        push.registry.faults.add(_without_chunks(400, ""))
        with pytest.raises(PusherError):
            push.run()
        assert len(push.registry.requests()) < 60
        assert push.journal.facts == {}


def test_one_put_in_place_of_chunks_that_failed_is_tried_once(tmp_path: Path) -> None:
    """On a link that breaks it may never get through, and chunks do."""
    kind = replace(KINDS["Gitea"], rules=replace(KINDS["Gitea"].rules, session_id=lambda: "an-id"))
    with pushing_to(kind, tmp_path, forced=None) as push:
        push.registry.faults.add(Fault(On.CLOSE, Answer(400)), Fault(On.CLOSE, ResetAfter(9_000), times=None))
        assert push.run() == "uploaded"
        assert push.journal.profiles == ["default", "monolithic", "default"]
        assert push.journal.facts == {}
