"""The odd rules of the registries that somebody else runs, asserted of their fakes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.support.fakeregistry import ACR, ALIYUN, ECR, GHCR, GOOGLE, FakeRegistry, Rules
from tests.support_tests.client import Answer, Client, digest_of, random_bytes

DATA = random_bytes(3_500)
PARTS = [DATA[:1_000], DATA[1_000:2_000], DATA[2_000:3_000], DATA[3_000:]]


@contextmanager
def speaking_to(rules: Rules) -> Iterator[tuple[FakeRegistry, Client]]:
    with FakeRegistry(rules) as registry, Client(registry.address) as client:
        yield registry, client


def send(client: Client, location: str, parts: list[bytes], *, at: int = 0) -> list[Answer]:
    """The parts as chunks, each to the Location of the answer before."""
    answers = []
    for part in parts:
        answers.append(client.patch(location, part, at))
        location, at = answers[-1].headers.get("location", location), at + len(part)
    return answers


def last_in_put(client: Client, location: str, data: bytes, at: int) -> Answer:
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Range": f"{at}-{at + len(data) - 1}",
    }
    return client.request("PUT", f"{location}?digest={digest_of(DATA)}", data, headers)


# --- GitHub -----------------------------------------------------------------------------------------------


def test_ghcr_refuses_chunks_over_4_mib() -> None:
    with speaking_to(GHCR) as (_, client):
        refused = client.patch(client.open().location, bytes(4 * 1024 * 1024 + 1), 0)
        assert refused.status == 416
        assert b"maximum permissible limit of 4.00MiB" in refused.body


def test_ghcr_takes_smaller_ones_at_a_relative_location() -> None:
    with speaking_to(GHCR.scaled(max=1_000)) as (registry, client):
        opened = client.open()
        assert urlsplit(opened.location).netloc == ""
        assert "/blobs/upload/" in opened.location
        assert [answer.status for answer in send(client, opened.location, PARTS)] == [202] * 4
        assert client.close(opened.location, digest_of(DATA)).status == 201
        assert registry.blob(client.repository, digest_of(DATA)) == DATA


def test_ghcr_does_not_know_an_upload_that_it_has_stored() -> None:
    with speaking_to(GHCR) as (_, client):
        location = client.open().location
        assert client.close(location, digest_of(DATA), DATA).status == 201
        assert client.close(location, digest_of(DATA), DATA).code == "BLOB_UPLOAD_UNKNOWN"
        assert client.head_blob(digest_of(DATA)).status == 200


def test_a_blob_larger_than_a_chunk_in_one_put_at_ghcr() -> None:
    with speaking_to(GHCR.scaled(max=1_000)) as (_, client):
        client.push(DATA)


# --- Amazon -----------------------------------------------------------------------------------------------


def test_ecr_answers_201_with_a_range_that_stands_still() -> None:
    with speaking_to(ECR.scaled(min=1_000, max=2_000)) as (registry, client):
        location = client.open().location
        answers = send(client, location, PARTS[:3])
        assert [(answer.status, answer.range) for answer in answers] == [(201, "0-999")] * 3
        assert client.status(location).status == 404
        assert last_in_put(client, location, PARTS[3], 3_000).status == 201
        assert registry.blob(client.repository, digest_of(DATA)) == DATA


def test_ecr_refuses_a_chunk_twice_and_says_where_to_go_on() -> None:
    with speaking_to(ECR.scaled(min=1_000, max=2_000)) as (_, client):
        location = client.open().location
        send(client, location, PARTS[:2])
        again = client.patch(location, PARTS[0], 0)
        assert (again.status, again.code) == (416, "BLOB_UPLOAD_INVALID")
        assert b"is 0 instead of 2000" in again.body


def test_ecr_closes_with_a_body_only_and_small_parts_last_only() -> None:
    with speaking_to(ECR.scaled(min=1_000, max=2_000)) as (_, client):
        location = client.open().location
        send(client, location, PARTS)
        assert client.close(location, digest_of(DATA)).status == 500
        location = client.open().location
        send(client, location, [DATA[:999], DATA[999:2_000]])
        assert last_in_put(client, location, DATA[2_000:], 2_000).status == 400
        assert client.patch(client.open().location, DATA[:2_001], 0).status == 400
        client.push(DATA)


# --- Google -----------------------------------------------------------------------------------------------


def test_google_takes_a_blob_in_one_put_only() -> None:
    with speaking_to(GOOGLE) as (_, client):
        location = client.open().location
        assert urlsplit(location).path.startswith("/artifacts-uploads/namespaces/")
        assert client.patch(location, PARTS[0], 0).status == 400
        assert client.status(location).status == 404
        assert client.close(location, digest_of(DATA), DATA).status == 201


# --- Microsoft --------------------------------------------------------------------------------------------


def test_acr_knows_a_chunk_sent_twice_no_more() -> None:
    with speaking_to(ACR) as (_, client):
        opened = client.open()
        assert urlsplit(opened.location).netloc == ""
        assert "?_nouploadcache=false&_state=" in opened.location
        (first,) = send(client, opened.location, PARTS[:1])
        assert (first.status, first.range) == (202, "0-999")
        assert client.patch(opened.location, PARTS[0], 0).code == "BLOB_UPLOAD_INVALID"
        assert client.patch(first.location, PARTS[1], content_range="bytes 1000-1999").status == 416
        rest = send(client, first.location, PARTS[1:], at=1_000)
        assert client.close(rest[-1].location, digest_of(DATA)).status == 201


def test_acr_refuses_a_large_blob_in_one_put() -> None:
    with speaking_to(ACR.scaled(whole=3_000)) as (_, client):
        assert client.close(client.open().location, digest_of(DATA), DATA).status == 413


# --- Alibaba ----------------------------------------------------------------------------------------------


def test_aliyun_tells_the_range_of_the_chunk() -> None:
    with speaking_to(ALIYUN) as (_, client):
        answers = send(client, client.open().location, PARTS)
        assert [answer.range for answer in answers] == ["0-999", "0-999", "0-999", "0-499"]
        assert client.status(answers[-1].location).range == "0-499"
        assert client.close(answers[-1].location, digest_of(DATA)).status == 201
