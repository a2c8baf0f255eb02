"""The closing PUT: it may fail, lie, or kill its session."""

from __future__ import annotations

from pathlib import Path

import pytest

from pusher.errors import DigestRejected, PermissionDenied, PusherError, RegistryBusy, RegistryFault
from pusher.oci.digest import of_bytes
from pusher.registry.http.body import BlobDamaged, BlobFile
from tests.registry.helpers import CHUNK, REPOSITORY, RULES, SIZE, pushing
from tests.support.fakeregistry import Action, Answer, DropReply, Fault, On, ResetAfter, bad_gateway
from tests.support.fakeregistry.rules import Exchange


class Kill(Action):
    """The close fails for good, and the session's status does not show it."""

    def before(self, exchange: Exchange) -> None:
        assert exchange.session is not None
        exchange.session.dead = True


def test_dead_session_whose_status_says_that_it_lives(tmp_path: Path) -> None:
    with pushing(RULES["serverless"], tmp_path) as push:
        push.registry.faults.add(Fault(On.CLOSE, Kill()))
        assert push.run() == "uploaded"
        push.assert_there(losses=1)
        assert [record.status for record in push.registry.requests(On.CLOSE)] == [500, 500, 201]


FAILS = Answer(500, body=b'{"errors": [{"code": "UNKNOWN", "message": "out of order"}]}')
"""The registry's own word."""


def test_closing_refused_twice_and_then_granted(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.registry.faults.add(Fault(On.CLOSE, FAILS, times=2))
        assert push.run() == "uploaded"
        push.assert_there(losses=1)


def test_closing_that_never_succeeds_is_given_up(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.registry.faults.add(Fault(On.CLOSE, FAILS, times=None))
        with pytest.raises(DigestRejected) as error:
            push.run()
        assert push.digest in error.value.message
        assert "out of order" in error.value.message
        assert len(push.journal.chunk_sizes) == 3
        assert push.journal.session is None


def test_closing_refused_with_the_right_digest_is_started_again(kind: str, tmp_path: Path) -> None:
    invalid = Answer(400, body=b'{"errors": [{"code": "DIGEST_INVALID", "message": "no match"}]}')
    with pushing(RULES[kind], tmp_path) as push:
        push.registry.faults.add(Fault(On.CLOSE, invalid))
        assert push.run() == "uploaded"
        push.assert_there(losses=1)


def test_closing_forbidden_keeps_the_session(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        denied = Answer(403, body=b'{"errors": [{"code": "DENIED"}]}')
        push.registry.faults.add(Fault(On.CLOSE, denied))
        with pytest.raises(PermissionDenied):
            push.run()
        assert push.run(restart=True) == "uploaded"
        push.assert_there(faults=0)


def test_closing_answered_with_an_error_although_the_blob_is_there(kind: str, tmp_path: Path) -> None:
    """A second closing PUT of a blob that is stored: https://github.com/GoogleContainerTools/jib/issues/4301."""
    with pushing(RULES[kind], tmp_path) as push:
        push.watch.then[SIZE] = lambda: (push.registry.add_blob(REPOSITORY, push.data), None)[1]
        push.registry.faults.add(Fault(On.CLOSE, Answer(404)))
        assert push.run() == "uploaded"
        assert push.journal.lost_sessions == []


@pytest.mark.parametrize("at", [0, 1, 1500, 3999])
def test_one_put_broken(kind: str, at: int, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path, size=CHUNK) as push:
        push.registry.faults.add(Fault(On.CLOSE, ResetAfter(at)))
        assert push.run() == "uploaded"
        lost = {"distribution-2": at > 0, "distribution-3": at == 1}.get(kind, False)
        push.assert_there(losses=int(lost), faults=2)


def test_one_put_whose_reply_is_lost(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path, size=CHUNK) as push:
        push.registry.faults.add(Fault(On.CLOSE, DropReply()))
        assert push.run(restart=True) == "uploaded"
        push.assert_there(faults=0)


def test_one_put_refused(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path, size=CHUNK) as push:
        push.registry.faults.add(Fault(On.CLOSE, bad_gateway(502)))
        assert push.run() == "uploaded"
        push.assert_there()


# --- the bytes on disk are not what they were -------------------------------------------------------------


def test_damaged_blob_is_found_out_when_the_registry_refuses_it(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.blob.path.write_bytes(b"before" + bytes(SIZE) + b"after")
        with pytest.raises(BlobDamaged) as error:
            push.run()
        assert str(error.value) == push.digest
        assert push.journal.session is None
        assert push.registry.blobs[REPOSITORY] == {}


@pytest.mark.parametrize("left", [None, 0, CHUNK + 1000], ids=["missing", "empty", "cut"])
def test_blob_whose_file_is_short_is_damaged_and_no_broken_connection(
    kind: str, left: int | None, tmp_path: Path
) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        if left is None:
            push.blob.path.unlink()
        else:
            push.blob.path.write_bytes(push.blob.path.read_bytes()[:left])
        with pytest.raises(BlobDamaged) as error:
            push.run(tries=3)
        assert str(error.value) == push.digest


def test_intact(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"xxhello, worldyy")
    blob = BlobFile(of_bytes(b"hello, world"), 12, tmp_path / "file", start=2)
    assert blob.is_intact()
    assert not BlobFile(blob.digest, 12, blob.path, start=1).is_intact()
    assert not BlobFile(blob.digest, 15, blob.path, start=2).is_intact()
    assert not BlobFile(blob.digest, 12, tmp_path / "other").is_intact()


def test_errors_that_a_pause_mends_say_so(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.registry.faults.add(Fault(On.CLOSE, bad_gateway(504)))
        with pytest.raises(PusherError) as error:
            push.upload.run()
        assert error.value.message.startswith(f"{push.registry.address} answered 504 while closing an upload")


@pytest.mark.parametrize("status", [504, 524])
def test_a_front_that_tires_of_waiting_does_not_make_it_start_again(
    status: int, kind: str, tmp_path: Path
) -> None:
    """The registry was still copying: the blob appears while pusher looks for it."""
    with pushing(RULES[kind], tmp_path) as push:
        push.registry.faults.add(Fault(On.CLOSE, bad_gateway(status)))
        with pytest.raises(RegistryFault):
            push.upload.run()
        with pytest.raises(RegistryBusy) as error:
            push.upload.run()
        assert error.value.retry_after == 5
        push.registry.add_blob(REPOSITORY, push.data)
        assert push.run() == "uploaded"
        assert len(push.registry.requests(On.CLOSE)) == 1
        assert push.excess == 0


def test_a_blob_that_never_appears_is_closed_again_after_three_looks(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.registry.faults.add(Fault(On.CLOSE, bad_gateway(504)))
        assert push.run() == "uploaded"
        assert [type(error) for error in push.errors] == [RegistryFault, *[RegistryBusy] * 3]
        assert len(push.registry.requests(On.CLOSE)) == 2
        assert push.excess == 0


def test_closed_after_all_between_two_looks(kind: str, tmp_path: Path) -> None:
    """By the request of a process that was killed: nothing was lost, and nothing says so."""

    class Appear(Action):
        def before(self, exchange: Exchange) -> None:
            push.registry.add_blob(REPOSITORY, push.data)
            exchange.store.forget_session(exchange.route.reference)

    learned = None if kind == "serverless" else kind
    with pushing(RULES[kind], tmp_path, learned=learned) as push:
        push.registry.faults.add(Fault(On.CLOSE, ResetAfter(0)), Fault(On.STATUS, Appear()))
        assert push.run(restart=True) == "uploaded"
        push.registry.faults.assert_all_fired()
        push.assert_there(faults=0)
