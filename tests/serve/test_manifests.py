"""Manifests and tags: pushed, pulled byte for byte, refused, deleted."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from pusher.oci import media_types
from pusher.serve.manifests import LARGEST
from tests.serve.served import EMPTY, Repository, codes, descriptor, index, manifest, sha256, sha512

LAYER = b"a layer"


@pytest.fixture
def image(repository: Repository) -> bytes:
    return repository.image(LAYER)


def test_by_tag_and_by_digest_byte_for_byte(repository: Repository, image: bytes) -> None:
    digest = sha256(image)
    answer = repository.push(image, "1.2")
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{repository.path}/manifests/1.2"
    assert answer.headers["Docker-Content-Digest"] == digest
    for reference in ("1.2", digest):
        for method, content in (("GET", image), ("HEAD", b"")):
            answer = repository.ask(method, f"manifests/{reference}")
            assert (answer.status_code, answer.content) == (200, content)
            assert answer.headers["Content-Type"] == media_types.OCI_MANIFEST
            assert answer.headers["Content-Length"] == str(len(image))
            assert answer.headers["Docker-Content-Digest"] == digest


@pytest.mark.parametrize("of", [sha256, sha512])
def test_by_digest_with_tags(repository: Repository, image: bytes, of: Callable[[bytes], str]) -> None:
    tags = [f"v{number}" for number in range(12)]
    answer = repository.push(image, f"{of(image)}?tag={'&tag='.join(tags)}")
    assert answer.status_code == 201
    assert answer.headers["OCI-Tag"].split(", ") == tags
    for tag in tags:
        assert repository.ask("GET", f"manifests/{tag}").headers["Docker-Content-Digest"] == of(image)


def test_a_tag_moves(repository: Repository, image: bytes) -> None:
    other = repository.image(LAYER, b"another")
    for raw in (image, other):
        repository.push(raw, "latest")
        assert repository.ask("GET", "manifests/latest").content == raw
    assert repository.ask("GET", f"manifests/{sha256(image)}").content == image


def test_docker_s_types_and_an_unknown_one(repository: Repository) -> None:
    for kind in (media_types.DOCKER_MANIFEST, "application/vnd.example.thing.v1+json"):
        raw = repository.image(LAYER, mediaType=kind)
        assert repository.push(raw, "a", f"{kind}; charset=utf-8").status_code == 201
        assert repository.ask("GET", "manifests/a").headers["Content-Type"] == kind


@pytest.mark.parametrize("media_type", [media_types.OCI_INDEX, media_types.DOCKER_LIST])
def test_an_index_of_indexes(repository: Repository, image: bytes, media_type: str) -> None:
    inner = index(image, mediaType=media_type)
    outer = index(inner, mediaType=media_type)
    for raw in (image, inner, outer):
        assert repository.push(raw).status_code == 201
    assert repository.ask("GET", f"manifests/{sha256(outer)}").content == outer


def test_a_cache_s_index_lists_blobs(repository: Repository) -> None:
    blob = descriptor(repository.push_blob(LAYER), LAYER)
    raw = json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [blob]}).encode()
    assert repository.push(raw).status_code == 201


def test_without_layers_and_without_children(repository: Repository) -> None:
    config = descriptor(repository.push_blob(EMPTY), EMPTY)
    null = json.dumps(
        {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": config, "layers": None}
    )
    for raw in (manifest(config), index(), null.encode()):
        assert repository.push(raw).status_code == 201


def test_layers_that_lie_elsewhere_need_not_be_here(repository: Repository) -> None:
    config = descriptor(repository.push_blob(EMPTY), EMPTY)
    foreign = [
        descriptor(sha256(b"1"), b"1", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
        {**descriptor(sha256(b"2"), b"2", media_types.DOCKER_LAYER_GZIP), "urls": ["https://example.com/2"]},
    ]
    assert repository.push(manifest(config, *foreign)).status_code == 201


# --- refused ------------------------------------------------------------------------------------------------


def test_blobs_must_be_here(repository: Repository) -> None:
    here, absent = (
        descriptor(repository.push_blob(EMPTY), EMPTY),
        descriptor(sha256(b"not here"), b"not here"),
    )
    raw = manifest(absent, here, {**absent, "digest": sha512(b"nor this")})
    answer = repository.push(raw, "1")
    assert (answer.status_code, codes(answer)) == (404, 2 * ["MANIFEST_BLOB_UNKNOWN"])
    named = [error["detail"]["digest"] for error in answer.json()["errors"]]
    assert named == [sha256(b"not here"), sha512(b"nor this")]
    assert repository.ask("GET", "manifests/1").status_code == 404


def test_children_must_be_here(repository: Repository, image: bytes) -> None:
    answer = repository.push(index(image))
    assert (answer.status_code, codes(answer)) == (404, ["MANIFEST_BLOB_UNKNOWN"])


def test_a_subject_need_not_be_here(repository: Repository) -> None:
    raw = repository.image(LAYER, subject=descriptor(sha256(b"later"), b"later"))
    answer = repository.push(raw)
    assert (answer.status_code, answer.headers["OCI-Subject"]) == (201, sha256(b"later"))


def test_another_digest_is_refused(repository: Repository, image: bytes) -> None:
    for wrong in (sha256(b"x"), sha512(b"x")):
        answer = repository.push(image, wrong)
        assert (answer.status_code, codes(answer)) == (400, ["DIGEST_INVALID"])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no JSON",
        b"[]",
        b'{"schemaVersion": 1, "fsLayers": []}',
        b'{"layers": {}}',
        b'{"config": {"digest": "sha256:1", "size": 1, "mediaType": "a"}}',
        b'{"manifests": [{}]}',
        b'{"mediaType": "a\\nb"}',
        b'{"mediaType": 7}',
        b'{"mediaType": "application/other"}',
        b'{"subject": "x"}',
        b"[" * 200 + b"]" * 200,
    ],
)
def test_what_is_no_manifest(repository: Repository, raw: bytes) -> None:
    answer = repository.push(raw, "1", media_types.OCI_MANIFEST)
    assert (answer.status_code, codes(answer)) == (400, ["MANIFEST_INVALID"])


def test_a_manifest_may_have_4_mib(repository: Repository) -> None:
    bare = repository.image(LAYER, annotations={"a": ""})
    largest = repository.image(LAYER, annotations={"a": (LARGEST - len(bare)) * "x"})
    assert len(largest) == LARGEST
    assert repository.push(largest, "1").status_code == 201
    assert repository.ask("GET", "manifests/1").content == largest
    for body in (largest + b" ", iter([largest, b" "])):
        answer = repository.ask("PUT", "manifests/2", data=body)
        assert (answer.status_code, codes(answer)) == (413, ["SIZE_INVALID"])


@pytest.mark.parametrize("tag", [".hidden", "-x", 129 * "a", "a,b", "%C3%A4"])
def test_what_is_no_tag(repository: Repository, image: bytes, tag: str) -> None:
    answer = repository.push(image, tag)
    assert (answer.status_code, codes(answer)) == (400, ["MANIFEST_INVALID"])


@pytest.mark.parametrize("name", ["Team/App", "a//b", "a/-b", "_a", 256 * "a", "a/../b"])
def test_what_is_no_repository(repository: Repository, name: str) -> None:
    answer = repository.served.ask("GET", f"/v2/{name.replace('..', '%2e%2e')}/tags/list")
    assert (answer.status_code, codes(answer)) == (400, ["NAME_INVALID"])


def test_names_that_look_like_paths_of_the_api(repository: Repository) -> None:
    odd = Repository(repository.served, "blobs/uploads/manifests/tags/list")
    raw = odd.image(LAYER)
    assert odd.push(raw, "uploads").status_code == 201
    assert odd.ask("GET", "manifests/uploads").content == raw
    assert odd.ask("GET", "tags/list").json() == {"name": odd.name, "tags": ["uploads"]}


def test_what_is_not_there(repository: Repository) -> None:
    for reference in ("1.2", sha256(b"")):
        for method in ("GET", "DELETE"):
            answer = repository.ask(method, f"manifests/{reference}")
            assert (answer.status_code, codes(answer)) == (404, ["MANIFEST_UNKNOWN"])


# --- conditions and deletes ---------------------------------------------------------------------------------


def test_a_manifest_that_the_client_has_is_not_sent(repository: Repository, image: bytes) -> None:
    repository.push(image, "1")
    etag = repository.ask("GET", "manifests/1").headers["ETag"]
    answer = repository.ask("GET", "manifests/1", headers={"If-None-Match": f'"x", {etag}'})
    assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", etag)


def test_a_tag_is_replaced_only_as_the_condition_says(repository: Repository, image: bytes) -> None:
    other = repository.image(LAYER, b"another")
    path, kind = "manifests/1", {"Content-Type": media_types.OCI_MANIFEST}

    def put(raw: bytes, **conditions: str) -> int:
        headers = {**kind, **{name.replace("_", "-"): value for name, value in conditions.items()}}
        return repository.ask("PUT", path, data=raw, headers=headers).status_code

    assert put(image, If_Match="*") == 412
    assert put(image, If_None_Match="*") == 201
    assert put(other, If_None_Match="*") == 412
    assert put(other, If_Match='"sha256:x"') == 412
    assert repository.ask("GET", path).content == image
    assert put(other, If_Match=f'"{sha256(image)}"') == 201
    assert repository.ask("GET", path).content == other


def test_deleting_a_tag_leaves_the_manifest(repository: Repository, image: bytes) -> None:
    repository.push(image, f"{sha256(image)}?tag=a&tag=b")
    assert repository.ask("DELETE", "manifests/a").status_code == 202
    assert repository.ask("GET", "manifests/a").status_code == 404
    assert repository.ask("GET", "manifests/b").status_code == 200
    assert repository.ask("GET", f"manifests/{sha256(image)}").status_code == 200


def test_deleting_a_manifest_takes_its_tags(repository: Repository, image: bytes) -> None:
    repository.push(image, f"{sha256(image)}?tag=a&tag=b")
    assert repository.ask("DELETE", f"manifests/{sha256(image)}").status_code == 202
    for reference in ("a", "b", sha256(image)):
        assert repository.ask("GET", f"manifests/{reference}").status_code == 404
    assert repository.ask("GET", "tags/list").json()["tags"] == []
    assert repository.push(image, "a").status_code == 201


def test_a_method_that_a_path_does_not_have(repository: Repository) -> None:
    answer = repository.ask("PATCH", "manifests/1")
    assert (answer.status_code, codes(answer)) == (405, ["UNSUPPORTED"])
    answer = repository.served.ask("GET", "/v1/anything")
    assert (answer.status_code, codes(answer)) == (404, ["UNSUPPORTED"])
