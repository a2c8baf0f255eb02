"""Layouts that lack blobs which the destination has, as tools leave them that know what was pushed before."""

from __future__ import annotations

from pathlib import Path

import pytest

from pusher.errors import ExitCode, ImageIncomplete
from pusher.store.records import BlobState, JobState
from tests.support.fakeregistry import FakeRegistry
from tests.support.home import Home, pushed
from tests.support.images import Image, make_image
from tests.support.layouts import Descriptor, Layout, on


@pytest.fixture
def layout(image: Image) -> Layout:
    layout = Layout()
    layout.add(layout.image(image))
    return layout


def blobs_of(image: Image) -> list[Descriptor]:
    return [{"digest": layer.digest} for layer in image.layers]


def written(layout: Layout, path: Path, kind: str = "oci") -> str:
    if kind == "oci":
        return f"oci:{layout.write_folder(path)}"
    return f"oci-archive:{layout.write_archive(path)}"


@pytest.mark.parametrize("kind", ["oci", "oci-archive"])
@pytest.mark.parametrize("lacks", ["a layer", "all layers", "the config, too"])
def test_what_the_destination_has_may_lack(
    home: Home,
    registry: FakeRegistry,
    image: Image,
    layout: Layout,
    tmp_path: Path,
    kind: str,
    lacks: str,
) -> None:
    home.push(written(layout, tmp_path / "whole"), f"{registry.address}/app:1")
    gone = blobs_of(image)[: 1 if lacks == "a layer" else None]
    if lacks == "the config, too":
        gone.append({"digest": image.config_digest})
    told: list[str] = []
    received = registry.body_bytes_received()
    with Home(tmp_path / "elsewhere") as other:
        job = other.push(
            written(layout.without(*gone), tmp_path / "rest", kind),
            f"{registry.address}/app:2",
            note=told.append,
        )
        states = [layer.state for layer in other.store.blobs.of_job(job.id)]
    pushed(registry, "app", "2", image)
    assert set(states) == {BlobState.EXISTS}
    assert registry.body_bytes_received() == received
    assert any(f"{len(gone)} of its blobs" in text for text in told)


def test_an_index_may_lack_what_is_there(home: Home, registry: FakeRegistry, tmp_path: Path) -> None:
    layout = Layout()
    images = [make_image(3000, seed=seed) for seed in (1, 2)]
    children = [
        on(f"linux/{name}", layout.image(each)) for each, name in zip(images, ("amd64", "arm64"), strict=True)
    ]
    root = layout.add(layout.index(*children))
    home.push(written(layout, tmp_path / "whole"), f"{registry.address}/app:1")
    rest = layout.without(*blobs_of(images[0]))
    job = home.push(written(rest, tmp_path / "rest"), f"{registry.address}/app:2")
    assert job.digest == root["digest"]


def test_what_neither_has_is_told_when_it_is_enqueued(
    home: Home, registry: FakeRegistry, image: Image, layout: Layout, tmp_path: Path
) -> None:
    home.push(written(layout, tmp_path / "whole"), f"{registry.address}/app:1")
    registry.remove_blob("app", image.layers[0].digest)
    rest = written(layout.without(*blobs_of(image)), tmp_path / "rest")
    with pytest.raises(ImageIncomplete, match="lacks 3 blobs"):
        home.enqueue(rest, f"{registry.address}/app:2")
    with pytest.raises(ImageIncomplete):
        home.enqueue(rest, "127.0.0.1:1/app:2")


def test_a_manifest_must_be_in_the_layout(
    home: Home, registry: FakeRegistry, image: Image, layout: Layout, tmp_path: Path
) -> None:
    home.push(written(layout, tmp_path / "whole"), f"{registry.address}/app:1")
    with pytest.raises(ImageIncomplete):
        home.enqueue(
            written(layout.without(layout.listed[0]), tmp_path / "rest"), f"{registry.address}/app:2"
        )


def test_what_is_gone_meanwhile_fails_the_job(
    home: Home, registry: FakeRegistry, image: Image, layout: Layout, tmp_path: Path
) -> None:
    home.push(written(layout, tmp_path / "whole"), f"{registry.address}/app:1")
    rest = written(layout.without(*blobs_of(image)), tmp_path / "rest")
    job = home.enqueue(rest, f"{registry.address}/app:2")
    registry.remove_blob("app", image.layers[0].digest)
    assert home.run([job.id]).exit_code == ExitCode.SOURCE
    assert home.state(job.id) == JobState.FAILED
    assert "2" not in registry.manifests["app"]
