"""containerd's image store through nerdctl and Docker: from disk where it can be read, else from `save`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pusher.errors import (
    EngineFailed,
    EngineNotPermitted,
    EngineNotRunning,
    ImageIncomplete,
    ImageNotFound,
    PusherError,
)
from pusher.oci.platform import Platform
from pusher.sources import find, reopen
from pusher.sources.base import Choice, Source, SourceImage
from pusher.sources.engine.content_store import ContentStoreSource
from tests.support.fake_engine import FakeEngine
from tests.support.images import Image
from tests.support.layouts import Descriptor, Layout, manifest_json, platform_image, two_platforms
from tests.support.pins import stored

NAME = "registry.example.com/team/app:1.2"
OWN = platform_image("amd64", (NAME,))


@pytest.fixture
def nerdctl(path_folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    for variable in ("CONTAINERD_ADDRESS", "CONTAINERD_NAMESPACE", "NERDCTL_TOML"):
        monkeypatch.delenv(variable, raising=False)
    return FakeEngine(path_folder, "nerdctl")


@pytest.fixture(autouse=True)
def roots(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The content stores that this machine has: at first none."""
    found: list[Path] = []
    monkeypatch.setattr("pusher.sources.engine.local_engine.usual_roots", lambda: found)
    return found


def has(engine: FakeEngine, image: Image, root: Descriptor, layout: Layout | None = None) -> None:
    """What nerdctl, or Docker with containerd's image store, tells of an image; `save` gives ``layout``."""
    described: dict[str, Any] = {
        "Id": image.config_digest,
        "RepoDigests": [f"registry.example.com/team/app@{root['digest']}"],
        "Os": "linux",
        "Architecture": image.architecture,
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
    }
    if engine.command == "docker":
        described |= {"Id": root["digest"], "Descriptor": root}
    answer = engine.folder / "inspect.json"
    answer.write_text(json.dumps([described]))
    engine.on("inspect", f"/bin/cat {answer}")
    if layout is not None:
        archive = layout.write_archive(engine.folder / "saved.tar", manifest_json(image))
        engine.on("save", f"/bin/cat {archive}")


@pytest.fixture(params=["docker", "nerdctl"])
def engine(request: pytest.FixtureRequest) -> FakeEngine:
    found: FakeEngine = request.getfixturevalue(request.param)
    return found


def prefixed(engine: FakeEngine) -> str:
    return f"{'docker-daemon' if engine.command == 'docker' else 'nerdctl'}:{NAME}"


def again(image: SourceImage) -> Source:
    return reopen(stored(image.pin))


def exported(source: Source, image: SourceImage) -> dict[str | None, bytes]:
    with source.export({layer.blob.digest for layer in image.layers if layer.blob}) as pieces:
        return {piece.name: piece.stream.read() for piece in pieces}


def test_all_platforms_come_from_a_store_that_can_be_read(
    engine: FakeEngine, tmp_path: Path, roots: list[Path]
) -> None:
    layout, root = two_platforms()
    has(engine, OWN, root)
    roots.append(layout.write_store(tmp_path / "store"))
    source, name = find(prefixed(engine))
    image = source.resolve()
    assert name == NAME
    assert [document.digest for document in image.documents][-1] == root["digest"]
    assert all(layer.file is not None for layer in image.layers)
    assert isinstance(again(image), ContentStoreSource)
    assert again(image).resolve() == image
    assert not [call for call in engine.calls() if call.startswith("save")], "nothing is saved"


def test_a_platform_from_the_store(engine: FakeEngine, tmp_path: Path, roots: list[Path]) -> None:
    layout, root = two_platforms()
    has(engine, OWN, root)
    roots.append(layout.write_store(tmp_path / "store"))
    source, _ = find(prefixed(engine), Choice((Platform("linux", "arm64"),)))
    assert source.resolve().config == platform_image("arm64").config


def test_what_was_not_pulled_is_not_missed(engine: FakeEngine, tmp_path: Path, roots: list[Path]) -> None:
    layout, root = two_platforms()
    has(engine, OWN, root)
    first, *others = json.loads(layout.blobs[root["digest"]])["manifests"]
    roots.append(layout.without(*others).write_store(tmp_path / "store"))
    image = find(prefixed(engine))[0].resolve()
    assert [document.digest for document in image.documents] == [first["digest"]]
    assert image.notes


def blobs_of(layout: Layout) -> dict[str | None, bytes]:
    """What of a layout is no manifest."""
    return {digest: data for digest, data in layout.blobs.items() if b'"schemaVersion"' not in data}


def test_saved_where_the_store_cannot_be_read(engine: FakeEngine) -> None:
    """The index with its attestations, as `docker push` would send it."""
    layout, root = two_platforms()
    has(engine, OWN, root, layout)
    image = find(prefixed(engine))[0].resolve()
    assert image.notes == ()
    assert image.config == OWN.config
    assert {document.digest: document.raw for document in image.documents} == {
        digest: data for digest, data in layout.blobs.items() if b'"schemaVersion"' in data
    }
    assert image.documents[-1].digest == root["digest"]
    assert again(image).resolve() == image
    blobs = {**exported(again(image), image), image.config_digest: image.config}
    assert blobs == blobs_of(layout)
    assert engine.calls()[-1] == f"save {root['digest']}"


def test_only_what_is_there_is_saved(engine: FakeEngine) -> None:
    """After an ordinary pull: an index that lists more."""
    layout, root = two_platforms()
    first, *others = json.loads(layout.blobs[root["digest"]])["manifests"]
    has(engine, OWN, root, layout.without(*others))
    image = find(prefixed(engine))[0].resolve()
    assert [document.digest for document in image.documents] == [first["digest"]]
    assert exported(again(image), image) == {layer.digest: layer.gzip for layer in OWN.layers}
    assert again(image).resolve() == replace(image, notes=())
    only, lacking = image.notes
    assert f"only linux/amd64 is pushed, and has the digest {first['digest']}" in only
    assert "lacks 3 of the 4 manifests" in lacking
    assert "--skip-missing" in lacking
    smaller = find(prefixed(engine), Choice(skip_missing=True))[0].resolve()
    assert len(json.loads(smaller.documents[-1].raw)["manifests"]) == 1
    assert again(smaller).resolve() == replace(smaller, notes=())
    with pytest.raises(ImageIncomplete, match="lacks 3 of the 4"):
        find(prefixed(engine), Choice(every=True))[0].resolve()
    option = "--all-platforms " if engine.command == "nerdctl" else ""
    assert engine.calls()[-1] == f"save {option}{root['digest']}"


def test_an_index_of_what_is_there_is_saved_instead(engine: FakeEngine) -> None:
    """As Docker does from 27 on: what `inspect` names is not in the archive."""
    layout, root = two_platforms()
    first, *_ = json.loads(layout.blobs[root["digest"]])["manifests"]
    part = Layout()
    part.blobs = {digest: data for digest, data in layout.blobs.items() if digest != root["digest"]}
    smaller = part.add(part.index(first), NAME)
    has(engine, OWN, root, part)
    image = find(prefixed(engine))[0].resolve()
    assert [document.digest for document in image.documents] == [first["digest"], smaller["digest"]]
    assert exported(again(image), image) == {layer.digest: layer.gzip for layer in OWN.layers}
    (note,) = image.notes
    assert f"writes only a part of {root['digest']}, which has the digest {smaller['digest']}" in note


def test_an_image_of_one_manifest_needs_no_note(engine: FakeEngine) -> None:
    layout = Layout()
    root = layout.add(layout.image(OWN), NAME)
    has(engine, OWN, root, layout)
    image = find(prefixed(engine))[0].resolve()
    assert [document.digest for document in image.documents] == [root["digest"]]
    assert image.notes == ()


def test_another_platform_is_saved(engine: FakeEngine) -> None:
    layout, root = two_platforms()
    has(engine, OWN, root, layout)
    image = find(prefixed(engine), Choice((Platform("linux", "arm64"),)))[0].resolve()
    assert image.config == platform_image("arm64").config
    assert len(exported(again(image), image)) == 2
    option = "--platform=linux/arm64 " if engine.command == "nerdctl" else ""
    assert engine.calls()[-1] == f"save {option}{root['digest']}"


def test_a_platform_that_there_is_not(engine: FakeEngine) -> None:
    layout, root = two_platforms()
    has(engine, OWN, root, layout)
    with pytest.raises(ImageNotFound, match="has no image for linux/s390x") as caught:
        find(prefixed(engine), Choice((Platform("linux", "s390x"),)))[0].resolve()
    assert caught.value.hint == "it has images for linux/amd64, linux/arm64/v8"


def test_a_platform_that_was_never_pulled(engine: FakeEngine) -> None:
    layout, root = two_platforms()
    second = json.loads(layout.blobs[root["digest"]])["manifests"][1]
    has(engine, OWN, root, layout.without(second))
    with pytest.raises(ImageIncomplete, match="lists an image for linux/arm64/v8 and does not") as caught:
        find(prefixed(engine), Choice((Platform("linux", "arm64"),)))[0].resolve()
    assert "docker pull --platform linux/arm64/v8" in caught.value.hint


def test_several_platforms_come_through_save(engine: FakeEngine) -> None:
    layout, root = two_platforms()
    has(engine, OWN, root, layout)
    both = Choice((Platform("linux", "amd64"), Platform("linux", "arm64")))
    image = find(prefixed(engine), both)[0].resolve()
    assert image.documents[-1].digest == root["digest"]
    options = "--platform=linux/amd64 --platform=linux/arm64 " if engine.command == "nerdctl" else ""
    assert engine.calls()[-1] == f"save {options}{root['digest']}"


@pytest.mark.parametrize("command", ["docker", "podman"])
def test_a_platform_is_checked_where_there_is_one_image(path_folder: Path, command: str) -> None:
    engine = FakeEngine(path_folder, command)
    described = {
        "Id": OWN.config_digest,
        "Os": "linux",
        "Architecture": "amd64",
        "RootFS": {"Layers": list(OWN.diff_ids)},
    }
    engine.on("inspect", f"echo '{json.dumps([described])}'")
    assert find(NAME, Choice((Platform("linux", "amd64"),)))[0].resolve().config_digest == OWN.config_digest
    with pytest.raises(ImageNotFound, match=f"{NAME} has no image for linux/arm64") as caught:
        find(NAME, Choice((Platform("linux", "arm64"),)))[0].resolve()
    assert caught.value.hint == "its image is for linux/amd64"


def test_the_containerd_that_was_asked_is_asked_again(
    nerdctl: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, root = two_platforms()
    has(nerdctl, OWN, root, layout)
    monkeypatch.setenv("CONTAINERD_ADDRESS", "/run/k3s/containerd/containerd.sock")
    monkeypatch.setenv("CONTAINERD_NAMESPACE", "k8s.io")
    image = find(f"nerdctl:{NAME}")[0].resolve()
    monkeypatch.delenv("CONTAINERD_ADDRESS")
    monkeypatch.setenv("CONTAINERD_NAMESPACE", "other")
    nerdctl.on("save", 'echo "asked $CONTAINERD_ADDRESS $CONTAINERD_NAMESPACE" >&2; exit 1')
    with pytest.raises(EngineFailed, match=r"asked /run/k3s/containerd/containerd.sock k8s.io"):
        exported(again(image), image)


def test_names_are_nerdctls_where_nothing_else_is(nerdctl: FakeEngine) -> None:
    layout, root = two_platforms()
    has(nerdctl, OWN, root, layout)
    assert find(NAME)[0].resolve().pin.kind == "nerdctl"


@pytest.mark.parametrize(
    ("said", "kind", "hint"),
    [
        (
            'level=fatal msg="cannot access containerd socket \\"/run/c.sock\\": no such file or directory"',
            EngineNotRunning,
            "nerdctl info",
        ),
        (
            'msg="rootless containerd not running? (hint: use `containerd-rootless-setuptool.sh`)"',
            EngineNotRunning,
            "nerdctl info",
        ),
        (
            'msg="cannot access containerd socket \\"/c.sock\\": dial unix: connect: permission denied"',
            EngineNotPermitted,
            "run pusher with sudo",
        ),
        ('level=fatal msg="1 errors:\\nno such image: app:2"', ImageNotFound, "did you mean app:1?"),
        ('level=fatal msg="something else"', EngineFailed, "nerdctl image inspect"),
    ],
)
def test_what_nerdctl_says_when_it_fails(
    nerdctl: FakeEngine, said: str, kind: type[PusherError], hint: str
) -> None:
    nerdctl.fails("inspect", said)
    nerdctl.on("ls", "echo app:1")
    with pytest.raises(kind) as caught:
        find("nerdctl:app:2")[0].resolve()
    assert type(caught.value) is kind
    assert hint in caught.value.hint


@pytest.mark.parametrize("digests", [None, [], ["app"], ["app@sha256:1"]])
def test_an_answer_without_the_images_digest(nerdctl: FakeEngine, digests: list[str] | None) -> None:
    described: dict[str, Any] = {"Id": OWN.config_digest, "RepoDigests": digests, "RootFS": {"Layers": []}}
    nerdctl.on("inspect", f"echo '{json.dumps([described])}'")
    with pytest.raises(EngineFailed, match="did not print a description"):
        find("nerdctl:app")[0].resolve()
