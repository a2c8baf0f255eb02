"""Blobs that are fetched piece by piece: kept, locked, thrown away."""

from __future__ import annotations

import errno
import io
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pusher.errors import DiskFull, HomeUnusable, Stopped
from pusher.spool import disk
from pusher.spool.partial import PartialBlob
from pusher.spool.spool import Spool
from tests.support.images import random_bytes, sha256

DATA = random_bytes(3_000_000, compressible=0.0)
DIGEST = sha256(DATA)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def keep(spool: Spool, data: bytes, digest: str = DIGEST) -> None:
    """Have a part of the blob there."""
    with spool.open_partial(digest, len(DATA)) as partial:
        assert partial is not None
        partial.write(data)


def test_what_was_written_is_there_the_next_time(spool: Spool) -> None:
    keep(spool, DATA[:10])
    keep(spool, DATA[10:2_000_001])
    assert spool.fetched_size(DIGEST) == 2_000_001
    with spool.open_partial(DIGEST, len(DATA)) as partial:
        assert partial is not None
        assert (partial.size, partial.digest()) == (2_000_001, sha256(DATA[:2_000_001]))
        partial.write(DATA[2_000_001:])
        assert partial.digest() == DIGEST
        assert not spool.has(DIGEST)
        partial.commit(spool.path(DIGEST))
    assert spool.has(DIGEST, len(DATA))
    assert spool.verify(DIGEST)
    assert spool.fetched_size(DIGEST) == 0


def test_reset_forgets_everything(spool: Spool) -> None:
    keep(spool, b"something else")
    with spool.open_partial(DIGEST, len(DATA)) as partial:
        assert partial is not None
        partial.reset()
        assert (partial.size, partial.digest()) == (0, sha256(b""))
        partial.write(DATA[:5])
    assert spool.fetched_size(DIGEST) == 5


def test_written_once_more_there_is_no_gap_for_who_reads_it(spool: Spool) -> None:
    with spool.open_partial(DIGEST, len(DATA)) as partial:
        assert partial is not None
        partial.write(DATA[:50])
        partial.rewind()
        assert (partial.size, partial.held, partial.digest()) == (0, 50, sha256(b""))
        partial.write(DATA[:20])
        assert (partial.size, partial.held, partial.digest()) == (20, 50, sha256(DATA[:20]))
    assert spool.fetched_size(DIGEST) == 50, "they are read again the next time"
    with spool.open_partial(DIGEST, len(DATA)) as partial:
        assert partial is not None
        assert (partial.size, partial.digest()) == (50, sha256(DATA[:50]))
        partial.rewind()
        partial.reset()
        assert partial.held == 0
        partial.write(DATA)
        assert (partial.held, partial.digest()) == (len(DATA), DIGEST)


def test_only_one_is_at_it(spool: Spool) -> None:
    with spool.open_partial(DIGEST, len(DATA)) as partial:
        assert partial is not None
        with spool.open_partial(DIGEST, len(DATA)) as other:
            assert other is None
        partial.commit(spool.path(DIGEST))
        with spool.open_partial(
            DIGEST, len(DATA)
        ) as heir:  # a file of its own, not the blob that was committed
            assert heir is not None
            heir.reset()
    assert spool.size(DIGEST) == 0 == spool.fetched_size(DIGEST)


class Full:
    """A file on a disk that takes 50 bytes more."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._wrote = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: bytes) -> int:
        if self._wrote:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._wrote = True
        return int(self._file.write(data[:50]))


def test_a_write_that_fails_leaves_what_was_whole(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    with spool.open_partial(DIGEST, len(DATA)) as partial:
        assert partial is not None
        partial.write(DATA[:100])
        monkeypatch.setattr(partial, "_file", Full(partial._file))
        with pytest.raises(DiskFull):
            partial.write(DATA[100:1000])
    assert spool.fetched_size(DIGEST) == 100


def test_no_room_for_the_rest_is_told_before_anything_is_fetched(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(spool, DATA[:1_000_000])
    monkeypatch.setattr(disk, "room_at", lambda folder: 1_999_999)
    with pytest.raises(DiskFull), spool.open_partial(DIGEST, len(DATA)):
        pass
    monkeypatch.setattr(disk, "room_at", lambda folder: 2_000_000)
    with spool.open_partial(DIGEST, len(DATA)) as partial:
        assert partial is not None


def test_reading_what_is_there_can_be_left(spool: Spool) -> None:
    keep(spool, DATA)

    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped), spool.open_partial(DIGEST, len(DATA), check_stop=stop):
        pass
    assert spool.fetched_size(DIGEST) == len(DATA)


def test_a_link_in_its_place_is_not_followed(spool: Spool, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (spool.root / "partial" / DIGEST.removeprefix("sha256:")).symlink_to(victim)
    with pytest.raises(HomeUnusable), spool.open_partial(DIGEST, len(DATA)):
        pass
    assert victim.read_text() == "precious"


def test_eviction_counts_and_removes_what_nobody_needs(spool: Spool) -> None:
    other = sha256(b"other")
    keep(spool, DATA[:1000])
    keep(spool, DATA[:500], other)
    assert spool.remove_all(spool.find_unneeded({DIGEST}, 0)) == 500
    assert (spool.fetched_size(DIGEST), spool.fetched_size(other)) == (1000, 0)
    assert spool.remove_all(spool.find_unneeded((), 1000)) == 0
    assert spool.remove_all(spool.find_unneeded((), 0, used_before=time.time() - 60)) == 0
    with spool.open_partial(DIGEST, len(DATA)) as partial:
        assert isinstance(partial, PartialBlob)
        spool.remove_all(spool.find_unneeded((), 0))
        assert spool.fetched_size(DIGEST) == 1000  # somebody is at it
    spool.remove_all(spool.find_unneeded((), 0))
    assert spool.fetched_size(DIGEST) == 0


def test_a_sweep_leaves_it_alone(spool: Spool) -> None:
    keep(spool, DATA[:1000])
    assert spool.sweep() == 0
    assert spool.fetched_size(DIGEST) == 1000


@pytest.mark.parametrize("is_shared", [False, True])
def test_other_machines_find_a_blob_only_once_the_file_server_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_shared: bool
) -> None:
    """NFS reports a full disk when a file is synced or closed; then no blob may have its final name."""
    spool, fsync = Spool(tmp_path / "shared", is_shared=is_shared), os.fsync
    data = DATA[:1000]
    digest = sha256(data)
    synced = []

    def record(descriptor: int) -> None:
        synced.append(spool.path(digest).exists())
        if len(synced) in (1, 3):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        fsync(descriptor)

    def write() -> None:
        spool.write_blob(io.BytesIO(data), digest=digest, size=len(data), media_type="m")

    def fetch() -> None:
        with spool.open_partial(digest, len(data)) as part:
            assert part is not None
            part.reset()
            part.write(data)
            part.commit(spool.path(digest))

    monkeypatch.setattr(os, "fsync", record)
    for store in (write, fetch):
        if is_shared:
            with pytest.raises(DiskFull):
                store()
            assert not spool.has(digest, len(data))
        store()
        assert spool.has(digest, len(data))
        spool.remove(digest)
    assert synced == [False] * (4 if is_shared else 0)
