"""What others may change is hashed as it is sent: its last byte leaves only if all are the blob."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from pathlib import Path

import pytest

from pusher.registry.http.body import BLOCK, BlobDamaged, BlobFile, Body
from pusher.registry.http.verified_file import DigestVerifier
from tests.registry.helpers import Onlooker, Push, pushing
from tests.support.fakeregistry import On
from tests.support.fakeregistry.distribution import DISTRIBUTION_3

DATA = bytes(range(256)) * 1500


@pytest.fixture(params=["sha256", "sha512"])
def digest(request: pytest.FixtureRequest) -> str:
    return f"{request.param}:{hashlib.new(request.param, DATA).hexdigest()}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"head" + DATA + b"tail")
    return path


@pytest.fixture
def blob(path: Path, digest: str) -> BlobFile:
    return BlobFile(
        digest, len(DATA), path, 4, opener=lambda: path.open("rb"), verifier=DigestVerifier(digest, len(DATA))
    )


def sent(blob: BlobFile, offset: int, length: int) -> Generator[bytes, None, None]:
    body = Body(blob, offset, length, Onlooker())
    try:
        yield from body
    finally:
        body.close()


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[4 + position] ^= 1
    path.write_bytes(data)


def push_wrong_bytes(push: Push) -> None:
    """Push a file that has the blob's size and other bytes."""
    wrong = push.blob.path.with_name("wrong")
    wrong.write_bytes(bytes(push.blob.size))
    verifier = DigestVerifier(push.blob.digest, push.blob.size)
    push.blob = BlobFile(push.blob.digest, push.blob.size, wrong, verifier=verifier)
    push.restart()
    with pytest.raises(BlobDamaged):
        push.run()


@pytest.mark.parametrize("chunk", [1000, 130_000, len(DATA)])
def test_what_is_right_is_sent(blob: BlobFile, chunk: int) -> None:
    chunks = [b"".join(sent(blob, at, min(chunk, len(DATA) - at))) for at in range(0, len(DATA), chunk)]
    assert b"".join(chunks) == DATA


@pytest.mark.parametrize("position", [0, 200_000, len(DATA) - 1])
def test_the_end_of_what_is_wrong_is_not_sent(blob: BlobFile, path: Path, position: int) -> None:
    flip(path, position)
    got = bytearray()
    with pytest.raises(BlobDamaged):
        got.extend(byte for block in sent(blob, 0, len(DATA)) for byte in block)
    assert len(got) < len(DATA)
    assert not blob.is_intact()


def test_what_changes_between_two_chunks_is_noticed(blob: BlobFile, path: Path) -> None:
    b"".join(sent(blob, 0, 150_000))
    path.write_bytes(b"head" + DATA[:150_000] + bytes(len(DATA) - 150_000) + b"tail")
    with pytest.raises(BlobDamaged):
        list(sent(blob, 150_000, len(DATA) - 150_000))


def test_sending_goes_back_and_so_does_the_hash(blob: BlobFile) -> None:
    """A chunk breaks, the registry has a part of it; another is sent a second time."""
    list(sent(blob, 0, 100_000))
    broken = sent(blob, 100_000, 100_000)
    next(broken)
    broken.close()
    list(sent(blob, 130_001, 50_000))
    body = Body(blob, 180_001, len(DATA) - 180_001)
    body.read(70_000)
    body.rewind()
    assert body.read() == DATA[180_001:]
    body.close()


def test_another_process_reads_what_was_sent_before_it(digest: str, path: Path, blob: BlobFile) -> None:
    assert b"".join(sent(blob, 300_000, len(DATA) - 300_000)) == DATA[300_000:]
    flip(path, 299_999)
    again = BlobFile(digest, len(DATA), path, 4, verifier=DigestVerifier(digest, len(DATA)))
    with pytest.raises(BlobDamaged):
        list(sent(again, 300_000, len(DATA) - 300_000))


def test_a_file_that_is_another_one_is_damaged(digest: str, path: Path) -> None:
    def opener() -> object:
        raise OSError("it is another file than before")

    blob = BlobFile(digest, len(DATA), path, 4, opener=opener, verifier=DigestVerifier(digest, len(DATA)))  # type: ignore[arg-type]
    with pytest.raises(BlobDamaged):
        list(sent(blob, 0, len(DATA)))
    with pytest.raises(BlobDamaged):
        Body(blob, 10, 20)


@pytest.mark.parametrize("chunk_size", [20_000, 10**9])
def test_wrong_bytes_are_never_committed(tmp_path: Path, chunk_size: int) -> None:
    """Whatever the registry checks: the request that would end the upload is not finished."""
    with pushing(DISTRIBUTION_3, tmp_path, chunk_size=chunk_size) as push:
        push_wrong_bytes(push)
        assert not any(push.registry.blobs.values())
        assert all(record.status != 201 for record in push.registry.requests(On.CLOSE))


def test_what_was_sent_of_wrong_bytes_is_counted(tmp_path: Path) -> None:
    """Also those of a request that was never finished."""
    with pushing(DISTRIBUTION_3, tmp_path, size=5 * BLOCK, chunk_size=10**9) as push:
        push_wrong_bytes(push)
        assert 0 < push.journal.sent < push.blob.size
