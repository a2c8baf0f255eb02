"""The spool on a file system that machines share: what NFS, FUSE and file servers do in other ways."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pusher.errors import DiskFull, HomeUnusable, MachineExhausted
from pusher.spool import Spool, temporary
from pusher.spool import spool as module
from tests.support.images import sha256

DATA = b"a blob of some bytes"
DIGEST = sha256(DATA)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", is_shared=True)


def put(spool: Spool, data: bytes = DATA) -> Path:
    blob = spool.write_blob(io.BytesIO(data), digest=sha256(data), size=len(data), media_type="m")
    return spool.path(blob.digest)


def failing(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_files_that_were_removed_while_they_were_open_are_no_blobs(spool: Spool) -> None:
    path = put(spool)
    for name in (".nfs000000000a4c1f9800000001", ".fuse_hidden0000000400000001", "a user's note"):
        path.with_name(name).write_bytes(b"x")
        (spool.root / "partial" / name).write_bytes(b"x")
    assert [digest for digest, _, _ in spool.all_files()] == [DIGEST]
    assert spool.remove_all(spool.find_unneeded((), 0)) == len(DATA)


def test_a_file_that_another_machine_renamed_is_found_at_once(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NFS client remembers that it was not there until the folder is opened."""
    path = put(spool)
    hidden, opened = path.rename(path.with_name("unseen")), os.open

    def open_and_see(target: Path, *arguments: int, **names: int) -> int:
        if target == path.parent and hidden.exists():
            hidden.rename(path)
        return opened(target, *arguments, **names)

    monkeypatch.setattr(os, "open", open_and_see)
    assert spool.has(DIGEST, len(DATA))


def test_a_blob_that_another_machine_may_be_reading_is_not_replaced(tmp_path: Path, spool: Spool) -> None:
    """Its reader would get ESTALE."""
    path = put(spool)
    before = path.stat().st_ino
    put(spool)
    assert path.stat().st_ino == before
    path.write_bytes(b"torn")
    put(spool)
    assert path.read_bytes() == DATA, "of another size it is damaged"
    assert list((spool.root / "tmp").iterdir()) == []


def test_the_clock_of_the_file_server_counts(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock is hours ahead takes nobody's unfinished file for an old one."""
    assert abs(spool.now() - time.time()) < 60
    unfinished = spool.root / "tmp" / "0123456789abcdef"
    unfinished.write_bytes(b"another machine is writing")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7200)
    assert spool.sweep() == 0
    assert abs(spool.now() - now) < 60
    os.utime(unfinished, (now - 7200, now - 7200))
    assert spool.sweep() > 0
    monkeypatch.setattr(os, "open", failing(errno.EDQUOT))
    assert spool.now() == now + 7200, "no file can be made: pruning, which makes room, must go on"


def test_a_file_system_that_does_not_know_its_size(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        total: int = 0
        used: int = 0
        free: int = 0

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage())
    put(spool)
    assert spool.room() > 1 << 40


def test_a_quota_is_named(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary.TemporaryFile, "write", failing(errno.EDQUOT))
    with pytest.raises(DiskFull, match="the disk quota is used up") as caught:
        put(spool)
    assert "are free" not in caught.value.message
    assert "PUSHER_SPOOL" in caught.value.hint


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(spool: Spool, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(number))
    held = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(HomeUnusable, match="does not support file locks") as caught:
        put(spool)
    assert "pusher help queue" in caught.value.hint
    with pytest.raises(HomeUnusable), spool.open_partial(DIGEST, len(DATA)):
        pass
    assert len(list(Path("/dev/fd").iterdir())) == held
    assert list((spool.root / "tmp").iterdir()) == []


def test_a_home_on_nfs_learns_at_close_that_bytes_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not synced; before a blob has its name, the error of a close is seen all the same."""
    spool, close = Spool(tmp_path / "own"), os.close

    def fail_once(descriptor: int) -> None:
        close(descriptor)
        monkeypatch.setattr(os, "close", close)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "close", fail_once)
    with pytest.raises(DiskFull):
        put(spool)
    assert not spool.has(DIGEST)
    put(spool)


def test_a_blob_that_cannot_be_read_is_not_taken_for_damaged(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be all that is left of an image."""
    path = put(spool)
    os.utime(path, (1, 1))  # before this machine started, so it is read again
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", failing(errno.ENOTCONN))
        with pytest.raises(MachineExhausted, match="cannot be reached"):
            spool.has(DIGEST)
    assert spool.has(DIGEST)
    assert module.Spool(spool.root).has(DIGEST)


def test_two_machines_that_do_not_see_each_others_locks_download_one_blob(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    with spool.open_partial(DIGEST, len(DATA)) as one, spool.open_partial(DIGEST, len(DATA)) as other:
        assert one is not None
        assert other is not None
        for part in (one, other):
            part.write(DATA)
        for part in (one, other):
            part.commit(spool.path(DIGEST))
    assert spool.verify(DIGEST)
