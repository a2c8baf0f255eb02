"""What is not here is passed on: pulls and lists come from the destination."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pusher.oci.media_types import OCI_MANIFEST
from tests.serve.forward.front import Front
from tests.serve.served import Repository, Served, codes, descriptor, sha256
from tests.support.fakeregistry import SERVERLESS, Answer, FakeRegistry, Fault, On

DATA = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def destination(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("destination") / "registry") as served:
        yield served


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with Front(tmp_path_factory.mktemp("front") / "home", work=False) as front:
        yield front


@pytest.fixture
def there(destination: Served) -> Repository:
    return Repository(destination, "team/app")


@pytest.fixture
def here(front: Front, destination: Served) -> Repository:
    return front.repository(f"127.0.0.1:{destination.port}", "team/app")


def test_a_blob_and_its_ranges(here: Repository, there: Repository) -> None:
    digest = there.push_blob(DATA)
    answer = here.ask("GET", f"blobs/{digest}")
    assert (answer.status_code, answer.content == DATA) == (200, True)
    assert answer.headers["Docker-Content-Digest"] == digest
    for asked, start, end in (
        ("0-9", 0, 10),
        ("2999990-", 2_999_990, 3_000_000),
        ("-7", 2_999_993, 3_000_000),
    ):
        answer = here.ask("GET", f"blobs/{digest}", headers={"Range": f"bytes={asked}"})
        assert (answer.status_code, answer.content) == (206, DATA[start:end])
    etag = answer.headers["ETag"]
    assert here.ask("GET", f"blobs/{digest}", headers={"If-None-Match": etag}).status_code == 304


def test_a_destination_without_ranges(front: Front) -> None:
    with FakeRegistry(SERVERLESS) as registry:
        digest = registry.add_blob("team/app", DATA)
        here = front.repository(registry.address, "team/app")
        answer = here.ask("GET", f"blobs/{digest}", headers={"Range": "bytes=1000-2000"})
        assert (answer.status_code, answer.content) == (206, DATA[1000:2001])


def test_a_client_that_wants_no_more(here: Repository, there: Repository) -> None:
    digest = there.push_blob(os.urandom(30_000_000))
    with here.ask("GET", f"blobs/{digest}", stream=True) as answer:
        assert next(answer.iter_content(1000))
    here.served.http.close()
    assert here.ask("HEAD", f"blobs/{digest}").status_code == 200


@pytest.mark.parametrize("link", ["<http://[>; rel=next", "<>", "x"])
def test_a_link_that_is_no_address(front: Front, link: str) -> None:
    with FakeRegistry(SERVERLESS) as registry:
        tags = Answer(200, {"Content-Type": "application/json", "Link": link}, b'{"name": "a", "tags": []}')
        registry.faults.add(Fault(On.TAGS, tags))
        assert front.repository(registry.address, "team/app").ask("GET", "tags/list").status_code == 200


def test_manifests_by_tag_and_digest(here: Repository, there: Repository) -> None:
    raw = there.image(b"layer")
    there.push(raw, "1")
    for reference in ("1", sha256(raw)):
        for method, content in (("GET", raw), ("HEAD", b"")):
            answer = here.ask(method, f"manifests/{reference}")
            assert (answer.status_code, answer.content) == (200, content)
            assert answer.headers["Content-Type"] == OCI_MANIFEST
            assert answer.headers["Docker-Content-Digest"] == sha256(raw)
            assert answer.headers["Content-Length"] == str(len(raw))


def test_lists_page_by_page(here: Repository, there: Repository) -> None:
    subject = there.image(b"subject")
    raw = there.image(b"sbom", subject=descriptor(sha256(subject), subject, OCI_MANIFEST))
    there.push(raw, f"{sha256(raw)}?tag=x1&tag=x2&tag=x3")
    answer = here.ask("GET", "tags/list?n=2&last=x")
    assert answer.json()["tags"] == ["x1", "x2"]
    following = here.served.ask("GET", answer.links["next"]["url"])
    assert following.json()["tags"] == ["x3"]
    answer = here.ask("GET", f"referrers/{sha256(subject)}?artifactType=application/octet-stream")
    assert [each["digest"] for each in answer.json()["manifests"]] == [sha256(raw)]
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"


def test_what_is_nowhere(here: Repository) -> None:
    for path, code in ((f"blobs/{sha256(b'no')}", "BLOB_UNKNOWN"), ("manifests/no", "MANIFEST_UNKNOWN")):
        answer = here.ask("GET", path)
        assert (answer.status_code, codes(answer)) == (404, [code])
        assert here.ask("HEAD", path).status_code == 404


def test_a_destination_that_is_away(front: Front) -> None:
    with FakeRegistry(SERVERLESS) as registry:
        registry.stop()
        here = front.repository(registry.address, "team/app")
        assert here.ask("HEAD", f"blobs/{sha256(b'no')}").status_code == 404
        answer = here.ask("GET", "manifests/1")
        assert answer.status_code == 503
        assert registry.address in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize("path", ["manifests/1", f"manifests/{sha256(b'')}", f"blobs/{sha256(b'')}"])
def test_nothing_is_deleted_from_here(here: Repository, path: str) -> None:
    answer: requests.Response = here.ask("DELETE", path)
    assert (answer.status_code, codes(answer)) == (405, ["UNSUPPORTED"])


def test_there_is_no_list_of_repositories(front: Front, tmp_path: Path) -> None:
    assert codes(front.ask("GET", "/v2/_catalog")) == ["UNSUPPORTED"]
