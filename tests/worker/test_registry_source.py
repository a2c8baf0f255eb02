"""Images in another registry: found, fetched, mounted, and pushed as they are."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pusher.errors import (
    ExitCode,
    ImageIncomplete,
    ImageNotFound,
    PusherError,
)
from pusher.oci import media_types
from pusher.oci.platform import Platform
from pusher.sources.base import Choice
from tests.support.fakeregistry import (
    DISTRIBUTION_3,
    Answer,
    FakeRegistry,
    Fault,
    On,
)
from tests.support.home import Home, manifest_digest
from tests.support.images import OCI_MANIFEST, Image, make_image, sha256
from tests.support.tokens import TokenServer, demand
from tests.worker.origin import SOURCE, fetched, name_of, put, put_index, same

EMPTY = sha256(b"")


# --- what arrives -----------------------------------------------------------------------------------------


def test_an_image_is_copied_with_its_manifest_unchanged(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image
) -> None:
    digest = put(origin, image)
    job = home.push(name_of(origin), f"{registry.address}/app:1")
    assert registry.manifests["app"]["1"] == (OCI_MANIFEST, image.manifest)
    assert job.digest == digest
    same(origin, registry, image)
    assert len(fetched(origin)) == 4  # the config once, for the job store, each layer once
    home.assert_clean()
    assert list((home.settings.spool / "partial").iterdir()) == []


def test_a_second_push_fetches_nothing(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image
) -> None:
    put(origin, image)
    home.push(name_of(origin), f"{registry.address}/app:1")
    before = len(origin.requests(On.GET_BLOB))
    home.push(name_of(origin), f"{registry.address}/app:2")
    assert len(origin.requests(On.GET_BLOB)) == before + 1  # the config
    assert manifest_digest(registry, "app", "2") == sha256(image.manifest)


@pytest.mark.parametrize("tagged", [False, True])
def test_by_digest(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image, tagged: bool
) -> None:
    digest = put(origin, image)
    put(origin, make_image(500, seed=9))  # the tag has moved on
    job = home.push(name_of(origin, f"{':1.2' if tagged else ''}@{digest}"), f"{registry.address}/app:1")
    assert job.digest == digest
    same(origin, registry, image)


def test_a_registry_as_destination_keeps_the_name(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image
) -> None:
    put(origin, image)
    assert home.push(name_of(origin), registry.address).destination == f"{registry.address}/{SOURCE}:1.2"


def test_a_tag_that_moves_later_changes_nothing(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image
) -> None:
    digest = put(origin, image)
    job = home.enqueue(name_of(origin), f"{registry.address}/app:1")
    put(origin, make_image(500, seed=9))
    assert home.run([job.id]).exit_code == 0
    assert home.job(job.id).digest == digest
    same(origin, registry, image)


def test_blobs_without_bytes_and_artifacts(home: Home, origin: FakeRegistry, registry: FakeRegistry) -> None:
    """An artifact as oras makes it: an empty config that is a layer as well, and an empty file."""
    config = origin.add_blob(SOURCE, b"{}")
    empty = origin.add_blob(SOURCE, b"")
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.example",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "layers": [
            {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
            {"mediaType": "text/plain", "digest": empty, "size": 0},
        ],
    }
    raw = json.dumps(manifest).encode()
    origin.add_manifest(SOURCE, "1.2", OCI_MANIFEST, raw)
    with FakeRegistry(DISTRIBUTION_3) as destination:
        home.push(name_of(origin), f"{destination.address}/app:1")
        assert destination.manifests["app"]["1"] == (OCI_MANIFEST, raw)
        assert destination.blob("app", EMPTY) == b""


def test_foreign_layers_stay_where_they_are(home: Home, origin: FakeRegistry, image: Image) -> None:
    manifest = json.loads(image.manifest)
    foreign = {
        "mediaType": media_types.DOCKER_FOREIGN_LAYER,
        "digest": sha256(b"windows"),
        "size": 7,
        "urls": ["https://layers.example/windows"],
    }
    manifest["layers"].insert(0, foreign)
    put(origin, image)
    raw = json.dumps(manifest).encode()
    origin.add_manifest(SOURCE, "1.2", OCI_MANIFEST, raw)
    job = home.enqueue(name_of(origin), "registry.example.com/app:1")
    digests = {layer.digest for layer in home.store.blobs.of_job(job.id)}
    assert digests == {image.config_digest, *(layer.digest for layer in image.layers)}
    assert home.store.documents.get(sha256(raw)) == raw


# --- indexes ----------------------------------------------------------------------------------------------


@pytest.fixture
def arm() -> Image:
    return replace(make_image(9_000, 400, seed=3, compressible=0.0), architecture="arm64")


def test_an_index_with_all_its_platforms(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image, arm: Image
) -> None:
    digest = put_index(origin, image, arm)
    assert home.push(name_of(origin), f"{registry.address}/app:1").digest == digest
    assert registry.manifests["app"]["1"] == origin.manifests[SOURCE]["1.2"]
    for each in (image, arm):
        same(origin, registry, each)
        assert registry.manifests["app"][sha256(each.manifest)][1] == each.manifest


def test_one_platform_of_an_index(
    home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image, arm: Image
) -> None:
    put_index(origin, image, arm)
    choice = Choice((Platform.parse("linux/arm64"),))
    job = home.push(name_of(origin), f"{registry.address}/app:1", choice=choice)
    assert job.digest == sha256(arm.manifest)
    same(origin, registry, arm)
    assert not {layer.digest for layer in image.layers} & set(registry.blobs["app"])
    with pytest.raises(ImageNotFound, match="riscv64"):
        home.enqueue(
            name_of(origin), f"{registry.address}/app:2", choice=Choice((Platform.parse("linux/riscv64"),))
        )


def test_a_child_that_is_gone(home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image) -> None:
    lost = {
        "mediaType": OCI_MANIFEST,
        "digest": sha256(b"lost"),
        "size": 4,
        "platform": {"os": "linux", "architecture": "s390x"},
    }
    digest = put_index(origin, image, extra=(lost,))
    with pytest.raises(ImageIncomplete, match="s390x"):
        home.enqueue(name_of(origin), f"{registry.address}/app:1")
    notes: list[str] = []
    job = home.push(
        name_of(origin), f"{registry.address}/app:1", choice=Choice(skip_missing=True), note=notes.append
    )
    assert job.digest not in (None, digest)
    assert digest in notes[0]


# --- one registry -----------------------------------------------------------------------------------------


def test_on_one_registry_everything_is_mounted_and_no_byte_moves(home: Home, image: Image) -> None:
    with FakeRegistry(DISTRIBUTION_3) as registry:
        digest = put(registry, image)
        job = home.push(name_of(registry), f"{registry.address}/other/app:1")
        assert job.digest == digest
        same(registry, registry, image, "other/app")
        assert registry.body_bytes_received() == 0
        assert registry.sessions == {}
        assert [record.path for record in registry.requests(On.GET_BLOB)] == [
            f"/v2/{SOURCE}/blobs/{image.config_digest}"
        ]
        states = {layer.state for layer in home.store.blobs.of_job(job.id)}
        assert states == {"mounted"}


def test_in_one_repository_only_the_manifest_is_sent(home: Home, image: Image) -> None:
    with FakeRegistry(DISTRIBUTION_3) as registry:
        put(registry, image)
        home.push(name_of(registry), f"{registry.address}/{SOURCE}:2")
        assert registry.manifests[SOURCE]["2"][1] == image.manifest
        assert registry.requests(On.OPEN) == []


def test_where_mounting_is_refused_the_blobs_are_fetched(home: Home, image: Image) -> None:
    with FakeRegistry(DISTRIBUTION_3) as registry:
        put(registry, image)
        mount = Fault(On.OPEN, Answer(405), times=None, where=lambda request: "mount" in request.query)
        registry.faults.add(mount)
        home.push(name_of(registry), f"{registry.address}/other/app:1")
        same(registry, registry, image, "other/app")
        registry.faults.assert_all_fired()


def test_the_rights_that_are_asked_for(home: Home, image: Image) -> None:
    """To pull where the image is, to push where it goes, and for a mount both in one token."""
    with TokenServer() as tokens, FakeRegistry(DISTRIBUTION_3) as registry:
        put(registry, image)
        registry.faults.add(demand(tokens))
        home.settings = replace(
            home.settings, username="ann", password="s3cr3t", login_registry=registry.address
        )
        home.push(name_of(registry), f"{registry.address}/other/app:1")
        assert registry.body_bytes_received() == 0
        asked = {scope for request in tokens.asked for scope in request.scopes}
        assert asked == {f"repository:{SOURCE}:pull", "repository:other/app:pull,push"}


def test_a_login_for_nobody_in_particular_does_not_go_to_the_source(
    home: Home, origin: FakeRegistry, image: Image
) -> None:
    put(origin, image)
    origin.faults.add(
        Fault(
            On.ANY,
            Answer(401, {"WWW-Authenticate": 'Basic realm="r"'}),
            times=None,
        )
    )
    home.settings = replace(home.settings, username="ann", password="s3cr3t")
    with pytest.raises(PusherError) as error:
        home.enqueue(name_of(origin), "registry.example.com/app:1")
    assert error.value.exit_code == ExitCode.AUTH
    assert origin.address in error.value.message
    assert not any("authorization" in record.headers for record in origin.requests())
