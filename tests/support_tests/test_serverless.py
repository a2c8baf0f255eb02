"""Every row of what serverless-registry was seen to do, asserted of the fake."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from tests.support.fakeregistry import SERVERLESS, FakeRegistry
from tests.support_tests.client import Client, digest_of, random_bytes

MIN, MAX = 1000, 20_000
RULES = SERVERLESS.scaled(min=MIN, max=MAX)
DATA = random_bytes(3 * MIN)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(RULES) as running:
        yield running


@pytest.fixture
def client(registry: FakeRegistry) -> Iterator[Client]:
    with Client(registry.address) as talking:
        yield talking


def _two_chunks(client: Client) -> str:
    """A session that holds two equal chunks of DATA; its location."""
    location = client.open().location
    for at in (0, MIN):
        location = client.patch(location, DATA[at : at + MIN], at).location
    return location


def test_open_announces_limits_and_a_relative_location(client: Client) -> None:
    opened = client.open()
    assert opened.status == 202
    assert opened.location.startswith("/v2/team/app/blobs/uploads/")
    assert "?_stateHash=" in opened.location
    assert (opened.range, opened.headers["content-range"]) == ("0-0", "0-0")
    assert opened.headers["oci-chunk-min-length"] == "1000"
    assert opened.headers["oci-chunk-max-length"] == "20000"
    assert opened.headers["docker-upload-uuid"] in opened.location


def test_limits_are_the_real_ones_unless_scaled() -> None:
    assert (SERVERLESS.min_chunk, SERVERLESS.max_chunk, SERVERLESS.max_blob) == (
        5 << 20,
        100_000_000,
        5 << 30,
    )


def test_equal_chunks_and_an_empty_close(client: Client, registry: FakeRegistry) -> None:
    location = _two_chunks(client)
    last = client.patch(location, DATA[2 * MIN :], 2 * MIN)
    assert (last.status, last.range) == (202, "0-2999")
    assert "oci-chunk-min-length" not in last.headers
    closed = client.close(last.location, digest_of(DATA))
    assert (closed.status, closed.headers["docker-content-digest"]) == (201, digest_of(DATA))
    assert client.get_blob(digest_of(DATA)).body == DATA
    assert registry.blob("team/app", digest_of(DATA)) == DATA
    assert registry.chunks == [MIN, MIN, MIN]


def test_every_patch_changes_the_location(client: Client) -> None:
    opened = client.open()
    first = client.patch(opened.location, DATA[:MIN], 0)
    second = client.patch(first.location, DATA[MIN : 2 * MIN], MIN)
    assert len({opened.location, first.location, second.location}) == 3


@pytest.mark.parametrize("form", ["old", "none"])
def test_status_ignores_the_state_hash(client: Client, form: str) -> None:
    opened = client.open().location
    acked = client.patch(opened, DATA[:MIN], 0).location
    status = client.status(opened if form == "old" else opened.split("?")[0])
    assert (status.status, status.range, status.location) == (204, "0-999", acked)
    assert status.headers["oci-chunk-max-length"] == "20000"


def test_status_of_an_empty_session_is_0_minus_minus_1(client: Client) -> None:
    assert client.status(client.open().location).range == "0--1"


def test_status_of_an_unknown_session_is_404_without_a_body(client: Client) -> None:
    status = client.status("/v2/team/app/blobs/uploads/none?_stateHash=00")
    assert (status.status, status.body) == (404, b"")


def test_replay_of_an_acked_chunk_tells_the_right_position(client: Client) -> None:
    opened = client.open().location
    acked = client.patch(opened, DATA[:MIN], 0)
    replayed = client.patch(opened, DATA[:MIN], 0)
    assert (replayed.status, replayed.location, replayed.range) == (416, acked.location, "0-999")
    assert client.patch(replayed.location, DATA[MIN : 2 * MIN], MIN).status == 202


def test_refusal_of_an_empty_session_says_0_minus_minus_1(client: Client) -> None:
    refused = client.patch(client.open().location, DATA[:MIN], 5)
    assert (refused.status, refused.range) == (416, "0--1")


def test_broken_chunk_leaves_the_old_offset_and_location(client: Client) -> None:
    acked = client.patch(client.open().location, DATA[:MIN], 0)
    client.break_in_patch(acked.location, DATA[MIN : 2 * MIN], 600, MIN)
    status = client.status(acked.location)
    assert (status.range, status.location) == ("0-999", acked.location)
    again = client.patch(acked.location, DATA[MIN:], MIN)
    assert again.status == 416  # larger than the first: the size rule binds after a break too
    again = client.patch(acked.location, DATA[MIN : 2 * MIN], MIN)
    last = client.patch(again.location, DATA[2 * MIN :], 2 * MIN)
    assert client.close(last.location, digest_of(DATA)).status == 201


def test_patch_without_state_hash_or_after_delete_is_500(client: Client) -> None:
    location = client.open().location
    assert client.patch(location.split("?")[0], DATA[:MIN], 0).status == 500
    assert client.cancel(location).status == 204
    assert client.patch(location, DATA[:MIN], 0).status == 500
    assert client.status(location).status == 404
    assert client.cancel(location).status == 500


def test_content_range_with_a_unit_is_416(client: Client) -> None:
    refused = client.patch(client.open().location, DATA[:MIN], content_range="bytes 0-999")
    assert refused.status == 416


def test_patch_without_content_range_appends(client: Client) -> None:
    first = client.patch(client.open().location, DATA[:MIN])
    assert (first.status, client.patch(first.location, DATA[MIN : 2 * MIN]).range) == (202, "0-1999")


def test_patch_without_a_body_is_400(client: Client) -> None:
    assert client.request("PATCH", client.open().location).status == 400


def test_larger_chunk_than_the_first_is_416(client: Client) -> None:
    first = client.patch(client.open().location, DATA[:MIN], 0)
    assert client.patch(first.location, DATA[MIN:], MIN).status == 416


def test_chunk_below_the_minimum_must_be_the_last(client: Client) -> None:
    first = client.patch(client.open().location, DATA[:10], 0)
    assert first.status == 202
    assert client.patch(first.location, DATA[10 : 10 + MIN], 10).status == 416
    assert client.patch(first.location, DATA[10:20], 10).status == 416
    assert client.close(first.location, digest_of(DATA[:10])).status == 201


def test_two_smaller_chunks_are_taken_and_make_the_close_fail(client: Client) -> None:
    location, at = client.open().location, 0
    for size in (MIN, 900, 800):
        answer = client.patch(location, DATA[at : at + size], at)
        assert answer.status == 202
        location, at = answer.location, at + size
    _assert_dead_after(client, location, client.close(location, digest_of(DATA[:at])).status, DATA[:at])


@pytest.mark.parametrize(("with_range", "status"), [(True, 416), (False, 202)])
def test_chunk_of_one_byte(client: Client, with_range: bool, status: int) -> None:
    first = client.patch(client.open().location, DATA[:MIN], 0)
    last = client.patch(first.location, DATA[MIN : MIN + 1], MIN if with_range else None)
    assert last.status == status
    if status == 202:
        assert client.close(last.location, digest_of(DATA[: MIN + 1])).status == 201


def test_last_chunk_in_the_close_is_dropped_and_kills_the_session(client: Client) -> None:
    location = _two_chunks(client)
    status = client.close(location, digest_of(DATA), DATA[2 * MIN :]).status
    _assert_dead_after(client, location, status, DATA[: 2 * MIN])


def test_wrong_digest_kills_a_session_with_parts(client: Client) -> None:
    location = _two_chunks(client)
    status = client.close(location, digest_of(b"other")).status
    _assert_dead_after(client, location, status, DATA[: 2 * MIN])


def _assert_dead_after(client: Client, location: str, close_status: int, data: bytes) -> None:
    """The close failed; the status still says that all is well; nothing goes on."""
    assert close_status == 500
    status = client.status(location)
    assert (status.status, status.range) == (204, f"0-{len(data) - 1}")
    assert client.close(status.location, digest_of(data)).status == 500
    assert client.patch(status.location, DATA[:1]).status == 500
    assert client.head_blob(digest_of(data)).status == 404


def test_repeat_of_a_successful_close(client: Client) -> None:
    location = _two_chunks(client)
    digest = digest_of(DATA[: 2 * MIN])
    assert client.close(location, digest).status == 201
    assert client.close(location, digest).status == 500
    assert client.status(location).status == 404
    assert client.head_blob(digest).status == 200


@pytest.mark.parametrize("size", [0, 1, 100, MIN + 7])
def test_blob_in_one_put(client: Client, size: int) -> None:
    digest = client.push(DATA[:size])
    assert client.head_blob(digest).headers["content-length"] == str(size)


def test_blob_in_one_put_wrong_then_right(client: Client) -> None:
    location = client.open().location
    assert client.close(location, digest_of(b"other"), DATA).status == 500
    assert client.close(location, digest_of(DATA), DATA).status == 201


def test_close_with_an_old_state_hash_is_416(client: Client) -> None:
    opened = client.open().location
    acked = client.patch(opened, DATA[:MIN], 0)
    refused = client.close(opened, digest_of(DATA[:MIN]))
    assert (refused.status, refused.location, refused.range) == (416, acked.location, "0-999")


def test_refusal_dumps_the_state_in_its_detail(client: Client) -> None:
    refused = client.patch(client.open().location, DATA[:MIN], 5)
    assert refused.code == "RANGE_ERROR"
    assert b"stateHash" in refused.body


def test_body_over_the_limit_meets_the_front(client: Client, registry: FakeRegistry) -> None:
    location = client.open().location
    refused = client.patch(location, bytes(MAX + 1), 0)
    assert (refused.status, refused.headers["content-type"]) == (413, "text/html")
    assert client.patch(location, bytes(MAX), 0).status == 202
    assert registry.chunks == [MAX]


def test_blob_over_the_store_limit_fails_at_its_very_end() -> None:
    with FakeRegistry(RULES.scaled(blob=2 * MIN - 1)) as registry, Client(registry.address) as client:
        location = _two_chunks(client)
        status = client.close(location, digest_of(DATA[: 2 * MIN])).status
        _assert_dead_after(client, location, status, DATA[: 2 * MIN])


def test_too_many_parts_is_500() -> None:
    rules = dataclasses.replace(RULES, max_parts=2)
    with FakeRegistry(rules) as registry, Client(registry.address) as client:
        assert client.patch(_two_chunks(client), DATA[2 * MIN :], 2 * MIN).status == 500


def test_empty_blob_may_be_refused() -> None:
    rules = dataclasses.replace(RULES, accepts_empty_blob=False)
    with FakeRegistry(rules) as registry, Client(registry.address) as client:
        assert client.close(client.open().location, digest_of(b"")).status == 500


def test_mount_needs_both_parameters_and_the_blob(client: Client, registry: FakeRegistry) -> None:
    digest = registry.add_blob("team/base", DATA)
    mounted = client.open(mount=digest, **{"from": "team/base"})
    assert (mounted.status, mounted.headers["docker-content-digest"]) == (201, digest)
    assert client.open(mount=digest).status == 202
    assert client.open(mount=digest_of(b"other"), **{"from": "team/base"}).status == 202


def test_head_of_a_mounted_blob_describes_the_link(client: Client, registry: FakeRegistry) -> None:
    digest = registry.add_blob("team/base", DATA)
    client.open(mount=digest, **{"from": "team/base"})
    head = client.head_blob(digest)
    assert (head.status, head.headers["content-length"]) == (200, "82")
    assert head.headers["docker-content-digest"] != digest
    assert client.get_blob(digest).body == DATA


def test_manifest_rules(client: Client) -> None:
    blob = {"digest": client.push(DATA), "size": len(DATA), "mediaType": "application/octet-stream"}
    kind = "application/vnd.oci.image.manifest.v1+json"
    good = {"schemaVersion": 2, "mediaType": kind, "config": blob, "layers": [blob]}
    missing = {**blob, "digest": digest_of(b"other")}
    untyped = {name: value for name, value in good.items() if name != "mediaType"}
    assert client.put_manifest("1", untyped).code == "MANIFEST_INVALID"
    for bad in ({**good, "layers": [missing]}, {**good, "config": missing}, {**good, "subject": missing}):
        refused = client.put_manifest("1", bad)
        assert (refused.status, refused.code) == (400, "BLOB_UNKNOWN")
    stored = client.put_manifest("1", good)
    assert stored.status == 201
    for reference in ("1", stored.headers["docker-content-digest"]):
        assert client.request("GET", client.path(f"manifests/{reference}")).headers["content-type"] == kind
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [missing],
    }
    assert client.put_manifest("all", index).code == "BLOB_UNKNOWN"


def test_scheme_of_the_credentials_is_compared_case_sensitively() -> None:
    with FakeRegistry(RULES, credentials=("user", "pass")) as registry, Client(registry.address) as client:
        statuses = {
            header: client.request("GET", "/v2/", headers={"Authorization": header}).status
            for header in ("Basic dXNlcjpwYXNz", "basic dXNlcjpwYXNz", "Basic d3Jvbmc6")
        }
        assert list(statuses.values()) == [200, 401, 401]
        anonymous = client.open()
        assert anonymous.status == 401
        assert anonymous.headers["www-authenticate"].startswith(f'Basic realm="{registry.url}/v2/team/app/')
