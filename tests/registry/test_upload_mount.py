"""Mounting a blob from another repository of the same registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pusher.errors import PusherError
from tests.registry.helpers import CHUNK, REPOSITORY, RULES, SIZE, Killed, Push, pushing
from tests.support.fakeregistry import Answer, Fault, On, bad_gateway, unauthorized

OTHER = "team/base"


def test_mounted(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path, mount_from=OTHER) as push:
        push.registry.add_blob(OTHER, push.data)
        assert push.run() == "mounted"
        assert push.registry.blob(REPOSITORY, push.digest) == push.data
        assert (push.registry.sessions, push.journal.calls) == ({}, [])
        [opening] = push.registry.requests(On.OPEN)
        assert opening.query == {"mount": push.digest, "from": OTHER}


def test_refused_mount_s_session_is_used(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path, mount_from=OTHER) as push:
        assert push.run() == "uploaded"
        push.assert_there(faults=0)
        assert len(push.registry.requests(On.OPEN)) == 1
        assert push.registry.sessions == {}


def test_login_that_may_not_read_the_other_repository(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path, mount_from=OTHER) as push:
        push.registry.faults.add(Fault(On.OPEN, unauthorized(), times=2))
        assert push.run() == "uploaded"
        push.assert_there(faults=0)
        assert [bool(record.query) for record in push.registry.requests(On.OPEN)] == [True, True, False]


@pytest.mark.parametrize("status", [400, 403, 404, 405])
def test_registry_that_does_not_know_mounts(kind: str, status: int, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path, mount_from=OTHER) as push:
        push.registry.faults.add(Fault(On.OPEN, Answer(status)))
        assert push.run() == "uploaded"
        push.assert_there(faults=0)
        assert [record.query for record in push.registry.requests(On.OPEN)][1:] == [{}]


def test_mount_that_fails_is_not_tried_again(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path, mount_from=OTHER) as push:
        push.registry.faults.add(Fault(On.OPEN, bad_gateway(500)))
        assert push.run() == "uploaded"
        assert [record.query for record in push.registry.requests(On.OPEN)][1:] == [{}]


def test_locate_reads_no_byte_and_keeps_the_session(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path, mount_from=OTHER) as push:
        assert push.upload.locate() is None
        assert push.upload.locate() is None
        assert push.journal.calls == ["record_session"]
        push.restart()
        assert push.run() == "uploaded"
        assert len(push.registry.requests(On.OPEN)) == 2, "another attempt asks for the mount again"
        assert push.registry.sessions == {}, "and deletes the session of the refusal"


def test_locate_finds(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path, mount_from=OTHER) as push:
        push.registry.add_blob(OTHER, push.data)
        assert push.upload.locate() == "mounted"
        assert push.upload.locate() == "exists"


def test_mounted_blob_whose_head_lies_is_believed(tmp_path: Path) -> None:
    """https://github.com/cloudflare/serverless-registry/issues/121."""
    with pushing(RULES["serverless"], tmp_path, mount_from=OTHER) as push:
        push.registry.add_blob(OTHER, push.data)
        push.run()
        push.restart()
        assert push.run() == "exists"


def test_head_that_is_refused_is_an_error(kind: str, tmp_path: Path) -> None:
    with pushing(RULES[kind], tmp_path) as push:
        push.registry.faults.add(Fault(On.HEAD_BLOB, Answer(403)))
        with pytest.raises(PusherError) as error:
            push.run()
        assert "looking for the blob" in error.value.message


@contextmanager
def _resumed(kind: str, folder: Path) -> Iterator[Push]:
    """A push in a new process, of a blob of which two chunks are at the registry."""

    def kill() -> None:
        raise Killed

    with pushing(RULES[kind], folder, mount_from=OTHER) as push:
        push.mount_from = None
        push.restart()
        push.watch.then = {2 * CHUNK: kill}
        with pytest.raises(Killed):
            push.run()
        push.mount_from = OTHER
        push.restart()
        push.registry.log.clear()
        yield push


def test_mounted_in_place_of_a_session(kind: str, tmp_path: Path) -> None:
    with _resumed(kind, tmp_path) as push:
        push.registry.add_blob(OTHER, push.data)
        assert push.run() == "mounted"
        assert push.registry.body_bytes_received() == 0


@pytest.mark.parametrize("status", [202, 400, 401, 403, 404, 405])
def test_a_session_goes_on_where_the_mount_is_refused(kind: str, status: int, tmp_path: Path) -> None:
    """The refusal costs one request; two where it opened another session, which has to be deleted."""
    with _resumed(kind, tmp_path) as push:
        if status == 401:
            push.registry.faults.add(Fault(On.OPEN, unauthorized(), times=2))
        elif status != 202:
            push.registry.faults.add(Fault(On.OPEN, Answer(status)))
        assert push.run() == "uploaded"
        push.assert_there(faults=0)
        assert push.registry.body_bytes_received() == SIZE - 2 * CHUNK
        assert len(push.registry.requests(On.OPEN)) == (2 if status == 401 else 1)
        assert len(push.registry.requests(On.CANCEL)) == (status == 202)
        assert push.registry.sessions == {}


def test_a_session_goes_on_where_the_mount_fails(kind: str, tmp_path: Path) -> None:
    with _resumed(kind, tmp_path) as push:
        push.registry.faults.add(Fault(On.OPEN, bad_gateway(500)))
        assert push.run() == "uploaded"
        push.assert_there(faults=0)
        assert len(push.registry.requests(On.OPEN)) == 1
