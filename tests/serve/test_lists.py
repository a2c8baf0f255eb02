"""Lists of tags, repositories and referrers, page by page."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from pusher.oci.media_types import OCI_INDEX
from pusher.serve import api
from tests.serve.served import EMPTY, Repository, Served, codes, descriptor, index, sha256

TAGS = ["1.0", "1.1", "A", "a", "b10", "b9", "latest"]
"""In the order of their bytes."""


def pages(served: Served, first: str) -> list[requests.Response]:
    """Every page, as the Links lead on."""
    found = [served.ask("GET", first)]
    while "next" in found[-1].links:
        found.append(served.ask("GET", found[-1].links["next"]["url"]))
    return found


@pytest.fixture
def tagged(repository: Repository) -> Repository:
    raw = repository.image()
    assert repository.push(raw, f"{sha256(raw)}?tag={'&tag='.join(reversed(TAGS))}").status_code == 201
    return repository


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", TAGS),
        ("?n=100", TAGS),
        ("?n=7", TAGS),
        ("?n=0", []),
        ("?n=3", TAGS[:3]),
        ("?n=2&last=A", ["a", "b10"]),
        ("?last=b10", ["b9", "latest"]),
        ("?last=aa", ["b10", "b9", "latest"]),
        ("?n=5&last=latest", []),
    ],
)
def test_tags(tagged: Repository, query: str, expected: list[str]) -> None:
    answer = tagged.ask("GET", f"tags/list{query}")
    assert answer.json() == {"name": tagged.name, "tags": expected}
    is_more = query in ("?n=3", "?n=2&last=A")
    assert ("Link" in answer.headers) == is_more


@pytest.mark.parametrize("n", [1, 2, 6])
def test_tags_by_the_links(tagged: Repository, n: int) -> None:
    found = pages(tagged.served, f"{tagged.path}/tags/list?n={n}")
    assert [tag for page in found for tag in page.json()["tags"]] == TAGS
    assert all(len(page.json()["tags"]) == n for page in found[:-1])


@pytest.mark.parametrize("n", ["x", "-1", "1.5", "", 20 * "9"])
def test_an_n_that_is_no_number(tagged: Repository, n: str) -> None:
    answer = tagged.ask("GET", f"tags/list?n={n}")
    assert (answer.status_code, codes(answer)) == (400, ["UNSUPPORTED"])


def test_a_repository_that_is_not_there(repository: Repository) -> None:
    answer = repository.ask("GET", "tags/list")
    assert (answer.status_code, codes(answer)) == (404, ["NAME_UNKNOWN"])


def test_a_repository_of_blobs_alone_has_no_tags(repository: Repository) -> None:
    repository.push_blob(b"x")
    assert repository.ask("GET", "tags/list").json()["tags"] == []


def test_repositories(served: Served) -> None:
    names = [f"zz/{name}" for name in ("a", "a/b", "c")]
    for name in reversed(names):
        Repository(served, name).push_blob(b"x")
    found = pages(served, "/v2/_catalog?n=2&last=zy")
    assert [name for page in found for name in page.json()["repositories"]] == names


# --- referrers ----------------------------------------------------------------------------------------------


def referrers(answer: requests.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == OCI_INDEX
    listed = answer.json()
    assert (listed["schemaVersion"], listed["mediaType"]) == (2, OCI_INDEX)
    found: list[dict[str, Any]] = listed["manifests"]
    return found


def test_referrers_and_their_filter(repository: Repository) -> None:
    subject = repository.image(b"the image")
    about = descriptor(sha256(subject), subject, "application/vnd.oci.image.manifest.v1+json")
    repository.push_blob(EMPTY)
    by_config = repository.image(subject=about)
    named = repository.image(subject=about, artifactType="application/sbom", annotations={"a": "b"})
    listed = index(subject=about, annotations={"c": "d"})
    assert referrers(repository.ask("GET", f"referrers/{sha256(subject)}")) == []
    for raw in (by_config, named, subject, listed):  # also those that come before their subject
        answer = repository.push(raw)
        assert answer.status_code == 201
        assert answer.headers.get("OCI-Subject") == (None if raw is subject else sha256(subject))
    found = {
        each["digest"]: each for each in referrers(repository.ask("GET", f"referrers/{sha256(subject)}"))
    }
    assert set(found) == {sha256(by_config), sha256(named), sha256(listed)}
    assert found[sha256(by_config)]["artifactType"] == "application/octet-stream"
    assert found[sha256(named)] == {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": sha256(named),
        "size": len(named),
        "artifactType": "application/sbom",
        "annotations": {"a": "b"},
    }
    assert "artifactType" not in found[sha256(listed)]
    assert found[sha256(listed)]["annotations"] == {"c": "d"}
    answer = repository.ask("GET", f"referrers/{sha256(subject)}?artifactType=application/sbom")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert [each["digest"] for each in referrers(answer)] == [sha256(named)]
    repository.ask("DELETE", f"manifests/{sha256(named)}")
    answer = repository.ask("GET", f"referrers/{sha256(subject)}?artifactType=application/sbom")
    assert referrers(answer) == []


def test_nothing_refers_to_what_is_not_there(repository: Repository) -> None:
    assert referrers(repository.ask("GET", f"referrers/{sha256(b'')}")) == []
    answer = repository.ask("GET", "referrers/latest")
    assert (answer.status_code, codes(answer)) == (400, ["DIGEST_INVALID"])


@pytest.mark.parametrize(("most", "largest"), [(2, 10**6), (100, 900)], ids=["by-number", "by-size"])
def test_referrers_page_by_page(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, most: int, largest: int
) -> None:
    monkeypatch.setattr(api, "_MAX_REFERRERS", most)
    monkeypatch.setattr(api, "_LARGEST_LIST", largest)
    about = descriptor(sha256(b"x"), b"x")
    pushed = set()
    for number in range(5):
        kind = f"application/{number % 2}"
        raw = repository.image(subject=about, artifactType=kind, annotations={"n": 400 * str(number)})
        assert repository.push(raw).status_code == 201
        pushed.add((sha256(raw), kind))
    for wanted in (None, "application/0"):
        query = "" if wanted is None else f"?artifactType={wanted}"
        found = pages(repository.served, f"{repository.path}/referrers/{sha256(b'x')}{query}")
        assert len(found) > 2
        listed = [each["digest"] for page in found for each in referrers(page)]
        assert len(set(listed)) == len(listed)
        assert set(listed) == {digest for digest, its in pushed if wanted in (None, its)}


def test_the_fallback_tag_is_a_tag(repository: Repository) -> None:
    """Clients that know no referrers API keep their list there, and find it there."""
    raw = repository.image(subject=descriptor(sha256(b"x"), b"x"))
    repository.push(raw)
    listed = index(raw)
    tag = sha256(b"x").replace(":", "-")
    assert repository.push(listed, tag).status_code == 201
    assert json.loads(repository.ask("GET", f"manifests/{tag}").content)["manifests"][0]["digest"] == sha256(
        raw
    )
    assert len(referrers(repository.ask("GET", f"referrers/{sha256(b'x')}"))) == 1
