"""Pulling and deleting blobs."""

from __future__ import annotations

import pytest

from tests.serve.served import Repository, Served, codes, sha256

DATA = bytes(range(200)) * 10


@pytest.fixture
def digest(repository: Repository) -> str:
    return repository.push_blob(DATA)


def test_head_tells_size_and_digest(repository: Repository, digest: str) -> None:
    answer = repository.ask("HEAD", f"blobs/{digest}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(DATA))
    assert answer.headers["Docker-Content-Digest"] == digest


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("0-9", 0, 10), ("10-", 10, 2000), ("-5", 1995, 2000), ("1990-5000", 1990, 2000), ("-9999", 0, 2000)],
)
def test_a_range(repository: Repository, digest: str, asked: str, start: int, end: int) -> None:
    answer = repository.ask("GET", f"blobs/{digest}", headers={"Range": f"bytes={asked}"})
    assert (answer.status_code, answer.content) == (206, DATA[start:end])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/2000"
    head = repository.ask("HEAD", f"blobs/{digest}", headers={"Range": f"bytes={asked}"})
    assert (head.status_code, head.headers["Content-Length"]) == (206, str(end - start))


@pytest.mark.parametrize("asked", ["bytes=2000-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_behind_the_end(repository: Repository, digest: str, asked: str) -> None:
    answer = repository.ask("GET", f"blobs/{digest}", headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == "bytes */2000"


@pytest.mark.parametrize("asked", ["bytes=0-5,7-9", "lines=0-5", "bytes=9-3", "bytes=-"])
def test_ranges_that_are_not_understood_are_ignored(repository: Repository, digest: str, asked: str) -> None:
    answer = repository.ask("GET", f"blobs/{digest}", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, DATA)


def test_conditions(repository: Repository, digest: str) -> None:
    etag = repository.ask("HEAD", f"blobs/{digest}").headers["ETag"]
    assert repository.ask("GET", f"blobs/{digest}", headers={"If-None-Match": etag}).status_code == 304
    assert repository.ask("GET", f"blobs/{digest}", headers={"If-None-Match": '"x"'}).status_code == 200
    ranged = {"Range": "bytes=0-4", "If-Range": etag}
    assert repository.ask("GET", f"blobs/{digest}", headers=ranged).content == DATA[:5]
    ranged["If-Range"] = '"x"'
    assert repository.ask("GET", f"blobs/{digest}", headers=ranged).content == DATA


def test_a_blob_is_only_in_its_repository(repository: Repository, served: Served, digest: str) -> None:
    answer = Repository(served, "team/elsewhere").ask("GET", f"blobs/{digest}")
    assert (answer.status_code, codes(answer)) == (404, ["BLOB_UNKNOWN"])


def test_deleting(repository: Repository, served: Served) -> None:
    digest = repository.push_blob(b"to be deleted")
    other = Repository(served, "team/also-has-it")
    other.push_blob(b"to be deleted")
    file = served.registry.blob_path(digest)
    assert repository.ask("DELETE", f"blobs/{digest}").status_code == 202
    for method in ("GET", "DELETE"):
        answer = repository.ask(method, f"blobs/{digest}")
        assert (answer.status_code, codes(answer)) == (404, ["BLOB_UNKNOWN"])
    assert other.ask("GET", f"blobs/{digest}").content == b"to be deleted"
    assert file.exists()
    assert other.ask("DELETE", f"blobs/{digest}").status_code == 202
    assert not file.exists()


def test_a_file_that_is_gone_is_a_blob_that_is_unknown(repository: Repository, served: Served) -> None:
    digest = repository.push_blob(b"its file goes away")
    served.registry.blob_path(digest).unlink()
    assert repository.ask("HEAD", f"blobs/{digest}").status_code == 404
    assert repository.push_blob(b"its file goes away") == digest
    assert repository.ask("GET", f"blobs/{digest}").content == b"its file goes away"


@pytest.mark.parametrize("digest", ["sha256:abc", "latest", "md5:" + 32 * "a", sha256(b"").upper()])
def test_what_is_no_digest(repository: Repository, digest: str) -> None:
    answer = repository.ask("GET", f"blobs/{digest}")
    assert (answer.status_code, codes(answer)) == (400, ["DIGEST_INVALID"])
