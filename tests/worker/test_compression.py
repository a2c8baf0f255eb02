"""Pushes with each compression: the manifest that fits it, and no layer compressed or sent without need."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pusher.errors import ExitCode, InvalidOption
from pusher.oci import media_types
from pusher.store.records import JobState
from pusher.worker.compression import ZSTD_NOTE
from pusher.worker.control import Activity
from pusher.worker.liveness import WorkerIdentity
from pusher.worker.preparation import BlobPreparer
from pusher.worker.registries import Registries
from pusher.worker.worker import Worker
from tests.support.fakeregistry import FakeRegistry, On
from tests.support.home import Home, manifest_digest, pushed
from tests.support.images import Image, Layer, make_image, make_layer, unpacked, write_archive
from tests.support.link import ShakyLink

DOCKER = (media_types.DOCKER_MANIFEST, media_types.DOCKER_CONFIG, media_types.DOCKER_LAYER_GZIP)
OCI = (media_types.OCI_MANIFEST, media_types.OCI_CONFIG)
TYPES = {
    None: DOCKER,
    "keep": DOCKER,
    "gzip": DOCKER,
    "auto": DOCKER,
    "zstd": (*OCI, media_types.OCI_LAYER_ZSTD),
    "none": (*OCI, media_types.OCI_LAYER),
}
MAGIC = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}


@pytest.fixture(autouse=True)
def _idle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))


def manifest(registry: FakeRegistry, tag: str, repository: str = "app") -> dict[str, Any]:
    stored_as, raw = registry.manifests[repository][tag]
    found: dict[str, Any] = json.loads(raw)
    assert stored_as == found["mediaType"]
    return found


def types(found: Mapping[str, Any]) -> list[str]:
    return [
        found["mediaType"],
        found["config"]["mediaType"],
        *(layer["mediaType"] for layer in found["layers"]),
    ]


def notes(home: Home) -> list[str]:
    return [str(text) for (text,) in home.progress.of("note")]


@pytest.mark.parametrize("kind", TYPES)
def test_every_kind_gets_there_with_its_manifest(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, kind: str | None
) -> None:
    home.push(archive, f"{registry.address}/app:1", compression=kind)
    pushed(registry, "app", "1", image)
    *expected, layer = TYPES[kind]
    found = manifest(registry, "1")
    assert types(found) == [*expected, *[layer] * len(image.layers)]
    for descriptor, tar in zip(found["layers"], image.layers, strict=True):
        blob = registry.blob("app", descriptor["digest"])
        assert (
            blob == tar.tar if kind == "none" else blob.startswith(MAGIC[kind if kind == "zstd" else "gzip"])
        )
    home.assert_clean()


@pytest.mark.parametrize("kind", TYPES)
def test_layers_and_files_of_no_bytes(
    home: Home, registry: FakeRegistry, tmp_path: Path, kind: str | None
) -> None:
    image = Image((make_layer(0), Layer(b""), make_layer(500)), names=("app:1",))
    archive = write_archive(tmp_path / "empty.tar", image)
    home.push(archive, f"{registry.address}/app:1", compression=kind)
    pushed(registry, "app", "1", image)
    home.push(archive, f"{registry.address}/app:2", compression=kind)
    assert manifest_digest(registry, "app", "1") == manifest_digest(registry, "app", "2")


def test_settings_say_what_the_job_does_not(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    to = f"{registry.address}/app"
    jobs = [home.enqueue(archive, f"{to}:1"), home.enqueue(archive, f"{to}:2", compression="none")]
    assert home.run(compression="zstd", compression_level=5).exit_code == ExitCode.DONE
    assert [home.state(job.id) for job in jobs] == [JobState.SUCCEEDED] * 2
    assert [manifest(registry, tag)["layers"][0]["mediaType"] for tag in ("1", "2")] == [
        media_types.OCI_LAYER_ZSTD,
        media_types.OCI_LAYER,
    ]
    known = home.store.known_blobs.of_layers([image.diff_ids[0]])[image.diff_ids[0]]
    assert any(blob.compression.startswith("zstd-") and blob.compression.endswith(":5") for blob in known)


@pytest.mark.parametrize(
    ("kind", "level"), [("gzip", 13), ("zstd", 20), ("none", 1), ("auto", 1), ("xz", None)]
)
def test_what_does_not_exist_is_not_enqueued(home: Home, archive: Path, kind: str, level: int | None) -> None:
    with pytest.raises(InvalidOption):
        home.enqueue(archive, "r.example/app:1", compression=kind, compression_level=level)
    assert home.store.jobs.list() == []


def test_a_setting_that_does_not_exist_fails_the_job_with_a_sentence(
    home: Home, registry: FakeRegistry, archive: Path
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1", compression_level=15)
    assert home.run(compression="gzip").exit_code == ExitCode.USAGE
    error = home.job(job.id).error
    assert error is not None
    assert "15 is not a compression level of gzip" in error.message


# --- what is known is not made again ----------------------------------------------------------------------


def sent(registry: FakeRegistry) -> int:
    return len(registry.requests(On.OPEN, On.CHUNK))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"compression": "gzip", "compression_level": 9}, {}),
        ({"compression": "gzip"}, {"compression": "gzip", "compression_level": 6}),
        ({"compression": "zstd"}, {"compression": "zstd", "compression_level": 12}),
        ({"compression": "zstd"}, {"compression": "auto"}),
        ({"compression": "none"}, {"compression": "none"}),
        ({"compression": "none"}, {"compression": "auto"}),
    ],
)
def test_any_level_of_a_kind_is_good_enough(
    home: Home, registry: FakeRegistry, archive: Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    home.push(archive, f"{registry.address}/app:1", **first)
    for digest, _, _ in list(home.spool.blobs()):
        home.spool.remove(digest)
    before = sent(registry)
    home.push(archive, f"{registry.address}/app:2", **second)
    assert manifest_digest(registry, "app", "1") == manifest_digest(registry, "app", "2")
    assert sent(registry) == before
    assert len(home.progress.of("prepared")) == 3, "by the first push alone"
    assert not [text for text in notes(home) if text.startswith("compression:")], "nothing was to be chosen"


def levels(home: Home, image: Image) -> list[list[str]]:
    """The levels of each layer's known blobs."""
    known = home.store.known_blobs.of_layers(image.diff_ids)
    return [[blob.compression.rpartition(":")[2] for blob in known[diff_id]] for diff_id in image.diff_ids]


def test_a_layer_is_never_made_again_because_the_link_changed(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    home.store.facts.update(registry.address, link_rate=100_000.0)
    home.push(archive, f"{registry.address}/app:1")
    assert levels(home, image) == [["10"]] * len(image.layers)
    before = sent(registry)
    home.store.facts.update(registry.address, link_rate=1e9, gzip_level=2)
    home.push(archive, f"{registry.address}/app:2")  # from the spool's or the registry's blobs
    for digest, _, _ in list(home.spool.blobs()):
        home.spool.remove(digest)
    home.push(archive, f"{registry.address}/app:3")  # from the registry's
    assert len({manifest_digest(registry, "app", tag) for tag in "123"}) == 1
    assert sent(registry) == before
    assert levels(home, image) == [["10"]] * len(image.layers)


def test_another_registry_gets_the_blobs_that_are_on_disk(
    home: Home, registry: FakeRegistry, archive: Path
) -> None:
    with FakeRegistry() as slow:
        home.store.facts.update(registry.address, link_rate=1e9)
        home.store.facts.update(slow.address, link_rate=100_000.0)
        fast, late = (home.enqueue(archive, f"{to.address}/app:1") for to in (registry, slow))
        assert home.run(only=[fast.id]).exit_code == ExitCode.DONE
        assert home.run(only=[late.id]).exit_code == ExitCode.DONE
        assert manifest_digest(slow, "app", "1") == manifest_digest(registry, "app", "1")


def test_the_first_layer_tells_the_speed_and_the_next_push_begins_with_its_level(
    home: Home, tmp_path: Path
) -> None:
    images = [make_image(2_500_000, compressible=0.1, seed=seed) for seed in (1, 2)]
    said: list[str] = []
    with FakeRegistry() as wide, ShakyLink(wide.address, rate=1_500_000) as link:
        for number, image in enumerate(images):
            archive = write_archive(tmp_path / f"{number}.tar", image)
            job = home.push(archive, f"{link.address}/app:{number}")
            said += [text for kind, text in home.events(job.id) if kind == "compression"]
        facts = home.store.facts.get(link.address)
    first, second = (levels(home, image) for image in images)
    levels_on_busy_machines = ["5"], ["7"], ["10"]  # where responses take long
    assert first[0] in (["2"], *levels_on_busy_machines)
    assert second == [["10"]]
    assert facts.gzip_level == 10
    assert facts.link_rate is not None
    assert facts.link_rate < 2_000_000
    assert "the speed of the link is not known yet" in said[0]
    assert re.fullmatch(r"compressing with gzip level 10: the link takes .* [KM]iB/s", said[1])
    assert notes(home)[-1] == said[1].replace("compressing", "compressed")


def test_a_level_in_the_settings_is_obeyed_on_any_link(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    home.store.facts.update(registry.address, link_rate=100_000.0)
    job = home.enqueue(archive, f"{registry.address}/app:1")
    assert home.run(compression_level=4).exit_code == ExitCode.DONE
    assert levels(home, image) == [["4"]] * len(image.layers)
    logged = [text for kind, text in home.events(job.id) if kind == "compression"]
    assert logged == ["compressing with gzip level 4: set by compression_level"]
    assert "compressed with gzip level 4: set by compression_level" in notes(home)
    assert home.store.facts.get(registry.address).gzip_level is None


@pytest.mark.parametrize(
    ("first", "second"), [("gzip", "zstd"), ("zstd", "gzip"), ("zstd", "keep"), ("gzip", "none")]
)
def test_another_kind_is_made(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, first: str, second: str
) -> None:
    home.push(archive, f"{registry.address}/app:1", compression=first)
    home.push(archive, f"{registry.address}/app:2", compression=second)
    pushed(registry, "app", "2", image)
    layer = manifest(registry, "2")["layers"][0]
    assert layer["mediaType"] == TYPES[second][2]
    blob = registry.blob("app", layer["digest"])
    assert blob == image.layers[0].tar if second == "none" else blob != image.layers[0].tar


def test_what_another_tool_sent_uncompressed_is_found_by_its_diff_id(
    home: Home, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    home.push(archive, f"{registry.address}/other:1")
    for layer in image.layers:
        registry.add_blob("app", layer.tar)
    before = len(home.progress.of("prepared"))
    home.push(archive, f"{registry.address}/app:1", compression="none")
    pushed(registry, "app", "1", image)
    assert len(home.progress.of("prepared")) == before


def test_layers_of_several_kinds_are_one_image(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, tmp_path: Path
) -> None:
    """``auto`` takes what is there; what is new goes by gzip, and the manifest names both in OCI's words."""
    home.push(archive, f"{registry.address}/app:1", compression="zstd")
    newer = Image((*image.layers, make_layer(3000, seed=9)), names=image.names)
    path = write_archive(tmp_path / "newer.tar", newer)
    home.push(path, f"{registry.address}/app:2", compression="auto")
    pushed(registry, "app", "2", newer)
    zstd = [media_types.OCI_LAYER_ZSTD] * len(image.layers)
    assert types(manifest(registry, "2")) == [*OCI, *zstd, media_types.OCI_LAYER_GZIP]


# --- images that are final ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_an_image_with_a_manifest_of_its_own_stays_as_it_is(
    home: Home, registry: FakeRegistry, image: Image, tmp_path: Path, kind: str | None
) -> None:
    archive = write_archive(tmp_path / "final.tar", image, shape="containerd")
    to = f"{registry.address}/app:1"
    home.push(archive, to, compression=kind)
    assert registry.manifests["app"]["1"][1] == image.manifest
    said = [text for text in notes(home) if "sent as it is" in text]
    assert len(said) == (1 if kind in ("gzip", "zstd", "none") else 0)


def test_layers_that_came_compressed_are_never_compressed_again(
    home: Home, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    archive = write_archive(tmp_path / "gz.tar", image, shape="compressed")
    home.push(archive, f"{registry.address}/app:1", compression="zstd")
    assert [layer["digest"] for layer in manifest(registry, "1")["layers"]] == [
        layer.digest for layer in image.layers
    ]
    assert types(manifest(registry, "1"))[0] == media_types.DOCKER_MANIFEST, "all of them are gzip"


# --- what the user is told ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_who_can_pull_zstd_is_said_once(
    home: Home, registry: FakeRegistry, archive: Path, kind: str | None
) -> None:
    home.push(archive, f"{registry.address}/app:1", compression=kind)
    assert notes(home).count(ZSTD_NOTE) == (1 if kind == "zstd" else 0)


def test_auto_says_what_it_chose_and_why(home: Home, registry: FakeRegistry, tmp_path: Path) -> None:
    image = make_image(3_000_000, 2_500_000, 500, compressible=0.9)
    home.store.facts.update(registry.address, link_rate=200_000.0)
    archive = write_archive(tmp_path / "big.tar", image)
    job = home.push(archive, f"{registry.address}/app:1", compression="auto")
    pushed(registry, "app", "1", image)
    logged = [text for kind, text in home.events(job.id) if kind == "compression"]
    assert logged
    assert all(text.endswith(": it arrives first at 195.3 KiB/s") for text in logged)
    (said,) = [text for text in notes(home) if "compressed with" in text]
    assert said.endswith(": it arrives first at 195.3 KiB/s")
    chosen = [unpacked(registry.blob("app", layer["digest"])) for layer in manifest(registry, "1")["layers"]]
    assert chosen == [layer.tar for layer in image.layers]


def test_auto_on_a_link_never_measured_is_gzip_and_says_so(
    home: Home, registry: FakeRegistry, archive: Path
) -> None:
    job = home.push(archive, f"{registry.address}/app:1", compression="auto")
    why = "gzip level 2: the speed of the link is not known yet"
    assert f"compressed with {why}" in notes(home)
    logged = [text for kind, text in home.events(job.id) if kind == "compression"]
    assert logged == [f"compressing with {why}"]


def test_how_jobs_were_compressed_is_said_once_a_run(home: Home, archive: Path) -> None:
    with closing(Registries(home.store, home.settings)) as registries:
        identity = WorkerIdentity(home.settings.workers, home.settings.lease)
        worker = Worker(
            identity, home.settings, home.store, home.spool, registries, home.progress, Activity()
        )
        preparer = BlobPreparer(worker, lambda: 1)
        first, other = (home.enqueue(archive, f"{host}.example/app:1") for host in "ab")
        slow, fast = frozenset({"gzip 9"}), frozenset({"gzip 2"})
        for job, summary, chosen in (
            (first, "with 9", slow),
            (first, "with 9, the link takes 1 MiB/s", slow),
            (other, "with 9", slow),
            (first, None, fast),
            (first, "with 2", fast),
            (first, "2 with 9; 1 with 2", slow | fast),
            (other, "with 2, the link takes 2 MiB/s", fast),
        ):
            preparer.report_compression(job, summary, chosen)
    assert notes(home) == ["with 9", "with 2", "with 2, the link takes 2 MiB/s"]
