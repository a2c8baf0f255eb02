"""Jobs whose layers are split: from the queue to the registry, a second time, and if the source changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.errors import ExitCode, ImageUnsupported
from pusher.store.records import BlobState
from tests.support.fakeregistry import SERVERLESS, FakeRegistry
from tests.support.home import Home
from tests.support.images import Image, Layer, make_layer, random_bytes, sha256, tar_of, write_archive

MIB = 1 << 20


def noise(seed: int) -> bytes:
    return random_bytes(400_000, seed, compressible=0)


IMAGE = Image((make_layer(5000), Layer(tar_of((f"data/{n}", noise(n)) for n in range(6)))))


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """One that stores no blob over 1 MiB."""
    with FakeRegistry(SERVERLESS.scaled(min=1000, max=MIB)) as registry:
        yield registry


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "app.tar", IMAGE, shape="podman")


def layers_at(registry: FakeRegistry, repository: str) -> list[dict[str, object]]:
    """The layers of the manifest at tag 1, whose config lists as many."""
    manifest = json.loads(registry.manifests[repository]["1"][1])
    config = json.loads(registry.blob(repository, manifest["config"]["digest"]))
    assert len(config["rootfs"]["diff_ids"]) == len(config["history"]) == len(manifest["layers"])
    found: list[dict[str, object]] = manifest["layers"]
    for layer in found:
        blob = registry.blob(repository, str(layer["digest"]))
        assert (sha256(blob), len(blob)) == (layer["digest"], layer["size"])
        assert len(blob) <= MIB
    return found


def test_a_split_image_from_queue_to_registry(home: Home, registry: FakeRegistry, archive: Path) -> None:
    told: list[str] = []
    job = home.push(archive, f"{registry.address}/app:1", split_layers=MIB, note=told.append)
    assert len(layers_at(registry, "app")) == 4
    assert "becomes 3 layers" in told[1]
    assert IMAGE.config_digest in told[2]
    assert home.kinds(job.id) == ["queued", "running", "succeeded"]
    home.assert_clean()


def test_it_is_sent_once_even_if_the_archive_is_gone(
    home: Home, registry: FakeRegistry, archive: Path
) -> None:
    home.push(archive, f"{registry.address}/app:1", split_layers=MIB)
    job = home.enqueue(archive, f"{registry.address}/other:1", split_layers=MIB)
    archive.unlink()
    assert home.run([job.id]).exit_code == ExitCode.DONE
    assert layers_at(registry, "other") == layers_at(registry, "app")
    assert {layer.state for layer in home.store.blobs.of_job(job.id)} == {BlobState.MOUNTED}


def test_only_the_parts_that_are_missing_are_made_again(
    home: Home, registry: FakeRegistry, archive: Path
) -> None:
    home.push(archive, f"{registry.address}/app:1", split_layers=MIB)
    lost = str(layers_at(registry, "app")[2]["digest"])
    with FakeRegistry(SERVERLESS.scaled(min=1000, max=MIB)) as other:
        home.spool.remove(lost)
        home.progress.calls.clear()
        home.push(archive, f"{other.address}/app:1", split_layers=MIB)
        assert layers_at(other, "app") == layers_at(registry, "app")
    assert [call[2] for call in home.progress.of("prepared")] == [lost]


def test_a_source_that_changed_between_planning_and_pushing(
    home: Home, registry: FakeRegistry, archive: Path
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1", split_layers=MIB)
    data = bytearray(archive.read_bytes())
    data[data.index(noise(4)) + 9] ^= 1
    archive.write_bytes(data)
    assert home.run([job.id]).exit_code == ExitCode.SOURCE
    error = home.job(job.id).error
    assert error is not None
    assert error.code == "layer-mismatch"
    assert registry.manifests.get("app", {}) == {}


def test_what_cannot_be_split_is_told_before_it_is_enqueued(
    home: Home, registry: FakeRegistry, tmp_path: Path
) -> None:
    archive = write_archive(tmp_path / "big.tar", Image((make_layer(2 * MIB),)))
    with pytest.raises(ImageUnsupported):
        home.enqueue(archive, f"{registry.address}/app:1", split_layers=MIB)
    assert home.store.jobs.list() == []
