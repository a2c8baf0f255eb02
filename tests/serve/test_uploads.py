"""Pushing blobs: every way that the specification knows, and what is refused."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.serve import uploads
from pusher.serve.errors import ApiError
from tests.serve.served import Repository, Served, codes, sha256, sha512

BLOB = os.urandom(3_000_000)
"""Of several blocks."""


def is_there(repository: Repository, data: bytes, digest: str) -> bool:
    answer = repository.ask("GET", f"blobs/{digest}")
    return answer.status_code == 200 and answer.content == data


@pytest.mark.parametrize("digest", [sha256(BLOB), sha512(BLOB)], ids=["sha256", "sha512"])
def test_in_one_post(repository: Repository, digest: str) -> None:
    answer = repository.ask("POST", f"blobs/uploads/?digest={digest}", data=BLOB)
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{repository.path}/blobs/{digest}"
    assert answer.headers["Docker-Content-Digest"] == digest
    assert is_there(repository, BLOB, digest)


@pytest.mark.parametrize("digest", [sha256(BLOB), sha512(BLOB)], ids=["sha256", "sha512"])
def test_by_post_and_put(repository: Repository, digest: str) -> None:
    location = repository.open()
    assert re.search(r"/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", location)
    answer = repository.served.ask("PUT", f"{location}?digest={digest}", data=BLOB)
    assert answer.status_code == 201
    assert is_there(repository, BLOB, digest)


@pytest.mark.parametrize("query", ["", "?digest-algorithm=sha512"], ids=["unannounced", "announced"])
@pytest.mark.parametrize("digest", [sha256(BLOB), sha512(BLOB)], ids=["sha256", "sha512"])
def test_a_stream_as_docker_sends_it(repository: Repository, query: str, digest: str) -> None:
    def parts() -> Iterator[bytes]:
        for at in range(0, len(BLOB), 70_000):
            yield BLOB[at : at + 70_000]

    location = repository.open(query)
    answer = repository.served.ask("PATCH", location, data=parts())
    assert (answer.status_code, answer.headers["Range"]) == (202, f"0-{len(BLOB) - 1}")
    answer = repository.served.ask("PUT", f"{answer.headers['Location']}?digest={digest}")
    assert answer.status_code == 201
    assert is_there(repository, BLOB, digest)


@pytest.mark.parametrize("last_by", ["PATCH", "PUT"])
def test_in_chunks(repository: Repository, last_by: str) -> None:
    size, digest = 1_100_000, sha256(BLOB)
    location = repository.open()
    for start in range(0, len(BLOB), size):
        chunk = BLOB[start : start + size]
        is_last = start + size >= len(BLOB)
        method = last_by if is_last else "PATCH"
        answer = repository.served.ask(
            method,
            f"{location}?digest={digest}" if method == "PUT" else location,
            data=chunk,
            headers={"Content-Range": f"{start}-{start + len(chunk) - 1}"},
        )
        location = answer.headers["Location"]
        if method == "PATCH":
            assert (answer.status_code, answer.headers["Range"]) == (202, f"0-{start + len(chunk) - 1}")
    if last_by == "PATCH":
        answer = repository.served.ask("PUT", f"{location}?digest={digest}")
    assert answer.status_code == 201
    assert is_there(repository, BLOB, digest)


@pytest.mark.parametrize("start", [0, 5, 15])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_chunk_out_of_place_is_refused_and_changes_nothing(
    repository: Repository, method: str, start: int
) -> None:
    digest = sha256(b"0123456789abcde")
    location = repository.open()
    repository.served.ask("PATCH", location, data=b"0123456789", headers={"Content-Range": "0-9"})
    answer = repository.served.ask(
        method,
        f"{location}?digest={digest}",
        data=b"xxxxx",
        headers={"Content-Range": f"{start}-{start + 4}"},
    )
    assert (answer.status_code, codes(answer)) == (416, ["BLOB_UPLOAD_INVALID"])
    status = repository.served.ask("GET", location)
    assert (status.status_code, status.headers["Range"]) == (204, "0-9")
    assert status.headers["Location"] == location
    answer = repository.served.ask(
        "PUT", f"{location}?digest={digest}", data=b"abcde", headers={"Content-Range": "10-14"}
    )
    assert answer.status_code == 201


def test_the_status_of_an_empty_upload_begins_at_zero(repository: Repository) -> None:
    status = repository.served.ask("GET", repository.open())
    assert (status.status_code, status.headers["Range"]) == (204, "0-0")


@pytest.mark.parametrize("header", ["5", "9-0", "-5", "a-b", "0-4, 6-9"])
def test_a_range_that_is_none_is_refused(repository: Repository, header: str) -> None:
    location = repository.open()
    answer = repository.served.ask("PATCH", location, data=b"01234", headers={"Content-Range": header})
    assert (answer.status_code, codes(answer)) == (416, ["BLOB_UPLOAD_INVALID"])


def test_a_chunk_of_another_size_than_its_range_is_refused(repository: Repository) -> None:
    location = repository.open()
    answer = repository.served.ask("PATCH", location, data=b"01234", headers={"Content-Range": "0-9"})
    assert (answer.status_code, codes(answer)) == (400, ["SIZE_INVALID"])
    answer = repository.served.ask(
        "PATCH", location, data=iter([b"01234", b"56789"]), headers={"Content-Range": "0-6"}
    )
    assert (answer.status_code, codes(answer)) == (400, ["SIZE_INVALID"])


def test_an_upload_can_be_cancelled(repository: Repository) -> None:
    location = repository.open()
    repository.served.ask("PATCH", location, data=b"01234")
    assert repository.served.ask("DELETE", location).status_code == 204
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        answer = repository.served.ask(method, f"{location}?digest={sha256(b'01234')}")
        assert (answer.status_code, codes(answer)) == (404, ["BLOB_UPLOAD_UNKNOWN"])


def test_an_upload_belongs_to_its_repository(repository: Repository) -> None:
    upload = repository.open().rpartition("/")[2]
    answer = repository.served.ask("GET", f"/v2/team/other/blobs/uploads/{upload}")
    assert codes(answer) == ["BLOB_UPLOAD_UNKNOWN"]


@pytest.mark.parametrize("wrong", [sha256(b"x"), sha512(b"x")], ids=["sha256", "sha512"])
def test_another_digest_is_refused_and_ends_the_upload(repository: Repository, wrong: str) -> None:
    location = repository.open()
    answer = repository.served.ask("PUT", f"{location}?digest={wrong}", data=b"0123")
    assert (answer.status_code, codes(answer)) == (400, ["DIGEST_INVALID"])
    assert repository.ask("HEAD", f"blobs/{wrong}").status_code == 404
    assert repository.served.ask("GET", location).status_code == 404
    answer = repository.ask("POST", f"blobs/uploads/?digest={wrong}", data=b"0123")
    assert (answer.status_code, codes(answer)) == (400, ["DIGEST_INVALID"])


@pytest.mark.parametrize("digest", ["", "sha256:abc", "md5:" + 32 * "a", "sha256:" + 64 * "Z"])
def test_what_is_no_digest_is_refused_and_the_upload_goes_on(repository: Repository, digest: str) -> None:
    location = repository.open()
    answer = repository.served.ask("PUT", f"{location}?digest={digest}", data=b"0123")
    assert (answer.status_code, codes(answer)) == (400, ["DIGEST_INVALID"])
    assert (
        repository.served.ask("PUT", f"{location}?digest={sha256(b'0123')}", data=b"0123").status_code == 201
    )


def test_an_empty_blob(repository: Repository) -> None:
    digest = repository.push_blob(b"")
    answer = repository.ask("GET", f"blobs/{digest}")
    assert (answer.status_code, answer.content) == (200, b"")


def test_the_same_blob_twice_at_once(repository: Repository) -> None:
    first, second = repository.open(), repository.open()
    for location in (first, second):
        repository.served.ask("PATCH", location, data=BLOB)
    for location in (first, second):
        assert repository.served.ask("PUT", f"{location}?digest={sha256(BLOB)}").status_code == 201
    assert is_there(repository, BLOB, sha256(BLOB))


# --- mounts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["&from=team/shelf", ""], ids=["from", "from-anywhere"])
def test_a_blob_is_mounted(repository: Repository, served: Served, source: str) -> None:
    digest = Repository(served, "team/shelf").push_blob(b"to be mounted")
    answer = repository.ask("POST", f"blobs/uploads/?mount={digest}{source}")
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{repository.path}/blobs/{digest}"
    assert is_there(repository, b"to be mounted", digest)


@pytest.mark.parametrize("source", ["&from=team/shelf", ""], ids=["from", "from-anywhere"])
def test_what_cannot_be_mounted_is_uploaded(repository: Repository, source: str) -> None:
    digest = sha256(f"not anywhere {source}".encode())
    location = repository.open(f"?mount={digest}{source}")
    answer = repository.served.ask("PUT", f"{location}?digest={digest}", data=f"not anywhere {source}")
    assert answer.status_code == 201


# --- clients that hang up, and too many of them -------------------------------------------------------------


def half_a_request(served: Served, location: str, data: bytes, length: int, start: int = 0) -> socket.socket:
    """Send ``data``, the beginning of a chunk of ``length`` bytes."""
    connection = socket.create_connection(("127.0.0.1", served.port))
    lines = [f"PATCH {location} HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
    lines += [f"Content-Range: {start}-{start + length - 1}", "", ""]
    connection.sendall("\r\n".join(lines).encode() + data)
    return connection


def standing(served: Served, location: str, least: int) -> int:
    """Where the upload stands, once that is at ``least``."""
    while True:
        answer = served.ask("GET", location)
        assert answer.status_code == 204
        if (size := int(answer.headers["Range"].removeprefix("0-")) + 1) >= least:
            return size


def test_what_arrived_before_the_client_was_cut_off_counts(repository: Repository) -> None:
    location = repository.open()
    with half_a_request(repository.served, location, BLOB[:1_500_000], len(BLOB)):
        size = standing(repository.served, location, uploads.BLOCK)
    while True:
        answer = repository.served.ask(
            "PUT",
            f"{location}?digest={sha256(BLOB)}",
            data=BLOB[size:],
            headers={"Content-Range": f"{size}-{len(BLOB) - 1}"},
        )
        if answer.status_code != 416:
            break
        size = standing(repository.served, location, size + 1)  # the end of it was still on its way
    assert answer.status_code == 201
    assert is_there(repository, BLOB, sha256(BLOB))


def test_a_new_request_takes_over_from_one_that_hangs(repository: Repository) -> None:
    size = uploads.BLOCK
    location = repository.open()
    with half_a_request(repository.served, location, BLOB[:size], len(BLOB)) as hanging:
        assert standing(repository.served, location, size) == size
        answer = repository.served.ask(
            "PATCH", location, data=BLOB[size:], headers={"Content-Range": f"{size}-{len(BLOB) - 1}"}
        )
        assert answer.status_code == 202
        hanging.sendall(BLOB[size:])
        assert hanging.recv(1000).startswith(b"HTTP/1.1 416 ")
    assert repository.served.ask("PUT", f"{location}?digest={sha256(BLOB)}").status_code == 201
    assert is_there(repository, BLOB, sha256(BLOB))


def test_only_the_last_request_can_discard_what_it_sent(tmp_path: Path) -> None:
    (tmp_path / "upload").touch()
    upload = uploads.Upload("upload", "app", "sha256", tmp_path / "upload")
    first = upload.take_turn(0)
    upload.append(first, b"01234")
    second = upload.take_turn(5)
    upload.append(second, b"56789")
    upload.discard(first)  # its client is seen to have gone only now
    assert (upload.size, upload.path.read_bytes()) == (10, b"0123456789")
    upload.discard(second)
    assert (upload.size, upload.path.read_bytes()) == (5, b"01234")
    with pytest.raises(ApiError, match="another request"):
        upload.append(second, b"56789")
    last = upload.take_turn(5)
    upload.append(last, b"5")
    upload.finish(last, sha256(b"012345"))
    upload.discard(last)
    assert upload.path.read_bytes() == b"012345", "it is a blob by now"


def test_uploads_have_a_limit(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    open_now = len(repository.served.registry.catalog.uploads())
    monkeypatch.setattr(uploads, "MOST", open_now + 1)
    location = repository.open()
    answer = repository.ask("POST", "blobs/uploads/")
    assert (answer.status_code, codes(answer)) == (429, ["TOOMANYREQUESTS"])
    assert answer.headers["Retry-After"]
    repository.served.ask("DELETE", location)
    repository.served.ask("DELETE", repository.open())
