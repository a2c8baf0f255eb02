"""The spool: whole blobs or nothing, whatever happens while they are written."""

from __future__ import annotations

import errno
import gzip
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher import system
from pusher.errors import DiskFull, HomeUnusable, LayerMismatch, MachineExhausted, PusherError
from pusher.oci import media_types
from pusher.oci.layer_blob import LayerBlob
from pusher.spool import Spool, temporary
from pusher.spool.compress import GZIP
from tests.support.images import make_layer, random_bytes, sha256
from tests.support.real import _lacking, require

MISSING = "sha256:" + "0" * 64


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def put(spool: Spool, data: bytes, *, used: float | None = None) -> str:
    """A blob of these bytes, last used at ``used``."""
    blob = spool.write_blob(io.BytesIO(data), digest=sha256(data), size=len(data), media_type="x")
    if used is not None:
        os.utime(spool.path(blob.digest), (used, used))
    return blob.digest


def leftovers(spool: Spool) -> list[str]:
    return [str(path) for path in spool.root.rglob("*") if path.is_file()]


def test_a_layer_is_compressed_under_its_digest(spool: Spool) -> None:
    layer = make_layer(3_000_000)
    seen: list[int] = []
    blob = spool.write_layer(
        io.BytesIO(layer.tar), how=GZIP, expected_diff_id=layer.diff_id, on_bytes=seen.append
    )
    data = spool.path(blob.digest).read_bytes()
    assert gzip.decompress(data) == layer.tar
    assert blob == LayerBlob(
        digest=sha256(data),
        size=len(data),
        compression=blob.compression,
        media_type=media_types.DOCKER_LAYER_GZIP,
        diff_id=layer.diff_id,
        uncompressed_size=len(layer.tar),
    )
    assert blob.compression.startswith("isal-")
    assert sum(seen) == len(layer.tar)
    assert leftovers(spool) == [str(spool.path(blob.digest))]


def test_a_layer_whose_diff_id_is_not_known_is_taken_as_it_is(spool: Spool) -> None:
    layer = make_layer(1000)
    assert spool.write_layer(io.BytesIO(layer.tar), how=GZIP).diff_id == layer.diff_id


def test_the_same_layer_twice_is_one_blob(spool: Spool) -> None:
    layer = make_layer(1000)
    first = spool.write_layer(io.BytesIO(layer.tar), how=GZIP)
    assert spool.write_layer(io.BytesIO(layer.tar), how=GZIP) == first
    assert len(leftovers(spool)) == 1


def test_a_layer_with_other_bytes_than_promised_leaves_nothing(spool: Spool) -> None:
    layer, other = make_layer(1000), make_layer(1000, seed=1)
    with pytest.raises(LayerMismatch) as caught:
        spool.write_layer(io.BytesIO(layer.tar), how=GZIP, expected_diff_id=other.diff_id)
    assert layer.diff_id in caught.value.message
    assert other.diff_id in caught.value.message
    assert leftovers(spool) == []


def test_a_blob_is_kept_as_it_came(spool: Spool) -> None:
    data = random_bytes(2_500_000)
    seen: list[int] = []
    blob = spool.write_blob(
        io.BytesIO(data), digest=sha256(data), size=len(data), media_type="some/type", on_bytes=seen.append
    )
    assert sum(seen) == len(data)
    assert blob == LayerBlob(sha256(data), len(data), "original", "some/type")
    assert spool.path(blob.digest).read_bytes() == data


@pytest.mark.parametrize(
    ("data", "size"), [(b"other bytes", 11), (b"short", 11), (b"right byte and more", 11)]
)
def test_a_blob_with_other_bytes_than_promised_leaves_nothing(spool: Spool, data: bytes, size: int) -> None:
    with pytest.raises(LayerMismatch):
        spool.write_blob(io.BytesIO(data), digest=sha256(b"right bytes"), size=size, media_type="x")
    assert leftovers(spool) == []


class _StopError(Exception):
    pass


def test_a_stop_leaves_nothing(spool: Spool) -> None:
    def stop() -> None:
        raise _StopError

    data = random_bytes(5_000_000)
    with pytest.raises(_StopError):
        spool.write_layer(io.BytesIO(data), how=GZIP, check_stop=stop)
    with pytest.raises(_StopError):
        spool.write_blob(io.BytesIO(data), digest=sha256(data), size=1, media_type="x", check_stop=stop)
    assert leftovers(spool) == []


def test_has_size_remove(spool: Spool) -> None:
    digest = put(spool, b"hello")
    assert spool.has(digest)
    assert spool.has(digest, 5)
    assert not spool.has(digest, 6)
    assert not spool.has(MISSING)
    assert spool.size(digest) == 5
    spool.remove(digest)
    spool.remove(digest)
    assert not spool.has(digest)
    with pytest.raises(FileNotFoundError):
        spool.size(digest)


@pytest.mark.parametrize("digest", ["sha256:../../etc/passwd", "sha256:", "abc", "sha256:" + "G" * 64])
def test_what_is_no_digest_never_becomes_a_path(spool: Spool, digest: str) -> None:
    with pytest.raises(ValueError):
        spool.path(digest)


def test_verify_reads_the_bytes_again(spool: Spool) -> None:
    digest = put(spool, b"hello")
    assert spool.verify(digest)
    spool.path(digest).write_bytes(b"hellO")
    assert not spool.verify(digest)
    assert not spool.verify(MISSING)


def test_usage_and_blobs(spool: Spool) -> None:
    assert spool.usage() == 0
    one, two = put(spool, b"1" * 10, used=100.0), put(spool, b"2" * 20, used=200.0)
    assert spool.usage() == 30
    assert sorted(spool.blobs(), key=lambda blob: blob[2]) == [(one, 10, 100.0), (two, 20, 200.0)]


def test_the_longest_unused_goes_and_what_is_needed_stays(spool: Spool) -> None:
    old, middle, new = (put(spool, bytes([n]) * 10, used=float(n)) for n in (1, 2, 3))
    needed = put(spool, b"n" * 10, used=0.0)
    assert spool.remove_all(spool.find_unneeded({needed}, 20)) == 10
    assert [spool.has(digest) for digest in (old, middle, new, needed)] == [False, True, True, True]
    assert spool.remove_all(spool.find_unneeded({needed}, 20)) == 0
    assert spool.remove_all(spool.find_unneeded({needed}, 0)) == 20
    assert [digest for digest, _, _ in spool.blobs()] == [needed]


def test_what_was_used_since_the_jobs_were_read_stays(spool: Spool) -> None:
    before = time.time() - 10
    old, fresh = put(spool, b"old", used=before - 1), put(spool, b"fresh")
    assert spool.remove_all(spool.find_unneeded((), 0, used_before=before)) == 3
    assert not spool.has(old)
    assert spool.has(fresh)


def test_reading_a_blob_marks_it_as_used(spool: Spool) -> None:
    first, second = put(spool, b"1", used=1.0), put(spool, b"2", used=2.0)
    assert spool.has(first)
    spool.remove_all(spool.find_unneeded((), 1))
    assert spool.has(first)
    assert not spool.has(second)


def test_sweep_removes_what_a_dead_writer_left_and_spares_a_living_one(spool: Spool) -> None:
    reading, release = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            reading.set()
            assert release.wait(60)
            return super().read(size)

    layer = make_layer(100_000)
    results: list[LayerBlob] = []
    writer = threading.Thread(
        target=lambda: results.append(spool.write_layer(Slow(layer.tar), how=GZIP)), daemon=True
    )
    writer.start()
    assert reading.wait(60)
    (spool.root / "tmp" / "dead").write_bytes(b"x" * 1000)
    assert Spool(spool.root).sweep() == 1000
    release.set()
    writer.join(30)
    assert results[0].diff_id == layer.diff_id
    assert spool.verify(results[0].digest)


def test_a_writer_killed_in_the_middle_is_swept(spool: Spool) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from pusher.spool import Spool; from pusher.spool.compress import GZIP\n"
        "class Endless:\n"
        "    def __init__(self): self.count = 0\n"
        "    def read(self, size):\n"
        "        self.count += 1\n"
        "        if self.count == 20: print('half', flush=True); sys.stdin.read()\n"
        "        return bytes(size)\n"
        "Spool(Path(sys.argv[1])).write_layer(Endless(), how=GZIP)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(spool.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        assert spool.sweep() == 0
        assert len(leftovers(spool)) == 1
        process.send_signal(signal.SIGKILL)
    spool.sweep()
    assert leftovers(spool) == []


def test_a_file_swept_between_its_creation_and_its_lock_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[int] = []

    def try_lock(descriptor: int) -> bool:
        if not swept:
            swept.append(1)
            with monkeypatch.context() as undone:
                undone.setattr("pusher.spool.temporary.try_lock", system.try_lock)
                temporary.sweep(tmp_path)
        return system.try_lock(descriptor)

    monkeypatch.setattr("pusher.spool.temporary.try_lock", try_lock)
    with temporary.temporary_file(tmp_path) as file:
        file.write(b"data")
        file.commit(tmp_path / "final")
    assert swept
    assert (tmp_path / "final").read_bytes() == b"data"


def test_disk_full_says_how_much_was_free_and_what_to_do(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(self: temporary.TemporaryFile, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(temporary.TemporaryFile, "write", write)
    layer = make_layer(1000)
    with pytest.raises(DiskFull) as caught:
        spool.write_layer(io.BytesIO(layer.tar), how=GZIP, expected_diff_id=layer.diff_id, size=3 * 1024**2)
    assert "MiB are free for it, and it needs up to 3.0 MiB" in caught.value.message
    assert str(spool.root) in caught.value.message
    assert "PUSHER_HOME" in caught.value.hint
    assert leftovers(spool) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    require("mount", "umount", root=True)
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "mode=0700,size=4m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        _lacking("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full_loses_nothing(small_disk: Path) -> None:
    spool = Spool(small_disk)
    small, big = make_layer(1_000_000, compressible=0.0), make_layer(8_000_000, compressible=0.0)
    kept = spool.write_layer(io.BytesIO(small.tar), how=GZIP)
    with pytest.raises(DiskFull) as caught:
        spool.write_layer(io.BytesIO(big.tar), how=GZIP)
    # 4.2 MB less the first blob and a twentieth: what was free, not the nothing that was left
    assert ": 2." in caught.value.message
    assert [digest for digest, _, _ in spool.blobs()] == [kept.digest]
    assert len(leftovers(spool)) == 1
    assert spool.write_layer(io.BytesIO(small.tar), how=GZIP) == kept


@pytest.mark.parametrize(
    ("number", "kind", "told"),
    [
        (errno.EIO, MachineExhausted, "the disk of {} failed: Input/output error"),
        (errno.ETIMEDOUT, MachineExhausted, "the disk of {} cannot be reached: Connection timed out"),
        (errno.EROFS, HomeUnusable, "{} is on a disk that is mounted read-only"),
        (errno.EACCES, HomeUnusable, "to {}: Permission denied"),
    ],
)
def test_other_disk_errors_are_sentences_too(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[PusherError], told: str
) -> None:
    def replace(path: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("pathlib.Path.replace", replace)
    with pytest.raises(kind) as caught:
        put(spool, b"data")
    assert told.format(spool.root) in caught.value.message
    assert leftovers(spool) == []


def test_a_spool_that_cannot_be_made_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeUnusable) as caught:
        Spool(tmp_path / "file" / "spool")
    assert str(tmp_path / "file" / "spool") in caught.value.message


def test_errors_of_the_source_pass_unchanged(spool: Spool) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionResetError("the source's own")

        def readinto(self, buffer: object) -> int:
            raise ConnectionResetError("the source's own")

    with pytest.raises(ConnectionResetError, match="the source's own"):
        spool.write_layer(Broken(), how=GZIP)
    with pytest.raises(ConnectionResetError, match="the source's own"):
        spool.write_blob(Broken(), digest=MISSING, size=1, media_type="x")
    assert leftovers(spool) == []


def test_blobs_are_private_to_the_user(spool: Spool) -> None:
    assert spool.path(put(spool, b"secret layer")).stat().st_mode & 0o077 == 0


def _went_down_since(path: Path) -> None:
    """As if the machine had been started after the blob was written."""
    os.utime(path, (1, 1))


def test_after_a_power_cut_a_torn_blob_goes_and_a_whole_one_stays(spool: Spool) -> None:
    whole = spool.write_layer(io.BytesIO(b"whole" * 1000), how=GZIP)
    torn = spool.write_layer(io.BytesIO(b"torn" * 1000), how=GZIP)
    spool.path(torn.digest).write_bytes(bytes(torn.size))
    for blob in (whole, torn):
        _went_down_since(spool.path(blob.digest))

    assert spool.has(whole.digest, whole.size)
    assert not spool.has(torn.digest, torn.size)
    assert not spool.path(torn.digest).exists()


def test_a_blob_is_read_again_only_once_after_a_power_cut(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = spool.write_layer(io.BytesIO(b"layer" * 1000), how=GZIP)
    _went_down_since(spool.path(blob.digest))
    assert spool.has(blob.digest)
    _went_down_since(spool.path(blob.digest))
    monkeypatch.setattr(Spool, "verify", lambda *_: pytest.fail("it was read again"))
    assert spool.has(blob.digest)


def test_what_was_written_since_the_machine_started_is_not_read_again(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = spool.write_layer(io.BytesIO(b"fresh" * 1000), how=GZIP)
    monkeypatch.setattr(Spool, "verify", lambda *_: pytest.fail("it was read again"))
    assert spool.has(blob.digest, blob.size)
    assert not spool.has(blob.digest, blob.size + 1)


def test_a_system_without_the_clock_of_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    (tmp_path / "blob").write_bytes(b"x")
    assert temporary.is_durable((tmp_path / "blob").stat())
