"""Images whose blobs are final, from every place: the registry gets the same bytes, all of them."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from pusher.oci.platform import Platform
from pusher.sources.base import Choice
from tests.support.fake_engine import FakeEngine
from tests.support.fakeregistry import FakeRegistry
from tests.support.home import Home, pushed
from tests.support.images import make_image, sha256, write_archive
from tests.support.layouts import Descriptor, Layout, manifest_json, platform_image, two_platforms

NAME = "registry.example.com/team/app:1.2"
OWN = platform_image("amd64", (NAME,))

Form = Callable[[Layout, Descriptor, Path], str]
"""Writes an image somewhere below a folder and gives what one would type."""


def packed(pack: Callable[[bytes], bytes], path: Path) -> Path:
    path.write_bytes(pack(path.read_bytes()))
    return path


FORMS: dict[str, Form] = {
    "oci": lambda layout, root, folder: f"oci:{layout.write_folder(folder / 'oci')}:{NAME}",
    "oci-archive": lambda layout, root, folder: str(layout.write_archive(folder / "a.tar")),
    "dir": lambda layout, root, folder: f"dir:{layout.write_dir(folder / 'dir', root)}",
    "docker-archive": lambda layout, root, folder: (
        f"docker-archive:{layout.write_archive(folder / 'a.tar', manifest_json(OWN))}"
    ),
    "oci-archive.gz": lambda layout, root, folder: str(
        packed(gzip.compress, layout.write_archive(folder / "a.tgz"))
    ),
    "docker-archive.zst": lambda layout, root, folder: str(
        packed(zstandard.compress, layout.write_archive(folder / "a.tar.zst", manifest_json(OWN)))
    ),
}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    return FORMS[request.param]


def holds(registry: FakeRegistry, repository: str, tag: str, layout: Layout, root: Descriptor) -> None:
    """The repository has exactly the layout's blobs, its documents, and the root under the tag.

    It may have more documents: indexes of referrers, where a manifest has a subject.
    """
    manifests = registry.manifests[repository]
    assert sha256(manifests[tag][1]) == root["digest"]
    documents = {digest: raw for digest, (_, raw) in manifests.items() if digest in layout.blobs}
    blobs = {digest: registry.blob(repository, digest) for digest in registry.blobs[repository]}
    assert {**blobs, **documents} == layout.blobs


def test_an_index_with_everything_below_it(
    form: Form, home: Home, registry: FakeRegistry, tmp_path: Path
) -> None:
    layout, root = two_platforms()
    job = home.push(form(layout, root, tmp_path), f"{registry.address}/team/app:1")
    assert job.digest == root["digest"]
    holds(registry, "team/app", "1", layout, root)
    home.assert_clean()


def test_a_second_time_nothing_is_sent(
    form: Form, home: Home, registry: FakeRegistry, tmp_path: Path
) -> None:
    layout, root = two_platforms()
    image = form(layout, root, tmp_path)
    home.push(image, f"{registry.address}/team/app:1")
    before = len(registry.blobs["team/app"])
    job = home.push(image, f"{registry.address}/team/app:2")
    documents = sum(len(raw) for digest, raw in layout.blobs.items() if b'"schemaVersion"' in raw)
    assert home.figures(job.id)[2] <= documents
    assert len(registry.blobs["team/app"]) == before
    holds(registry, "team/app", "2", layout, root)


def test_one_platform(form: Form, home: Home, registry: FakeRegistry, tmp_path: Path) -> None:
    layout, root = two_platforms()
    notes: list[str] = []
    home.push(
        form(layout, root, tmp_path),
        f"{registry.address}/team/app:1",
        choice=Choice((Platform("linux", "amd64"),)),
        note=notes.append,
    )
    assert len(pushed(registry, "team/app", "1", OWN)) == 3
    assert len(registry.blobs["team/app"]) == 3
    assert root["digest"] in notes[0]


def test_artifacts_with_a_subject_and_of_zero_bytes(
    form: Form, home: Home, registry: FakeRegistry, tmp_path: Path
) -> None:
    layout = Layout()
    subject = layout.image(OWN)
    root = layout.index(subject, layout.artifact(b"", subject), layout.artifact(b"signature", subject))
    layout.add(root, NAME)
    home.push(form(layout, root, tmp_path), f"{registry.address}/team/app:1")
    holds(registry, "team/app", "1", layout, root)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, lzma.compress])
def test_uncompressed_layers_of_a_compressed_archive_are_compressed_once(
    home: Home, registry: FakeRegistry, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    image = make_image(70_000, 300, compressible=0.0)
    path = packed(pack, write_archive(tmp_path / "a.tar", image))
    job = home.push(path, f"{registry.address}/team/app:1")
    assert job.digest == sha256(registry.manifests["team/app"]["1"][1])
    pushed(registry, "team/app", "1", image)
    home.assert_clean()


@pytest.mark.parametrize("command", ["docker", "nerdctl"])
@pytest.mark.parametrize("readable", [True, False], ids=["store", "save"])
def test_the_containerd_image_store(
    home: Home,
    registry: FakeRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    readable: bool,
) -> None:
    layout, root = two_platforms()
    engine = FakeEngine(tmp_path / "bin", command)
    monkeypatch.setenv("PATH", str(engine.folder))
    roots = [layout.write_store(tmp_path / "store")] if readable else []
    monkeypatch.setattr("pusher.sources.engine.local_engine.usual_roots", lambda: roots)
    described = {
        "Id": root["digest"] if command == "docker" else OWN.config_digest,
        "RepoDigests": [f"app@{root['digest']}"],
        "Descriptor": root,
        "Os": "linux",
        "Architecture": "amd64",
        "RootFS": {"Layers": list(OWN.diff_ids)},
    }
    engine.on("inspect", f"echo '{json.dumps([described])}'")
    engine.on("save", f"/bin/cat {layout.write_archive(tmp_path / 'saved.tar', manifest_json(OWN))}")
    home.push(NAME, f"{registry.address}/team/app:1")
    holds(registry, "team/app", "1", layout, root)
    saves = [call for call in engine.calls() if call.startswith("save")]
    assert len(saves) == (0 if readable else 1)


@pytest.mark.parametrize("trouble", ["damaged", "full"])
def test_a_blob_that_could_not_be_kept_is_exported_again(
    home: Home,
    registry: FakeRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    image = make_image(70_000, 15_000, compressible=0.0)
    engine = FakeEngine(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(engine.folder))
    monkeypatch.setattr("pusher.sources.engine.local_engine.usual_roots", list)
    archive = write_archive(tmp_path / "a.tar", image, shape="containerd")
    engine.has(image, archive, containerd=True)
    with monkeypatch.context() as change:
        if trouble == "damaged":
            data, part = bytearray(archive.read_bytes()), image.layers[0].gzip
            data[data.index(part) + len(part) // 2] ^= 1
            archive.write_bytes(data)
        else:
            change.setattr("pusher.spool.disk.room_at", lambda _: 20_000)
        notes: list[str] = []
        home.enqueue(NAME, f"{registry.address}/team/app:1", note=notes.append)
    assert [note.startswith("copying the image's blobs to the spool") for note in notes].count(True) == 1
    assert image.layers[0].digest not in {digest for digest, _, _ in home.spool.blobs()}
    write_archive(archive, image, shape="containerd")
    assert home.run().exit_code == 0
    pushed(registry, "team/app", "1", image)
    assert [call.split()[0] for call in engine.calls()].count("save") == 2
