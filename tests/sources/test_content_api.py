"""Docker's content store, read through its API: manifests and blobs by digest, nothing exported."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pusher.errors import ImageChanged, ImageIncomplete, SourceStalled, StorageDoubtful
from pusher.oci.manifest import Descriptor
from pusher.oci.media_types import OCI_LAYER_GZIP
from pusher.retry import RetryPolicy
from pusher.sources import find, reopen
from pusher.sources.engine.content_api import DockerContent
from tests.support.content_api import UNIMPLEMENTED, ContentApi, stored_blobs
from tests.support.fake_engine import FakeEngine
from tests.support.images import make_image, sha256, write_archive
from tests.support.layouts import two_platforms
from tests.support.pins import stored
from tests.support.quick import QUICK

NAME = "registry.example.com/team/app:1.2"
IMAGE = make_image(5000, 300_000, 7000, compressible=0.0)
BLOB = bytes(range(256)) * 400
DIGEST = sha256(BLOB)
DESCRIPTOR = Descriptor(OCI_LAYER_GZIP, DIGEST, len(BLOB))


@pytest.fixture
def api(docker: FakeEngine, tmp_path: Path) -> Iterator[ContentApi]:
    """The API of a Docker that has ``IMAGE``, and ``BLOB``."""
    docker.has(IMAGE, write_archive(tmp_path / "a.tar", IMAGE, shape="containerd"), containerd=True)
    with ContentApi({**stored_blobs(IMAGE), DIGEST: BLOB}) as api:
        api.serve(docker)
        yield api


@pytest.fixture
def content(api: ContentApi) -> Iterator[DockerContent]:
    with DockerContent({}, away=QUICK.source) as content:
        yield content
    api.wait_for_no_connection()


def saves(docker: FakeEngine) -> int:
    return sum(call.startswith("save ") for call in docker.calls())


@pytest.mark.parametrize("over_ssh", [False, True], ids=["socket", "dial-stdio"])
def test_an_image_is_found_without_an_export(docker: FakeEngine, api: ContentApi, over_ssh: bool) -> None:
    api.serve(docker, over_ssh=over_ssh)
    found = find(NAME)[0].resolve()
    assert saves(docker) == 0
    assert found.root is not None
    assert found.config == IMAGE.config
    assert [layer.blob and layer.blob.digest for layer in found.layers] == [
        layer.digest for layer in IMAGE.layers
    ]
    assert reopen(stored(found.pin)).resolve() == replace(found, notes=())
    api.wait_for_no_connection()


def test_it_is_the_same_image_as_that_of_an_export(docker: FakeEngine, api: ContentApi) -> None:
    read = find(NAME)[0].resolve()
    api.offered = False
    exported = find(NAME)[0].resolve()
    assert saves(docker) == 1
    assert replace(read, notes=()) == replace(exported, notes=())


@pytest.mark.parametrize(
    "change",
    [
        lambda api: setattr(api, "offered", False),
        lambda api: setattr(api, "status", UNIMPLEMENTED),
        lambda api: api.blobs.clear(),
        lambda api: api.path.unlink(),
    ],
    ids=["not offered", "not implemented", "empty", "no socket"],
)
def test_where_it_cannot_be_read_the_image_is_exported(
    docker: FakeEngine, api: ContentApi, change: Callable[[ContentApi], None]
) -> None:
    change(api)
    assert find(NAME)[0].resolve().root is not None
    assert saves(docker) == 1


def test_a_blob_that_is_missing_is_reported(api: ContentApi) -> None:
    del api.blobs[IMAGE.layers[1].digest]
    with pytest.raises(ImageIncomplete):
        find(NAME)[0].resolve()


def test_after_an_ordinary_pull_this_machines_platform(docker: FakeEngine, api: ContentApi) -> None:
    layout, root = two_platforms()
    described = {"Id": root["digest"], "Os": "linux", "Architecture": "amd64", "Descriptor": root}
    docker.on("inspect", f"echo '{json.dumps([described])}'")
    api.blobs = dict(layout.blobs)
    whole = find(NAME)[0].resolve()
    assert whole.documents[-1].digest == root["digest"]
    (arm,) = (child["digest"] for child in json.loads(layout.blobs[root["digest"]])["manifests"][1:2])
    del api.blobs[arm]
    found = find(NAME)[0].resolve()
    assert len(found.documents) == 1
    assert any("--skip-missing" in note for note in found.notes)


def test_chunks_that_follow_each_other_take_one_call(api: ContentApi, content: DockerContent) -> None:
    blob = content.file_of(DESCRIPTOR, NAME)
    read = b""
    for start in range(0, len(BLOB), 30_000):
        with blob.open() as file:
            file.seek(start)
            while len(read) < min(start + 30_000, len(BLOB)):
                read += file.read(min(7000, start + 30_000 - len(read)))
    assert read == BLOB
    assert api.reads == [(DIGEST, 0)]


def test_what_is_read_again_is_asked_for_again(api: ContentApi, content: DockerContent) -> None:
    blob = content.file_of(DESCRIPTOR, NAME)
    with blob.open() as file:
        assert file.read(500) == BLOB[:500]
        file.seek(90_000)
        assert file.read(500) == BLOB[90_000:90_500]
        file.seek(len(BLOB))
        assert file.read(500) == b""
        file.seek(len(BLOB) - 3)
        assert file.read(500) == BLOB[-3:]
        assert file.read(500) == b""
    assert [offset for _, offset in api.reads] == [0, 90_000, len(BLOB) - 3]


def test_many_blobs_one_after_the_other_take_one_connection(api: ContentApi, content: DockerContent) -> None:
    for digest, data in list(api.blobs.items()):
        with content.file_of(Descriptor("", digest, len(data)), NAME).open() as file:
            got = b""
            while block := file.read(100_000):
                got += block
        assert got == data
    assert api.connections == 1


def test_after_a_break_it_goes_on_at_the_same_byte(api: ContentApi, content: DockerContent) -> None:
    api.break_at = {40_000, 70_000}
    with content.file_of(DESCRIPTOR, NAME).open() as file:
        read = b""
        while block := file.read(10_000):
            read += block
    assert read == BLOB
    assert [offset for _, offset in api.reads] == [0, 32_768, 65_536]


def test_a_blob_deleted_meanwhile(api: ContentApi, content: DockerContent) -> None:
    with content.file_of(DESCRIPTOR, NAME).open() as file:
        file.read(10)
        del api.blobs[DIGEST]
        file.seek(5)
        with pytest.raises(ImageChanged, match=f"{NAME} was deleted from Docker"):
            file.read(10)


def test_a_daemon_that_goes_away_is_asked_again_later(
    docker: FakeEngine, api: ContentApi, content: DockerContent
) -> None:
    away = api.path.with_name("away")
    with content.file_of(DESCRIPTOR, NAME).open() as file:
        read = file.read(10)
        file.seek(50_000)
        api.path.rename(away)
        api.drop_connections()
        with pytest.raises(
            SourceStalled,
            match=f"Docker stopped delivering {NAME}: cannot connect to /.*docker.sock: No such",
        ):
            file.read(10)
        away.rename(api.path)
        read = file.read(10)
    assert read == BLOB[50_000:50_010]


def test_a_pause_for_a_daemon_that_is_away_can_be_ended(api: ContentApi) -> None:
    class Enough(Exception):
        """What a pause raises."""

    pauses: list[float] = []

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        raise Enough

    with DockerContent({}, wait=wait) as content, content.file_of(DESCRIPTOR, NAME).open() as file:
        api.path.rename(api.path.with_name("away"))
        with pytest.raises(Enough):
            file.read(10)
    assert pauses == [RetryPolicy.source.first]


def test_a_daemon_that_is_silent_is_noticed(api: ContentApi) -> None:
    class Enough(Exception):
        """What a check raises."""

    def check() -> None:
        raise Enough

    api.stands_still.set()
    with DockerContent({}, lambda: check) as content, content.file_of(DESCRIPTOR, NAME).open() as file:
        with pytest.raises(Enough):
            file.read(10)
        api.stands_still.clear()
        assert file.read(10) == BLOB[:10]


@pytest.mark.parametrize(
    "answer", ["HTTP/1.1 101 X\\r\\n\\r\\nnot gRPC at all", "garbage", "", "SSH-2.0-x\\n"]
)
def test_what_is_not_docker(docker: FakeEngine, answer: str) -> None:
    docker.on("context", "echo tcp://host")
    docker.on("system", f"printf '{answer}'")
    with DockerContent({}) as content, pytest.raises(StorageDoubtful):
        content.size_of(DIGEST)


def test_a_large_document_is_none(
    api: ContentApi, content: DockerContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pusher.sources.engine.content_api.SMALL", 1000)
    with pytest.raises(StorageDoubtful, match="too large"):
        content.read(DESCRIPTOR)
