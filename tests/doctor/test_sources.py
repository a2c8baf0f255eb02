"""The doctor's look at images that lie in files, folders, storages and registries."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from pusher.errors import (
    ArchiveInvalid,
    CredentialsMissing,
    DiskFull,
    ImageIncomplete,
    ImageNotFound,
    InvalidOption,
    RegistryUnreachable,
    StorageDoubtful,
)
from pusher.units import human_bytes
from tests.doctor.diagnosis import after, diagnose, stay_here
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry
from tests.support.home import Home
from tests.support.images import Image, make_image, write_archive
from tests.support.layouts import Layout, two_platforms
from tests.support.storage import DockerRoot
from tests.worker.origin import name_of, put

OF_THE_REGISTRY = after("reference")


@pytest.fixture(autouse=True)
def _stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    stay_here(monkeypatch)


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with hardly any room left."""
    monkeypatch.setattr("pusher.doctor.local.room_at", lambda folder: 100)


# --- files and folders --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("kind", ["", "oci:", "dir:", "oci-archive:"])
def test_an_index_with_its_platforms(tmp_path: Path, home: Home, to: str, kind: str) -> None:
    layout, root = two_platforms()
    path = tmp_path / "image"
    if kind == "dir:":
        layout.write_dir(path, root)
    elif kind == "oci-archive:":
        layout.write_archive(path)
    else:
        layout.write_folder(path)
    found = diagnose(f"{kind}{path}", home.settings, to=to)
    found.assert_healthy(skipped=["TLS"])  # what is uploaded from where it lies needs no room
    told = found["image"].message
    assert told.startswith(f"found in {path}: index {root['digest'][7:19]}")
    assert "2 platforms (linux/amd64, linux/arm64/v8), 6 layers, " in told
    assert "is read as an image in a file or folder" in found["reference"].message


def test_one_platform_is_counted_as_one(tmp_path: Path, home: Home, to: str) -> None:
    layout = Layout()
    layout.add(layout.index(layout.image(make_image(300, names=()))))
    told = diagnose(str(layout.write_folder(tmp_path / "image")), home.settings, to=to)["image"].message
    assert "1 platform (" in told
    assert ", 1 layer, " in told


def test_many_platforms_are_not_all_listed(tmp_path: Path, home: Home, to: str) -> None:
    layout = Layout()
    images = [layout.image(Image(make_image(300).layers, architecture=f"cpu{n}")) for n in range(7)]
    platforms = [{"os": "linux", "architecture": f"cpu{n}"} for n in range(7)]
    children = [{**image, "platform": each} for image, each in zip(images, platforms, strict=True)]
    layout.add(layout.index(*children))
    told = diagnose(str(layout.write_folder(tmp_path / "image")), home.settings, to=to)["image"].message
    assert "7 platforms (linux/cpu0, linux/cpu1, linux/cpu2, linux/cpu3, linux/cpu4, ...), 1 layer" in told


def test_a_folder_names_its_destination(tmp_path: Path, home: Home, registry: FakeRegistry) -> None:
    layout, _ = two_platforms((f"{registry.address}/team/app:7",))
    found = diagnose(f"oci:{layout.write_folder(tmp_path / 'image')}", home.settings)
    found.assert_healthy(skipped=["TLS"])
    assert "tag 7" in found["reference"].message


@pytest.mark.usefixtures("small_disk")
def test_a_compressed_archive_needs_room(tmp_path: Path, home: Home, to: str) -> None:
    layout, _ = two_platforms()
    path = layout.write_archive(tmp_path / "plain.tar")
    (tmp_path / "app.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    found = diagnose(str(tmp_path / "app.tar.gz"), home.settings, to=to)
    found.assert_failed("disk", DiskFull, "has room for 100 B", "have", skipped=["TLS"])
    assert "before compression" not in found["disk"].message


def test_the_size_of_a_compressed_archive_is_that_of_compressed_layers(
    tmp_path: Path, home: Home, to: str
) -> None:
    path = write_archive(tmp_path / "plain.tar", make_image(200_000))
    packed = tmp_path / "app.tar.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    size = human_bytes(packed.stat().st_size)
    found = diagnose(str(packed), home.settings, to=to)
    assert f", {size} in a compressed archive" in found["image"].message
    assert f"; the layers need about {size}" in found["disk"].message
    assert "before compression" in diagnose(str(path), home.settings, to=to)["image"].message


def test_a_folder_without_an_image(tmp_path: Path, home: Home, to: str) -> None:
    found = diagnose(str(tmp_path), home.settings, to=to)
    found.assert_failed("image", ArchiveInvalid, "folder without an image", skipped=["TLS"])


def test_platforms_that_are_missing(tmp_path: Path, home: Home, to: str) -> None:
    layout, root = two_platforms()
    children = json.loads(layout.blobs[root["digest"]])["manifests"]
    path = layout.without(children[1]).write_folder(tmp_path / "image")
    found = diagnose(str(path), home.settings, to=to)
    found.assert_failed("image", ImageIncomplete, "linux/arm64/v8", "--skip-missing", skipped=["TLS"])


# --- storages -----------------------------------------------------------------------------------------------


def test_an_image_in_dockers_storage(tmp_path: Path, home: Home, registry: FakeRegistry) -> None:
    image = make_image(3_000, names=(f"{registry.address}/team/app:1.2",))
    storage = DockerRoot(tmp_path / "docker")
    storage.add(image)
    found = diagnose(storage.source(image.names[0]), home.settings)
    found.assert_healthy(skipped=["TLS"])
    assert found["image"].message == (
        f"found in {storage.root}: {image.config_digest[7:19]}, {len(image.layers)} layer"
    )


def test_a_storage_that_is_none(tmp_path: Path, home: Home, to: str) -> None:
    found = diagnose(f"docker-storage:[{tmp_path / 'docker'}]app:1.2", home.settings, to=to)
    found.assert_failed("image", StorageDoubtful, str(tmp_path / "docker"), skipped=["TLS"])


# --- registries ---------------------------------------------------------------------------------------------


def test_an_image_in_another_registry(home: Home, origin: FakeRegistry, to: str) -> None:
    image = make_image(3_000)
    put(origin, image)
    found = diagnose(name_of(origin), home.settings, to=to)
    found.assert_healthy(skipped=["TLS"])
    assert f"found in {origin.address}: {image.config_digest[7:19]}" in found["image"].message
    assert "is read as an image in a registry to be pushed to" in found["reference"].message
    assert "the layers need " in found["disk"].message


@pytest.mark.usefixtures("small_disk")
def test_what_is_fetched_needs_room_and_what_is_mounted_none(
    home: Home, origin: FakeRegistry, to: str
) -> None:
    put(origin, make_image(3_000))
    found = diagnose(name_of(origin), home.settings, to=to)
    found.assert_failed("disk", DiskFull, "has room for 100 B", skipped=["TLS"])
    same = diagnose(name_of(origin), home.settings, to=f"{origin.address}/copies/")
    same.assert_healthy(skipped=["TLS"])


def test_what_was_fetched_needs_no_room(
    home: Home, origin: FakeRegistry, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(origin, make_image(3_000))
    home.push(name_of(origin), to)
    monkeypatch.setattr("pusher.doctor.local.room_at", lambda folder: 100)
    diagnose(name_of(origin), home.settings, to=to).assert_healthy(skipped=["TLS"])


def test_it_has_to_go_elsewhere(home: Home, origin: FakeRegistry) -> None:
    put(origin, make_image(3_000))
    found = diagnose(name_of(origin), home.settings)
    found.assert_failed(
        "reference", InvalidOption, "no destination is given", skipped=["image", *OF_THE_REGISTRY]
    )
    assert origin.requests() == []


def test_the_other_registry_has_no_such_image(home: Home, origin: FakeRegistry, to: str) -> None:
    found = diagnose(name_of(origin), home.settings, to=to)
    found.assert_failed("image", ImageNotFound, origin.address, skipped=["TLS"])


def test_the_other_registry_is_away(home: Home, to: str) -> None:
    found = diagnose("docker://127.0.0.1:1/team/app:1.2", home.settings, to=to)
    found.assert_failed("image", RegistryUnreachable, "127.0.0.1:1", skipped=["TLS"])


def test_the_other_registry_wants_a_login(home: Home, to: str) -> None:
    with FakeRegistry(DISTRIBUTION_3, credentials=("ann", "s0urce")) as origin:
        put(origin, make_image(3_000))
        found = diagnose(name_of(origin), home.settings, to=to)
        check = found.assert_failed("image", CredentialsMissing, origin.address, skipped=["TLS"])
        assert check.hint == f"pusher login {origin.address}"
        login = base64.b64encode(b"ann:s0urce").decode()
        stored = json.dumps({"auths": {origin.address: {"auth": login}}})
        logged_in = replace(home.settings, docker_auth_config=stored)
        diagnose(name_of(origin), logged_in, to=to).assert_healthy(skipped=["TLS"])
