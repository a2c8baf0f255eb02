"""Sources against a real Docker daemon and a real Podman."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.errors import EngineNotRunning, ImageChanged, ImageNotFound, StorageDoubtful
from pusher.sources import Source, find, reopen
from pusher.sources.engine import local_engine
from pusher.spool import Spool
from pusher.spool.compress import GZIP
from tests.support.engines import Docker, Engine, Podman
from tests.support.images import UNCOMPRESSED, Image, Shape, make_image, sha256, write_archive
from tests.support.pins import stored

NAME = "registry.example.com/team/sources:1.2"
BUILT = "registry.example.com/team/sources-built:1"
MOVED = "registry.example.com/team/sources-moved:1"
FILES = {"one": b"1" * 100_000, "two": b"2" * 3_000_000, "three": b""}


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine in turn, with an image of three layers under ``NAME``; it is built once."""
    found: Engine = request.getfixturevalue({"docker": "dockerd", "podman": "podman"}[request.param])
    if BUILT not in _names(found):
        found.build(BUILT, FILES)
    found.run("tag", BUILT, NAME)
    yield found
    for name in {NAME, MOVED} & _names(found):
        found.remove(name)


def _names(engine: Engine) -> set[str]:
    return set(engine.run("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split())


def prefixed(engine: Engine, name: str) -> str:
    return f"{'docker-daemon' if engine.command == 'docker' else 'podman'}:{name}"


def spooled(source: Source, wanted: set[str], spool: Spool) -> dict[str, bytes]:
    """Export into a spool as the worker does; what is on disk afterwards, by diff ID or digest."""
    found: dict[str, bytes] = {}
    with source.export(wanted) as pieces:
        for piece in pieces:
            if piece.kind == "layer":
                blob = spool.write_layer(piece.stream, how=GZIP, expected_diff_id=piece.name)
                assert blob.diff_id is not None
                found[blob.diff_id] = gzip.decompress(spool.path(blob.digest).read_bytes())
            else:
                assert piece.name is not None
                spool.write_blob(piece.stream, digest=piece.name, size=piece.size, media_type="x")
                found[piece.name] = spool.path(piece.name).read_bytes()
    return found


@pytest.fixture(params=["disk", "save"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How images are read; only root may read an engine's disk."""
    if request.param == "save":
        monkeypatch.setattr(local_engine, "is_root", lambda: False)
    return str(request.param)


def test_an_image_is_exported_whole(engine: Engine, way: str, tmp_path: Path) -> None:
    source, name = find(prefixed(engine, NAME))
    assert name == NAME
    image = source.resolve()
    assert image.config_digest == engine.image_id(NAME)
    diff_ids = [layer.key for layer in image.layers]
    assert diff_ids == engine.diff_ids(NAME)

    if image.config is not None:
        assert sha256(image.config) == image.config_digest
    wanted = {*diff_ids, *([image.config_digest] if image.config is None else [])}
    assert (image.config is None) == (way == "save")

    found = spooled(reopen(stored(image.pin)), wanted, Spool(tmp_path))
    assert set(found) == wanted
    assert all(sha256(data) == digest for digest, data in found.items())


def test_a_saved_archive_is_the_same_image(engine: Engine, tmp_path: Path) -> None:
    source, name = find(str(engine.save(tmp_path / "saved.tar", NAME)))
    image = source.resolve()
    assert name == NAME
    assert image.config_digest == engine.image_id(NAME)
    diff_ids = [layer.key for layer in image.layers]
    assert diff_ids == engine.diff_ids(NAME)
    found = spooled(source, set(diff_ids), Spool(tmp_path / "spool"))
    assert set(found) == set(diff_ids)


def test_several_images_in_one_saved_archive(dockerd: Docker, tmp_path: Path) -> None:
    names = [f"registry.example.com/several/{letter}:1" for letter in "ab"]
    for position, name in enumerate(names):
        dockerd.build(name, {"shared": b"s" * 1000, "own": bytes([position])})
    path = dockerd.save(tmp_path / "saved.tar", *names)
    for name in names:
        source, own = find(f"docker-archive:{path}:{name}")
        assert own == name
        assert source.resolve().config_digest == dockerd.image_id(name)
        dockerd.remove(name)


def test_a_tag_moved_after_enqueue_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    before = find(prefixed(engine, NAME))[0].resolve()
    engine.build(MOVED, {"one": b"other"})
    engine.run("tag", MOVED, NAME)
    assert engine.image_id(NAME) != before.config_digest
    wanted = {layer.key for layer in before.layers}
    assert set(spooled(reopen(before.pin), wanted, Spool(tmp_path))) == wanted


def test_an_image_deleted_after_enqueue_is_a_change(engine: Engine, way: str) -> None:
    engine.build(MOVED, {"one": b"to be deleted"})
    before = find(prefixed(engine, MOVED))[0].resolve()
    engine.remove(MOVED)
    wanted = {layer.key for layer in before.layers}
    source: Source | None = reopen(before.pin)
    assert source is not None
    if way == "disk":
        with pytest.raises(StorageDoubtful), source.export(wanted) as pieces:
            list(pieces)
        source = source.fall_back()
        assert source is not None
    with pytest.raises(ImageChanged, match="was deleted"), source.export(wanted) as pieces:
        list(pieces)


def test_an_unknown_name_gives_the_nearest(engine: Engine) -> None:
    with pytest.raises(ImageNotFound) as caught:
        find(prefixed(engine, "registry.example.com/team/source:1.2"))[0].resolve()
    assert NAME in caught.value.hint


def test_podman_is_named_when_docker_does_not_have_the_image(dockerd: Docker, podman: Podman) -> None:
    podman.build("registry.example.com/only/here:1", {"file": b"x"})
    with pytest.raises(ImageNotFound) as caught:
        find("registry.example.com/only/here:1")[0].resolve()
    assert caught.value.hint == "Podman has it: podman:registry.example.com/only/here:1"
    podman.remove("registry.example.com/only/here:1")


def test_a_daemon_that_does_not_run(dockerd: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(EngineNotRunning) as caught:
        find(NAME)[0].resolve()
    assert f"unix://{tmp_path}/none.sock" in caught.value.hint


def test_leaving_an_export_early_leaves_the_engine_usable(engine: Engine, tmp_path: Path) -> None:
    source = find(prefixed(engine, NAME))[0]
    image = source.resolve()
    wanted = {layer.key for layer in image.layers}
    with source.export(wanted) as pieces:
        next(pieces)
    assert set(spooled(source, wanted, Spool(tmp_path))) == wanted


@pytest.mark.parametrize("shape", UNCOMPRESSED)
def test_engines_load_the_archives_that_tests_build(engine: Engine, tmp_path: Path, shape: Shape) -> None:
    """So that what is tested against them is what an engine would have written."""
    once = make_image(5000, 60_000, names=("registry.example.com/team/built:1",), seed=len(shape))
    image = Image((*once.layers, once.layers[0]), once.names, once.comment)
    path = write_archive(tmp_path / "a.tar", image, shape=shape)
    engine.run("load", "--input", str(path))
    assert engine.image_id(image.names[0]) == image.config_digest
    assert engine.diff_ids(image.names[0]) == list(image.diff_ids)
    engine.remove(image.names[0])
