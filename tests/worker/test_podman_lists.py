"""Podman's manifest lists, from its disk: all their images, each layer compressed once, the list last."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pusher.errors import ExitCode, ImageIncomplete, ImageNotFound, ImageUnsupported, StorageDoubtful
from pusher.oci.platform import Platform
from pusher.sources.base import Choice
from pusher.store.records import JobState
from pusher.worker.dry_run import plan_pushes
from pusher.worker.enqueue import prepare
from tests.support.fakeregistry import FakeRegistry, On
from tests.support.home import Home, blob_bytes, cut_off, pushed
from tests.support.images import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Image,
    Layer,
    make_layer,
    random_bytes,
    sha256,
    tar_of,
)
from tests.support.storage import PodmanRoot
from tests.worker.written import put

SHARED = make_layer(70_000, seed=5, compressible=0.0)
NAMES = ("amd64", "arm64", "s390x")


def descriptor(media_type: str, data: bytes, **fields: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **fields}


def built(image: Image) -> bytes:
    """The manifest that buildah keeps of an image: its layers are named uncompressed."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, image.config),
            "layers": [descriptor(OCI_LAYER, layer.tar) for layer in image.layers],
            "annotations": {"com.example.for": image.architecture},
        }
    ).encode()


class ListRoot(PodmanRoot):
    """Podman's storage with the list ``list:1`` of images for ``NAMES`` with a common layer."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.of = {
            name: Image((SHARED, make_layer(400, seed=n)), architecture=name) for n, name in enumerate(NAMES)
        }
        for image in self.of.values():
            self.add(image)
            self.add_manifest(image, built(image))
        self.index = self.listing(*NAMES)
        self.list = self.add_list("localhost/list:1", self.index)

    def listing(self, *names: str) -> bytes:
        children = [
            descriptor(
                OCI_MANIFEST,
                built(self.of[name]),
                annotations={"com.example.child": name},
                platform={"architecture": name, "os": "linux", "os.version": "1"},
            )
            for name in names
        ]
        return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}).encode()

    def remove(self, name: str) -> None:
        image = self.of[name]
        shutil.rmtree(self.config(image).parent)
        self.image_list = [one for one in self.image_list if f"sha256:{one['id']}" != image.config_digest]
        self.write()


@pytest.fixture
def storage(tmp_path: Path) -> ListRoot:
    return ListRoot(tmp_path / "storage")


def is_there(registry: FakeRegistry, storage: ListRoot, *names: str, tag: str = "1") -> dict[str, Any]:
    """See that the tag is a list of exactly these images, in this order, and that all of them are whole."""
    media_type, raw = registry.manifests["app"][tag]
    data: dict[str, Any] = json.loads(raw)
    assert media_type == data["mediaType"] == OCI_INDEX
    assert [child["platform"]["architecture"] for child in data["manifests"]] == list(names)
    for name, child in zip(names, data["manifests"], strict=True):
        _, manifest = registry.manifests["app"][child["digest"]]
        assert (sha256(manifest), len(manifest)) == (child["digest"], child["size"])
        assert child["annotations"] == {"com.example.child": name}
        assert child["platform"] == {"architecture": name, "os": "linux", "os.version": "1"}
        assert json.loads(manifest)["annotations"] == {"com.example.for": name}
        pushed(registry, "app", child["digest"], storage.of[name])
    return data


def test_all_images_are_pushed_and_the_list_last(
    home: Home, registry: FakeRegistry, storage: ListRoot
) -> None:
    job = home.push(storage.source("list:1"), f"{registry.address}/app:1")
    data = is_there(registry, storage, *NAMES)
    assert put(registry) == [*(child["digest"] for child in data["manifests"]), "1"]
    assert job.digest == sha256(registry.manifests["app"]["1"][1])
    total, done, sent = home.figures(job.id)
    assert (total, done) == (blob_bytes(registry, "app"), total), "the common layer counts once"
    assert sent < total + 5_000
    home.assert_clean()


def test_a_dry_run_knows_a_list_by_the_configs_of_its_images(
    home: Home, registry: FakeRegistry, storage: ListRoot
) -> None:
    place = f"{registry.address}/app:1"
    home.push(storage.source("localhost/list:1"), place)
    storage.add_list("localhost/less:1", storage.listing("amd64", "arm64"))
    tags = []
    for name in ("list", "less"):
        image = prepare(None, storage.source(f"localhost/{name}:1"), settings=home.settings, to=[place])
        tags += [plan.tag for plan in plan_pushes([image], home.store, home.settings)]
    assert tags == ["same_config", "other"]


def test_a_second_push_reads_and_sends_nothing(home: Home, registry: FakeRegistry, storage: ListRoot) -> None:
    home.push(storage.source("list:1"), f"{registry.address}/app:1")
    first = registry.manifests["app"]["1"]
    for digest, _, _ in list(home.spool.blobs()):
        home.spool.remove(digest)
    shutil.rmtree(storage.root / "overlay")
    home.push(storage.source("localhost/list:1"), f"{registry.address}/app:2")
    assert registry.manifests["app"]["2"] == first
    assert len(registry.requests(On.OPEN)) == len({*registry.blobs["app"]})


def test_a_push_that_broke_off_goes_on(home: Home, registry: FakeRegistry, storage: ListRoot) -> None:
    job = home.enqueue(storage.source("list:1"), f"{registry.address}/app:1")
    assert cut_off(home, registry, 2).exit_code != 0
    home.run()
    assert home.state(job.id) is JobState.SUCCEEDED
    is_there(registry, storage, *NAMES)


def test_what_was_enqueued_is_pushed_whatever_becomes_of_the_list(
    home: Home, registry: FakeRegistry, storage: ListRoot
) -> None:
    job = home.enqueue(storage.source("list:1"), f"{registry.address}/app:1")
    storage.list.write_bytes(storage.listing("s390x"))
    home.run([job.id])
    is_there(registry, storage, *NAMES)


def test_an_image_that_was_deleted_meanwhile(home: Home, registry: FakeRegistry, storage: ListRoot) -> None:
    job = home.enqueue(storage.source("list:1"), f"{registry.address}/app:1")
    storage.remove("arm64")
    assert home.run([job.id]).exit_code == ExitCode.SOURCE
    error = home.job(job.id).error
    assert error is not None
    assert error.code == "image-changed"
    assert put(registry) == []


# --- what is chosen ---------------------------------------------------------------------------------------


def test_one_platform_is_an_image_of_its_own(home: Home, registry: FakeRegistry, storage: ListRoot) -> None:
    told: list[str] = []
    choice = Choice((Platform.parse("linux/arm64"),))
    home.push(storage.source("list:1"), f"{registry.address}/app:1", choice=choice, note=told.append)
    pushed(registry, "app", "1", storage.of["arm64"])
    assert json.loads(registry.manifests["app"]["1"][1])["annotations"] == {"com.example.for": "arm64"}
    assert told == ["only linux/arm64 is pushed, as an image of its own"]


def test_two_platforms_are_a_smaller_list(home: Home, registry: FakeRegistry, storage: ListRoot) -> None:
    told: list[str] = []
    choice = Choice((Platform.parse("linux/s390x"), Platform.parse("linux/amd64")))
    home.push(storage.source("list:1"), f"{registry.address}/app:1", choice=choice, note=told.append)
    is_there(registry, storage, "amd64", "s390x")
    assert told == ["left out of the list: linux/arm64"]


def test_an_image_that_is_not_there(home: Home, registry: FakeRegistry, storage: ListRoot) -> None:
    """Podman lists images that are in registries only, and fetches them when it pushes."""
    storage.remove("arm64")
    source, to = storage.source("list:1"), f"{registry.address}/app:1"
    with pytest.raises(ImageIncomplete, match=r"lacks 1 of the 3 .*: linux/arm64") as caught:
        home.enqueue(source, to)
    assert "--skip-missing" in caught.value.hint
    assert "podman manifest push --all list:1 oci:list:1" in caught.value.hint
    with pytest.raises(
        ImageIncomplete, match="lists an image for linux/arm64 and does not have it"
    ) as caught:
        home.enqueue(source, to, choice=Choice((Platform.parse("linux/arm64"),)))
    assert "podman manifest push --all list:1 oci:list:1" in caught.value.hint
    with pytest.raises(ImageNotFound, match="no image for linux/arm"):
        home.enqueue(source, to, choice=Choice((Platform.parse("linux/arm/v6"),)))
    home.push(source, to, choice=Choice(skip_missing=True))
    is_there(registry, storage, "amd64", "s390x")


def test_a_compression_that_was_asked_for(home: Home, registry: FakeRegistry, storage: ListRoot) -> None:
    home.push(storage.source("list:1"), f"{registry.address}/app:1", compression="zstd")
    data = is_there(registry, storage, *NAMES)
    _, manifest = registry.manifests["app"][data["manifests"][0]["digest"]]
    assert {layer["mediaType"] for layer in json.loads(manifest)["layers"]} == {f"{OCI_LAYER}+zstd"}
    home.push(storage.source("list:1"), f"{registry.address}/app:plain", compression="none")
    assert registry.manifests["app"]["plain"][1] == storage.index, "nothing differs from what Podman has"


def test_layers_of_one_image_only_are_split(home: Home, registry: FakeRegistry, storage: ListRoot) -> None:
    big = tar_of([(f"part-{n}", random_bytes(700_000, n, compressible=0.0)) for n in range(2)])
    storage.of["big"] = storage.add(Image((Layer(big),), architecture="big"))
    storage.add_manifest(storage.of["big"], built(storage.of["big"]))
    storage.add_list("localhost/big:1", storage.listing("amd64", "big"))
    source, to = storage.source("big:1"), f"{registry.address}/app:1"
    with pytest.raises(ImageUnsupported, match="2 platforms") as caught:
        home.enqueue(source, to, split_layers=1 << 20)
    assert "--platform" in caught.value.hint
    home.push(source, to, split_layers=1 << 20, choice=Choice((Platform.parse("linux/big"),)))
    assert len(json.loads(registry.manifests["app"]["1"][1])["layers"]) == 2


# --- what is no list --------------------------------------------------------------------------------------


def test_a_list_without_images(home: Home, registry: FakeRegistry, storage: ListRoot) -> None:
    for number, images in enumerate(("null", "[]")):
        storage.add_list(f"localhost/empty:{number}", b'{"schemaVersion":2,"manifests":%s}' % images.encode())
        with pytest.raises(ImageUnsupported, match="no images yet") as caught:
            home.enqueue(storage.source(f"empty:{number}"), f"{registry.address}/app:1")
        assert f"podman manifest add empty:{number}" in caught.value.hint


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"manifests":[7]}', b'{"manifests":[{"digest":"x"}]}'])
def test_a_list_that_is_damaged(home: Home, registry: FakeRegistry, storage: ListRoot, raw: bytes) -> None:
    storage.list.write_bytes(raw)
    with pytest.raises(StorageDoubtful, match="damaged"):
        home.enqueue(storage.source("list:1"), f"{registry.address}/app:1")


def test_an_image_that_is_no_image(home: Home, registry: FakeRegistry, storage: ListRoot) -> None:
    """Its config lists other layers than its manifest, as that of an artifact does."""
    image = storage.of["amd64"]
    odd = json.loads(built(image))
    odd["layers"].append(descriptor("text/plain", b"x"))
    storage.add_manifest(image, json.dumps(odd).encode())
    children = [descriptor(OCI_MANIFEST, json.dumps(odd).encode())]
    storage.add_list("localhost/odd:1", json.dumps({"schemaVersion": 2, "manifests": children}).encode())
    with pytest.raises(ImageUnsupported, match="not an image of layers") as caught:
        home.enqueue(storage.source("odd:1"), f"{registry.address}/app:1")
    assert "podman manifest push --all odd:1 oci:list:1" in caught.value.hint
