"""Indexes, attestations, artifacts and what refers to what: bytes unchanged, each after what it needs."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pusher.errors import ExitCode, ImageUnsupported
from pusher.oci.platform import Platform
from pusher.sources.base import Choice
from pusher.store.records import JobDocument
from tests.support.fakeregistry import (
    Answer,
    AnswerAfterEffect,
    FakeRegistry,
    Fault,
    On,
)
from tests.support.home import CHUNK, Home, cut_off
from tests.support.images import (
    OCI_LAYER,
    Image,
    make_image,
    make_layer,
    sha256,
)
from tests.support.layouts import EMPTY, FOREIGN, Descriptor, Layout, on
from tests.worker.written import Written, is_whole, put, refused


def platforms(layout: Layout, *, big: int = 30_000) -> list[Descriptor]:
    """An image for two platforms that share a layer, and an attestation of each."""
    shared = make_layer(big, seed=5, compressible=0.0)
    children = []
    for n, architecture in enumerate(("amd64", "arm64")):
        image = Image((shared, make_layer(500, seed=n)), architecture=architecture)
        children.append(on(f"linux/{architecture}", layout.image(image)))
    return [*children, *(layout.attestation(child) for child in children)]


# --- indexes ----------------------------------------------------------------------------------------------


def test_an_index_with_attestations(home: Home, registry: FakeRegistry, layout: Written) -> None:
    children = platforms(layout)
    root = layout.index(*children, annotations={"made": "by hand"})
    job = home.push(layout.name(root), f"{registry.address}/app:1")
    assert job.digest == root["digest"] == is_whole(registry, layout, "1")
    assert put(registry) == [*(child["digest"] for child in children), "1"], "the tag comes last"
    home.assert_clean()


def test_what_the_children_share_is_sent_once(home: Home, registry: FakeRegistry, layout: Written) -> None:
    root = layout.index(*platforms(layout))
    job = home.push(layout.name(root), f"{registry.address}/app:1")
    documents = registry.manifests["app"]
    size = sum(len(data) for digest, data in layout.blobs.items() if digest not in documents)
    assert registry.body_bytes_received() == size
    total, done, sent = home.figures(job.id)
    assert total == done == size
    assert sent == sum(map(len, layout.blobs.values()))


def test_an_index_of_indexes(home: Home, registry: FakeRegistry, layout: Written) -> None:
    amd64, arm64, *attestations = platforms(layout)
    inner = layout.index(amd64, attestations[0])
    root = layout.index(inner, arm64, attestations[1])
    home.push(layout.name(root), f"{registry.address}/app:1")
    assert is_whole(registry, layout, "1") == root["digest"]
    order = put(registry)
    assert order.index(amd64["digest"]) < order.index(inner["digest"]) < len(order) - 1


def test_one_platform_alone_is_pushed_as_a_manifest(
    home: Home, registry: FakeRegistry, layout: Written
) -> None:
    _, arm64, *_ = children = platforms(layout)
    choice = Choice((Platform("linux", "arm64"),))
    home.push(layout.name(layout.index(*children)), f"{registry.address}/app:1", choice=choice)
    assert is_whole(registry, layout, "1") == arm64["digest"]


def test_the_children_are_there_in_another_repository(
    home: Home, registry: FakeRegistry, layout: Written
) -> None:
    """Blobs are mounted, manifests put again."""
    image = layout.name(layout.index(*platforms(layout)))
    home.push(image, f"{registry.address}/app:1")
    before = registry.body_bytes_received()
    home.push(image, f"{registry.address}/other:1")
    is_whole(registry, layout, "1", "other")
    assert registry.body_bytes_received() == before


def test_a_child_that_the_registry_forgot_is_put_again(
    home: Home, registry: FakeRegistry, layout: Written
) -> None:
    children = platforms(layout)
    root = layout.index(*children)
    missing = {"errors": [{"code": "MANIFEST_UNKNOWN", "detail": {"digest": children[1]["digest"]}}]}
    fault = Answer(404, {"Content-Type": "application/json"}, json.dumps(missing).encode())
    registry.faults.add(Fault(On.PUT_MANIFEST, fault, nth=len(children) + 1))
    home.push(layout.name(root), f"{registry.address}/app:1")
    registry.faults.assert_all_fired()
    is_whole(registry, layout, "1")
    assert registry.body_bytes_received() < sum(map(len, layout.blobs.values())), "no blob was sent again"
    assert put(registry).count(children[1]["digest"]) == 2


def test_blobs_that_are_missed_one_by_one(home: Home, serverless: FakeRegistry, layout: Written) -> None:
    """serverless-registry names only the first; the HEAD said that all were there."""
    image = make_image(500, 400, 300)
    root = layout.name(layout.picture(image))
    home.push(root, f"{serverless.address}/app:1")
    for layer in image.layers:
        serverless.remove_blob("app", layer.digest)
    serverless.faults.add(Fault(On.HEAD_BLOB, Answer(200), times=None))
    home.push(root, f"{serverless.address}/app:2")
    is_whole(serverless, layout, "2")


def test_a_lost_answer_to_the_index(home: Home, registry: FakeRegistry, layout: Written) -> None:
    root = layout.index(*platforms(layout))
    registry.faults.add(Fault(On.PUT_MANIFEST, AnswerAfterEffect(503), nth=5))
    home.push(layout.name(root), f"{registry.address}/app:1")
    registry.faults.assert_all_fired()
    assert is_whole(registry, layout, "1") == root["digest"]


def test_going_on_with_an_index_after_a_break(home: Home, serverless: FakeRegistry, layout: Written) -> None:
    """The first worker loses the registry in the middle; the next sends only what is missing."""
    root = layout.index(*platforms(layout, big=70_000))
    job = home.enqueue(layout.name(root), f"{serverless.address}/app:1")
    assert cut_off(home, serverless, 2).exit_code == ExitCode.UNFINISHED
    acknowledged = sum(serverless.chunks)
    assert acknowledged
    home.store.jobs.retry(job.id)
    assert home.run().exit_code == ExitCode.DONE
    is_whole(serverless, layout, "1")
    total = home.figures(job.id)[0]
    assert registry_excess(serverless, total) <= CHUNK, "no more than the chunk that broke is sent twice"


def registry_excess(registry: FakeRegistry, total: int) -> int:
    return registry.body_bytes_received() - total


def test_127_layers_of_which_some_are_the_same(home: Home, registry: FakeRegistry, layout: Written) -> None:
    layers = [make_layer(30, seed=n % 20) for n in range(127)]
    root = layout.picture(Image(tuple(layers)))
    job = home.push(layout.name(root), f"{registry.address}/app:1")
    assert is_whole(registry, layout, "1") == root["digest"]
    opened = len(registry.requests(On.OPEN))
    assert opened == 21, "20 layers and the config"
    assert len(home.store.blobs.of_job(job.id)) == 21


# --- artifacts --------------------------------------------------------------------------------------------


def test_an_artifact_with_an_empty_config(home: Home, registry: FakeRegistry, layout: Written) -> None:
    root = layout.report(layout.blob(b"a report", "text/plain"), layout.blob(b"", "application/octet-stream"))
    home.push(layout.name(root), f"{registry.address}/app:1")
    assert is_whole(registry, layout, "1") == root["digest"]


def test_an_artifact_that_is_only_its_annotations(
    home: Home, registry: FakeRegistry, layout: Written
) -> None:
    root = layout.report(annotations={"note": "nothing else"})
    job = home.push(layout.name(root), f"{registry.address}/app:1")
    assert is_whole(registry, layout, "1") == root["digest"]
    assert home.figures(job.id)[:2] == (2, 2)


@pytest.mark.parametrize("config", [b"", b"not JSON", b"[1]", b'{"rootfs": 3}', b"\x00" * 3000])
def test_a_config_that_is_no_image_config(
    home: Home, registry: FakeRegistry, layout: Written, config: bytes
) -> None:
    described = layout.blob(config, "application/vnd.example.config")
    root = layout.manifest(described, layout.blob(b"x", "text/plain"))
    home.push(layout.name(root), f"{registry.address}/app:1")
    assert is_whole(registry, layout, "1") == root["digest"]


# --- layers that are not to be distributed ----------------------------------------------------------------


def foreign(layout: Written, **fields: Any) -> Descriptor:
    layer = layout.blob(make_layer(700, seed=9).gzip, FOREIGN)
    return {**layer, "urls": ["https://example.com/layer"], **fields}


@pytest.fixture
def distribution(registry: FakeRegistry) -> FakeRegistry:
    """One that takes a manifest whose foreign layers it does not have."""
    registry.rules = dataclasses.replace(registry.rules, check_manifest=lambda _, __: None)
    return registry


def test_foreign_layers_are_left_out(home: Home, distribution: FakeRegistry, layout: Written) -> None:
    layer = foreign(layout)
    root = layout.picture(make_image(300), layer)
    image = layout.name(root)
    layout.path(layer["digest"]).unlink()
    job = home.push(image, f"{distribution.address}/app:1")
    assert is_whole(distribution, layout, "1") == root["digest"]
    assert layer["digest"] not in distribution.blobs["app"]
    assert layer["digest"] not in {known.digest for known in home.store.blobs.of_job(job.id)}


def test_foreign_layers_are_sent_where_that_is_wanted(
    home: Home, registry: FakeRegistry, layout: Written
) -> None:
    layer = foreign(layout)
    root = layout.picture(make_image(300), layer)
    home.push(layout.name(root), f"{registry.address}/app:1", choice=Choice(foreign=True))
    is_whole(registry, layout, "1")
    assert registry.blob("app", layer["digest"]) == layout.blobs[layer["digest"]]


def test_foreign_layers_without_an_address_are_sent(
    home: Home, registry: FakeRegistry, layout: Written
) -> None:
    root = layout.picture(make_image(300), foreign(layout, urls=[]))
    home.push(layout.name(root), f"{registry.address}/app:1")
    is_whole(registry, layout, "1")


def test_a_registry_that_wants_them_all_the_same(home: Home, registry: FakeRegistry, layout: Written) -> None:
    layer = foreign(layout)
    root = layout.picture(make_image(300), layer)
    job = home.enqueue(layout.name(root), f"{registry.address}/app:1")
    assert home.run([job.id]).exit_code == ExitCode.REFUSED
    message, hint = refused(home, job.id)
    assert layer["digest"] in message
    assert "--allow-nondistributable" in hint
    assert len(registry.requests(On.OPEN)) == 2, "no blob is sent again"


# --- what is not pushed -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_schema_1_is_refused(
    home: Home, registry: FakeRegistry, layout: Written, media_type: str, nested: bool
) -> None:
    old = layout.blob(b'{"schemaVersion": 1, "fsLayers": []}', media_type)
    root = layout.index(layout.picture(make_image(10)), old) if nested else old
    with pytest.raises(ImageUnsupported, match="schema version 1") as caught:
        home.enqueue(layout.name(root), f"{registry.address}/app:1")
    assert caught.value.hint
    assert home.store.jobs.list() == []


def test_a_layer_of_6_gib_is_planned_and_refused_before_it_is_sent(
    home: Home, serverless: FakeRegistry, layout: Written
) -> None:
    """The file is a hole; nobody reads it."""
    size, digest = 6 << 30, sha256(b"made up")
    huge = {"mediaType": f"{OCI_LAYER}+gzip", "digest": digest, "size": size}
    image = layout.name(layout.picture(make_image(10), huge))
    layout.path(digest).touch()
    os.truncate(layout.path(digest), size)
    job = home.enqueue(image, f"{serverless.address}/app:1")
    assert home.figures(job.id)[0] > size
    assert home.run([job.id]).exit_code == ExitCode.REFUSED
    error = home.job(job.id).error
    assert error is not None
    assert str(size) in error.message or digest in error.message
    assert serverless.chunks == []


def test_a_document_that_the_store_lost(home: Home, registry: FakeRegistry, layout: Written) -> None:
    """Never is a child put under the tag because its index is missing."""
    root = layout.index(*platforms(layout))
    job = home.enqueue(layout.name(root), f"{registry.address}/app:1")
    assert home.job(job.id).documents[-1] == JobDocument(root["digest"])
    original = home.store.documents.get
    home.store.documents.get = lambda digest: None if digest == root["digest"] else original(digest)  # type: ignore[method-assign]
    assert home.run([job.id]).exit_code == ExitCode.SOURCE
    assert registry.manifests.get("app", {}) == {}


def test_the_status_of_such_a_job(home: Home, registry: FakeRegistry, layout: Written) -> None:
    root = layout.index(*platforms(layout))
    job = home.enqueue(layout.name(root), f"{registry.address}/app:1")
    layers = home.store.blobs.of_job(job.id)
    assert all(layer.size is not None and layer.digest for layer in layers)
    assert len({layer.digest for layer in layers}) == len(layers) == 9, "4 configs, 3 layers, 2 statements"
    assert EMPTY not in {layer.media_type for layer in layers}


@pytest.mark.parametrize(
    "media_type", ["\u00e9\ud83d\ude00\ud800", "a\0b", " x\n", "\x1b[31m", 300 * "x", ""]
)
def test_any_media_type_of_a_layer_is_carried(
    home: Home, registry: FakeRegistry, tmp_path: Path, media_type: str
) -> None:
    """It is in the manifest's own bytes; the store and the terminal get it in a form that they can take."""
    layout = Layout()
    layer = layout.blob(b"a layer", media_type)
    root = layout.add(layout.manifest(layout.blob(b"{}", EMPTY), layer), "app:1")
    job = home.push(f"oci:{layout.write_folder(tmp_path / 'layout')}", f"{registry.address}/app:1")
    assert registry.manifests["app"]["1"][1] == layout.blobs[root["digest"]]
    stored = home.store.blobs.of_job(job.id)[1].media_type
    assert stored is not None
    assert stored == "" or stored.isprintable()
