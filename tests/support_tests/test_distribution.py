"""What distribution does, asserted of the fake; for 2.8 of the real registry too, by the very same tests."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.fakeregistry import DISTRIBUTION_2, DISTRIBUTION_3, FakeRegistry
from tests.support.real import docker_registry, require  # noqa: F401 - a fixture
from tests.support_tests.client import Client, digest_of, random_bytes

DATA = random_bytes(300_000)
HALF = 150_000


@pytest.fixture(params=["fake 2", "real 2", "fake 3"])
def any_registry(request: pytest.FixtureRequest) -> Iterator[str]:
    """Address of each kind in turn."""
    if request.param == "real 2":
        registry: DockerRegistry = request.getfixturevalue("docker_registry")
        yield registry.address
    else:
        with FakeRegistry(DISTRIBUTION_2 if request.param == "fake 2" else DISTRIBUTION_3) as fake:
            yield fake.address


@pytest.fixture
def both(any_registry: str, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of 2.x, fake and real, and of 3.x, in a repository of this test's own."""
    name = request.node.originalname.removeprefix("test_").replace("_", "-")[:60].strip("-")
    with Client(any_registry, repository=f"own/{name}") as client:
        yield client


@pytest.fixture(params=["fake", "real"])
def two(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of 2.x, fake and real."""
    name = "two/" + request.node.originalname.removeprefix("test_").replace("_", "-")[:60].strip("-")
    if request.param == "real":
        registry: DockerRegistry = request.getfixturevalue("docker_registry")
        with Client(registry.address, repository=name) as client:
            yield client
    else:
        with FakeRegistry(DISTRIBUTION_2) as fake, Client(fake.address, repository=name) as client:
            yield client


@pytest.fixture
def three() -> Iterator[Client]:
    """A client of 3.x."""
    with FakeRegistry(DISTRIBUTION_3) as registry, Client(registry.address) as client:
        yield client


# --- what 2.x and 3.x have in common ----------------------------------------------------------------------


def test_open(both: Client) -> None:
    opened = both.open()
    assert (opened.status, opened.range) == (202, "0-0")
    assert opened.location.startswith(f"http://{both.address}/v2/{both.repository}/blobs/uploads/")
    assert opened.headers["docker-upload-uuid"] in opened.location
    assert opened.headers["docker-distribution-api-version"] == "registry/2.0"
    assert "oci-chunk-min-length" not in opened.headers


def test_location_follows_the_host_header(both: Client) -> None:
    opened = both.request("POST", both.path("blobs/uploads/"), b"", {"Host": "registry.test:1234"})
    assert opened.location.startswith("http://registry.test:1234/v2/")


def test_state_carries_the_offset(both: Client) -> None:
    opened = both.open()
    acked = both.patch(opened.location, DATA[:10], 0)
    assert [_offset(answer.location) for answer in (opened, acked)] == [0, 10]


def _offset(location: str) -> int:
    packed = base64.urlsafe_b64decode(parse_qs(urlsplit(location).query)["_state"][0])
    offset: int = json.loads(packed[32:])["Offset"]
    return offset


def test_chunks_and_an_empty_close(both: Client) -> None:
    first = both.patch(both.open().location, DATA[:HALF], 0)
    second = both.patch(first.location, DATA[HALF:], HALF)
    assert (first.status, first.range, second.status, second.range) == (202, "0-149999", 202, "0-299999")
    closed = both.close(second.location, digest_of(DATA))
    assert (closed.status, closed.headers["docker-content-digest"]) == (201, digest_of(DATA))
    assert closed.location == f"http://{both.address}{both.path('blobs/' + digest_of(DATA))}"
    assert both.head_blob(digest_of(DATA)).headers["content-length"] == str(len(DATA))
    assert both.get_blob(digest_of(DATA)).body == DATA


def test_last_chunk_in_the_close(both: Client) -> None:
    first = both.patch(both.open().location, DATA[:HALF], 0)
    assert both.close(first.location, digest_of(DATA), DATA[HALF:]).status == 201


def test_chunk_without_content_range_appends(both: Client) -> None:
    first = both.patch(both.open().location, DATA[:10])
    assert both.patch(first.location, DATA[10:30]).range == "0-29"


@pytest.mark.parametrize("size", [0, 1, 70_000])
def test_blob_in_one_put(both: Client, size: int) -> None:
    assert both.head_blob(both.push(DATA[:size])).status == 200


def test_one_byte_looks_like_none(both: Client) -> None:
    opened = both.open()
    assert both.status(opened.location).range == "0-0"
    assert both.patch(opened.location, DATA[:1], 0).range == "0-0"


def test_status_at_an_acked_boundary(both: Client) -> None:
    acked = both.patch(both.open().location, DATA[:HALF], 0)
    status = both.status(acked.location)
    assert (status.status, status.range) == (204, "0-149999")
    assert _offset(status.location) == HALF


def test_wrong_digest_at_the_close(both: Client) -> None:
    location = both.patch(both.open().location, DATA, 0).location
    refused = both.close(location, digest_of(b"other"))
    assert (refused.status, refused.code) == (400, "DIGEST_INVALID")


def test_close_without_a_digest(both: Client) -> None:
    location = both.open().location
    refused = both.request("PUT", location, b"")
    assert (refused.status, refused.code) == (400, "DIGEST_INVALID")


def test_repeat_of_a_successful_close(both: Client) -> None:
    location = both.patch(both.open().location, DATA, 0).location
    assert both.close(location, digest_of(DATA)).status == 201
    repeated = both.close(location, digest_of(DATA))
    assert (repeated.status, repeated.code) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert both.head_blob(digest_of(DATA)).status == 200


def test_cancel(both: Client) -> None:
    location = both.open().location
    assert both.cancel(location).status == 204
    gone = both.patch(location, DATA[:10], 0)
    assert (gone.status, gone.code) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_forged_state(both: Client) -> None:
    location = both.open().location.split("?")[0] + "?_state=AAAA"
    refused = both.patch(location, DATA[:10], 0)
    assert (refused.status, refused.code) == (404, "BLOB_UPLOAD_INVALID")


def test_state_of_another_repository(both: Client) -> None:
    location = both.open().location.replace(both.repository, both.repository + "-other")
    assert both.patch(location, DATA[:10], 0).code == "BLOB_UPLOAD_INVALID"


def test_mount(both: Client) -> None:
    digest = both.push(DATA)
    with Client(both.address, repository=both.repository + "-copy") as other:
        mounted = other.open(mount=digest, **{"from": both.repository})
        assert (mounted.status, mounted.headers["docker-content-digest"]) == (201, digest)
        assert other.head_blob(digest).headers["content-length"] == str(len(DATA))
        assert other.open(mount=digest).status == 202
        assert other.open(mount=digest_of(b"other"), **{"from": both.repository}).status == 202


def test_unknown_blob(both: Client) -> None:
    assert both.head_blob(digest_of(DATA)).status == 404
    assert both.get_blob(digest_of(DATA)).code == "BLOB_UNKNOWN"


def test_other_content_type_is_500(both: Client) -> None:
    location = both.open().location
    refused = both.request("PATCH", location, DATA[:10], {"Content-Type": "text/plain"})
    assert (refused.status, refused.code) == (500, "UNKNOWN")


def test_manifest(both: Client) -> None:
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": []}}).encode()
    described = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(config)}
    manifest = {"schemaVersion": 2, "mediaType": kind, "layers": []}
    missing = {**manifest, "config": {**described, "digest": digest_of(b"other")}}
    refused = both.put_manifest("1", missing)
    assert (refused.status, refused.code) == (400, "MANIFEST_BLOB_UNKNOWN")
    manifest["config"] = {**described, "digest": both.push(config)}
    stored = both.put_manifest("1", manifest)
    digest = stored.headers["docker-content-digest"]
    assert (stored.status, digest) == (201, digest_of(json.dumps(manifest).encode()))
    wrong = both.put_manifest(digest_of(b"other"), manifest)
    assert (wrong.status, wrong.code) == (400, "DIGEST_INVALID")
    for reference in ("1", digest):
        found = both.request("GET", both.path(f"manifests/{reference}"), headers={"Accept": kind})
        assert (found.headers["content-type"], found.headers["docker-content-digest"]) == (kind, digest)
    assert both.request("GET", both.path("manifests/none")).code == "MANIFEST_UNKNOWN"
    tags = json.loads(both.request("GET", both.path("tags/list")).body)
    assert tags == {"name": both.repository, "tags": ["1"]}


# --- 2.x, fake and real -----------------------------------------------------------------------------------


def test_two_does_not_read_content_range(two: Client) -> None:
    first = two.patch(two.open().location, DATA[:10], content_range="bytes 500-509")
    assert (first.status, first.range) == (202, "0-9")


def test_two_with_a_state_that_lags_behind_refuses_every_method(two: Client) -> None:
    opened = two.open().location
    acked = two.patch(opened, DATA[:HALF], 0).location
    refusals = [
        two.status(opened),
        two.patch(opened, DATA[HALF:], HALF),
        two.close(opened, digest_of(DATA)),
        two.cancel(opened),
    ]
    assert [(answer.status, answer.code) for answer in refusals] == [(404, "BLOB_UPLOAD_INVALID")] * 4
    # the handler "cancels" such an upload, which does nothing here: the right location still works
    assert two.close(acked, digest_of(DATA[:HALF])).status == 201


def test_two_wrong_digest_leaves_the_session_alive(two: Client) -> None:
    location = two.patch(two.open().location, DATA, 0).location
    assert two.close(location, digest_of(b"other")).code == "DIGEST_INVALID"
    assert (two.status(location).status, two.close(location, digest_of(DATA)).status) == (204, 201)


def test_two_wrong_digest_with_a_body_keeps_the_body(two: Client) -> None:
    location = two.patch(two.open().location, DATA[:HALF], 0).location
    assert two.close(location, digest_of(b"other"), DATA[HALF:]).code == "DIGEST_INVALID"
    assert two.status(location).code == "BLOB_UPLOAD_INVALID"


def test_two_status_without_a_state(two: Client) -> None:
    assert two.status(two.open().location.split("?")[0]).code == "BLOB_UPLOAD_INVALID"


def test_two_keeps_half_a_chunk_and_is_lost_by_it(two: Client) -> None:
    opened = two.open().location
    acked = two.patch(opened, DATA[:HALF], 0).location
    two.break_in_patch(acked, DATA[HALF:], 100_000, HALF)
    for location in (acked, opened):
        refusals = [
            two.status(location),
            two.patch(location, DATA[HALF:], HALF),
            two.close(location, digest_of(DATA)),
            two.cancel(location),
        ]
        assert [answer.code for answer in refusals] == ["BLOB_UPLOAD_INVALID"] * 4


# --- 3.x --------------------------------------------------------------------------------------------------


def test_three_refuses_a_wrong_start_and_keeps_the_session(three: Client) -> None:
    acked = three.patch(three.open().location, DATA[:HALF], 0).location
    refused = three.patch(acked, DATA[:HALF], 0)
    assert (refused.status, refused.code) == (416, "RANGE_INVALID")
    assert "location" not in refused.headers
    assert "range" not in refused.headers
    last = three.patch(acked, DATA[HALF:], HALF)
    assert three.close(last.location, digest_of(DATA)).status == 201


def test_three_status_works_with_any_location(three: Client) -> None:
    opened = three.open().location
    three.patch(opened, DATA[:HALF], 0)
    for location in (opened, opened.split("?")[0]):
        status = three.status(location)
        assert (status.status, status.range, _offset(status.location)) == (204, "0-149999", HALF)


def test_three_with_a_state_that_lags_behind_is_416(three: Client) -> None:
    opened = three.open().location
    acked = three.patch(opened, DATA[:HALF], 0).location
    assert three.patch(opened, DATA[HALF:], HALF).status == 416
    assert three.patch(acked, DATA[HALF:], HALF).status == 202


def test_three_goes_on_inside_a_broken_chunk(three: Client) -> None:
    acked = three.patch(three.open().location, DATA[:HALF], 0).location
    three.break_in_patch(acked, DATA[HALF:], 100_000, HALF)
    status = three.status(acked)
    assert status.range == f"0-{HALF + 100_000 - 1}"
    last = three.patch(status.location, DATA[HALF + 100_000 :], HALF + 100_000)
    assert three.close(last.location, digest_of(DATA)).status == 201


@pytest.mark.parametrize(
    ("content_range", "status", "code"),
    [("bytes 0-9", 500, "UNKNOWN"), ("0-8", 400, "SIZE_INVALID"), ("9-0", 416, "RANGE_INVALID")],
)
def test_three_reads_content_range(three: Client, content_range: str, status: int, code: str) -> None:
    refused = three.patch(three.open().location, DATA[:10], content_range=content_range)
    assert (refused.status, refused.code) == (status, code)


def test_three_wrong_digest_ends_the_session(three: Client) -> None:
    location = three.patch(three.open().location, DATA, 0).location
    assert three.close(location, digest_of(b"other")).code == "DIGEST_INVALID"
    assert three.status(location).code == "BLOB_UPLOAD_UNKNOWN"


def test_relative_locations_on_request() -> None:
    rules = dataclasses.replace(DISTRIBUTION_2, relative_locations=True)
    with FakeRegistry(rules) as registry, Client(registry.address) as client:
        opened = client.open()
        assert opened.location.startswith("/v2/team/app/blobs/uploads/")
        closed = client.close(opened.location, digest_of(DATA), DATA)
        assert closed.location == f"/v2/team/app/blobs/{digest_of(DATA)}"


def test_restart_without_a_fixed_secret() -> None:
    for rules, status in ((DISTRIBUTION_2, 404), (DISTRIBUTION_3, 204)):
        with FakeRegistry(rules) as registry, Client(registry.address) as client:
            acked = client.patch(client.open().location, DATA[:HALF], 0).location
            registry.restart(new_secret=True)
            client.connection.close()
            assert client.patch(acked, DATA[HALF:], HALF).status == 404
            assert client.status(acked).status == status
            if status == 204:
                last = client.patch(client.status(acked).location, DATA[HALF:], HALF)
                assert client.close(last.location, digest_of(DATA)).status == 201
