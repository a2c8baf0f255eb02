"""Docker and Podman through their command line, played by shell scripts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from pusher.errors import (
    EngineFailed,
    EngineMissing,
    EngineNotPermitted,
    EngineNotRunning,
    ImageChanged,
    ImageNotFound,
    PusherError,
    ReferenceMalformed,
)
from pusher.sources import find, reopen
from pusher.sources.base import Source
from tests.support.fake_engine import FakeEngine
from tests.support.images import (
    UNCOMPRESSED,
    Entry,
    Image,
    Shape,
    entries,
    make_image,
    sha256,
    truncated,
    write_archive,
    write_tar,
    write_undescribed,
)
from tests.support.pins import stored

NAME = "registry.example.com/team/app:1.2"
IMAGE = make_image(5000, 300_000, 7000)


def pinned(image: str = NAME) -> Source:
    """Resolve, and open again from what a job would store."""
    return reopen(stored(find(image)[0].resolve().pin))


def exported(
    source: Source, wanted: Iterable[str], skip_sizes: Iterable[int] = ()
) -> list[tuple[str, str | None, bytes]]:
    with source.export(set(wanted), skip_sizes=set(skip_sizes)) as pieces:
        return [(piece.kind, piece.name, piece.stream.read()) for piece in pieces]


@pytest.mark.parametrize("shape", UNCOMPRESSED)
def test_an_image_arrives_whole(docker: FakeEngine, tmp_path: Path, shape: Shape) -> None:
    docker.has(IMAGE, write_archive(tmp_path / "a.tar", IMAGE, shape=shape))
    source, name = find(NAME)
    assert name == NAME
    found = source.resolve()
    assert found.config_digest == IMAGE.config_digest
    assert found.config is None
    assert found.root is None
    assert tuple(layer.diff_id for layer in found.layers) == IMAGE.diff_ids

    pieces = exported(pinned(), {*IMAGE.diff_ids, IMAGE.config_digest})
    assert {data for kind, _, data in pieces if kind == "layer"} == {layer.tar for layer in IMAGE.layers}
    assert [(name, data) for kind, name, data in pieces if kind == "blob"] == [
        (IMAGE.config_digest, IMAGE.config)
    ]
    names = {name for kind, name, _ in pieces if kind == "layer"}
    assert names == set(IMAGE.diff_ids)


def test_layers_may_arrive_without_their_names(docker: FakeEngine, tmp_path: Path) -> None:
    docker.has(IMAGE, write_undescribed(tmp_path / "a.tar", IMAGE))
    pieces = exported(pinned(), IMAGE.diff_ids)
    assert {(name, data) for _, name, data in pieces} == {(None, layer.tar) for layer in IMAGE.layers}


def test_what_is_saved_is_the_id_not_the_name(docker: FakeEngine, tmp_path: Path) -> None:
    docker.has(IMAGE, write_archive(tmp_path / "a.tar", IMAGE))
    source = pinned()
    exported(source, IMAGE.diff_ids)
    asked = [call for call in docker.calls() if call.startswith(("image ", "save "))]
    assert asked == [f"image inspect -- {NAME}", f"save {IMAGE.config_digest}"]


def test_a_pinned_image_is_known_without_the_engine(docker: FakeEngine, tmp_path: Path) -> None:
    """All its layers may be spooled or in the registry already."""
    docker.has(IMAGE, write_archive(tmp_path / "a.tar", IMAGE))
    first = find(NAME)[0].resolve()
    (docker.folder / "docker").unlink()
    assert reopen(first.pin).resolve() == first


@pytest.mark.parametrize("shape", UNCOMPRESSED)
def test_a_layer_that_occurs_twice_arrives_once(docker: FakeEngine, tmp_path: Path, shape: Shape) -> None:
    image = Image((*IMAGE.layers, IMAGE.layers[1]), IMAGE.names)
    docker.has(image, write_archive(tmp_path / "a.tar", image, shape=shape))
    assert len(exported(pinned(), image.diff_ids)) == 3


@pytest.mark.parametrize("shape", UNCOMPRESSED)
def test_only_what_is_wanted_arrives_where_names_tell(
    docker: FakeEngine, tmp_path: Path, shape: Shape
) -> None:
    docker.has(IMAGE, write_archive(tmp_path / "a.tar", IMAGE, shape=shape))
    wanted = IMAGE.diff_ids[1]
    assert exported(pinned(), [wanted]) == [("layer", wanted, IMAGE.layers[1].tar)]


def test_sizes_tell_where_names_do_not(docker: FakeEngine, tmp_path: Path) -> None:
    docker.has(IMAGE, write_undescribed(tmp_path / "a.tar", IMAGE))
    known = IMAGE.layers[1].tar
    arrived = exported(pinned(), IMAGE.diff_ids, skip_sizes=[len(known)])
    assert {data for _, _, data in arrived} == {IMAGE.layers[0].tar, IMAGE.layers[2].tar}


def test_layers_are_left_out_when_only_the_config_is_wanted(docker: FakeEngine, tmp_path: Path) -> None:
    docker.has(IMAGE, write_archive(tmp_path / "a.tar", IMAGE))
    assert exported(pinned(), [IMAGE.config_digest]) == [("blob", IMAGE.config_digest, IMAGE.config)]


def test_pieces_may_be_left_alone(docker: FakeEngine, tmp_path: Path) -> None:
    docker.has(IMAGE, write_archive(tmp_path / "a.tar", IMAGE, shape="docker25"))
    with pinned().export(set(IMAGE.diff_ids)) as pieces:
        assert {piece.name for piece in pieces} == set(IMAGE.diff_ids)


@pytest.mark.parametrize("descriptor", [True, False], ids=["Docker 28", "Docker 26"])
def test_the_containerd_image_store_gives_manifest_and_final_blobs(
    docker: FakeEngine, tmp_path: Path, descriptor: bool
) -> None:
    archive = write_archive(tmp_path / "a.tar", IMAGE, shape="containerd")
    docker.has(IMAGE, archive, containerd=True, descriptor=descriptor)
    found = find(NAME)[0].resolve()
    assert found.config_digest == IMAGE.config_digest
    assert found.config == IMAGE.config
    assert found.root is not None
    assert found.root.raw == IMAGE.manifest
    blobs = [layer.blob for layer in found.layers]
    assert [blob and blob.digest for blob in blobs] == [layer.digest for layer in IMAGE.layers]
    assert all(layer.file is None for layer in found.layers)

    source = reopen(stored(found.pin))
    assert source.resolve() == replace(found, notes=())
    wanted = {layer.digest for layer in IMAGE.layers[:2]}
    arrived = exported(source, wanted)
    assert {(kind, name) for kind, name, _ in arrived} == {("blob", digest) for digest in wanted}
    assert all(sha256(data) == name for _, name, data in arrived)


class Keeper:
    """Keeps all blobs but those in ``unwanted``."""

    def __init__(self, unwanted: Collection[str] = ()) -> None:
        self.unwanted = set(unwanted)
        self.kept: dict[str, bytes] = {}

    def wants(self, digest: str, size: int) -> bool:
        return digest not in self.unwanted

    def keep(self, digest: str, size: int, stream: BinaryIO) -> None:
        self.kept[digest] = stream.read()
        assert len(self.kept[digest]) == size


@pytest.mark.parametrize("big", [False, True], ids=["small", "big"])
def test_blobs_that_pass_are_kept(
    docker: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, big: bool
) -> None:
    """Docker's containerd store is read once: its manifests may be the last blobs of the stream."""
    if big:
        monkeypatch.setattr("pusher.sources.engine.save_stream._SMALL", 3000)
    archive = write_archive(tmp_path / "a.tar", IMAGE, shape="containerd")
    docker.has(IMAGE, archive, containerd=True)
    keeper = Keeper()
    find(NAME, keeper=keeper)[0].resolve()
    assert keeper.kept == {
        IMAGE.config_digest: IMAGE.config,
        **{layer.digest: layer.gzip for layer in IMAGE.layers},
    }
    one = IMAGE.layers[1]
    some = Keeper({one.digest})
    find(NAME, keeper=some)[0].resolve()
    assert keeper.kept.items() - some.kept.items() == {(one.digest, one.gzip)}


def test_reading_stops_where_no_blob_is_wanted(docker: FakeEngine, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.tar", IMAGE, shape="containerd")
    docker.has(IMAGE, archive, containerd=True)
    docker.on("save", f"/bin/cat {archive}; exec /bin/sleep 60")
    started = time.monotonic()
    find(NAME, keeper=Keeper([layer.digest for layer in IMAGE.layers]))[0].resolve()
    find(NAME, keeper=Keeper())[0].resolve()
    assert time.monotonic() - started < 45


def test_the_containerd_image_store_without_a_matching_manifest(docker: FakeEngine, tmp_path: Path) -> None:
    docker.has(IMAGE, write_archive(tmp_path / "a.tar", make_image(9), shape="containerd"), containerd=True)
    with pytest.raises(EngineFailed, match="writes another image than sha256:"):
        find(NAME)[0].resolve()


@pytest.mark.parametrize("info", ["exit 1", 'echo \'[["Backing Filesystem","extfs"]]\''])
def test_a_driver_that_tells_nothing_of_its_layers_is_not_containerd(
    docker: FakeEngine, tmp_path: Path, info: str
) -> None:
    docker.has(IMAGE, write_archive(tmp_path / "a.tar", IMAGE))
    docker.on("info", info)
    described = {
        "Id": IMAGE.config_digest,
        "GraphDriver": {"Name": "vfs", "Data": None},
        "RootFS": {"Layers": list(IMAGE.diff_ids)},
    }
    docker.on("inspect", f"echo '{json.dumps([described])}'")
    assert find(NAME)[0].resolve().root is None
    assert any(call.startswith("info") for call in docker.calls())


def test_a_driver_that_tells_of_its_layers_is_not_asked_about(docker: FakeEngine, tmp_path: Path) -> None:
    docker.has(IMAGE, write_archive(tmp_path / "a.tar", IMAGE))
    find(f"docker-daemon:{NAME}")[0].resolve()
    assert not any("DriverStatus" in call for call in docker.calls())


def test_podman_has_its_own_prefix(podman: FakeEngine, tmp_path: Path) -> None:
    podman.has(IMAGE, write_archive(tmp_path / "a.tar", IMAGE, shape="podman"))
    source = pinned(f"podman:{NAME}")
    assert len(exported(source, IMAGE.diff_ids)) == 3
    assert podman.calls()[-1] == f"save --quiet --format docker-archive {IMAGE.config_digest}"


def test_an_id_without_its_algorithm_is_podmans(podman: FakeEngine, tmp_path: Path) -> None:
    answer = json.dumps([{"Id": IMAGE.config_digest[7:], "RootFS": {"Layers": list(IMAGE.diff_ids)}}])
    podman.on("inspect", f"echo '{answer}'")
    assert find("podman:app")[0].resolve().config_digest == IMAGE.config_digest


def test_the_daemon_that_was_asked_is_asked_again(
    docker: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.has(IMAGE, write_archive(tmp_path / "a.tar", IMAGE))
    monkeypatch.setenv("DOCKER_HOST", "unix:///one")
    source = pinned()
    monkeypatch.setenv("DOCKER_HOST", "unix:///another")
    docker.on("save", 'echo "Error: asked $DOCKER_HOST" >&2; exit 1')
    with pytest.raises(EngineFailed, match="asked unix:///one"):
        exported(source, IMAGE.diff_ids)


REFUSALS = [
    (
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        EngineNotRunning,
        "sudo systemctl start docker",
    ),
    (
        "failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is correct",
        EngineNotRunning,
        "sudo systemctl start docker",
    ),
    (
        (
            "permission denied while trying to connect to the Docker daemon socket at unix:///x: Get "
            "http://%2Fx/v1.41/y: dial unix /x: connect: permission denied"
        ),
        EngineNotPermitted,
        "sudo usermod -aG docker $USER",
    ),
    (
        "permission denied while trying to connect to the docker API at unix:///var/run/docker.sock",
        EngineNotPermitted,
        "sudo usermod -aG docker $USER",
    ),
    ("Error response from daemon: invalid reference format", ReferenceMalformed, "registry.example.com"),
    ("Error response from daemon: something new", EngineFailed, ""),
]


@pytest.mark.parametrize(("said", "kind", "hint"), REFUSALS)
def test_what_docker_says_becomes_a_sentence_and_a_hint(
    docker: FakeEngine, said: str, kind: type[PusherError], hint: str
) -> None:
    docker.fails("inspect", said)
    with pytest.raises(kind) as caught:
        find(NAME)[0].resolve()
    assert type(caught.value) is kind
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("said", "kind", "hint"), [row for row in REFUSALS if row[1] is not ReferenceMalformed]
)
def test_the_same_while_saving(
    docker: FakeEngine, tmp_path: Path, said: str, kind: type[PusherError], hint: str
) -> None:
    docker.has(IMAGE, write_archive(tmp_path / "a.tar", IMAGE))
    source = pinned()
    docker.fails("save", said)
    with pytest.raises(kind) as caught:
        exported(source, IMAGE.diff_ids)
    assert type(caught.value) is kind
    assert hint in caught.value.hint


def test_the_host_that_was_asked_is_shown(docker: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.5:2375")
    docker.fails("inspect", "Cannot connect to the Docker daemon at tcp://10.0.0.5:2375.")
    with pytest.raises(EngineNotRunning) as caught:
        find(NAME)[0].resolve()
    assert "DOCKER_HOST is tcp://10.0.0.5:2375" in caught.value.hint


def test_an_engine_that_never_answers(docker: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pusher.sources.engine.command._ANSWER_SECONDS", 0.05)
    docker.on("inspect", "exec /bin/sleep 30")
    with pytest.raises(EngineNotRunning, match="did not respond"):
        find(NAME)[0].resolve()


def test_another_daemon_is_not_asked_where_none_was_named(
    docker: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.has(IMAGE, write_archive(tmp_path / "a.tar", IMAGE))
    source = pinned()
    monkeypatch.setenv("DOCKER_HOST", "unix:///another")
    docker.on("save", 'echo "Error: asked ${DOCKER_HOST-the default}" >&2; exit 1')
    with pytest.raises(EngineFailed, match="asked the default") as caught:
        exported(source, IMAGE.diff_ids)
    assert caught.value.hint == f"try it by hand: docker save {IMAGE.config_digest} > /dev/null"


@pytest.mark.parametrize("prefix", ["docker-daemon", "podman"])
def test_an_engine_that_is_not_installed(path_folder: Path, prefix: str) -> None:
    with pytest.raises(EngineMissing) as caught:
        find(f"{prefix}:{NAME}")[0].resolve()
    assert prefix.removesuffix("-daemon") in caught.value.message
    assert "docker-archive:" in caught.value.hint


def test_an_engine_uninstalled_since(docker: FakeEngine, tmp_path: Path) -> None:
    docker.has(IMAGE, write_archive(tmp_path / "a.tar", IMAGE))
    source = pinned()
    (docker.folder / "docker").unlink()
    with pytest.raises(EngineMissing):
        exported(source, IMAGE.diff_ids)


def test_podman_that_does_not_answer(podman: FakeEngine) -> None:
    podman.fails("inspect", "Cannot connect to Podman. Please verify your connection", 125)
    with pytest.raises(EngineNotRunning) as caught:
        find(f"podman:{NAME}")[0].resolve()
    assert "podman info" in caught.value.hint


def test_an_engine_that_cannot_be_executed(docker: FakeEngine) -> None:
    (docker.folder / "docker").write_bytes(b"\x7fELF no program")
    with pytest.raises(EngineFailed, match="Exec format"):
        find(NAME)[0].resolve()


@pytest.mark.parametrize("said", ["Error: No such image: x", "Error: x: image not known"])
def test_an_unknown_name_gives_the_nearest(docker: FakeEngine, said: str) -> None:
    docker.fails("inspect", said)
    docker.on("ls", f"echo other:1; echo '<none>:<none>'; echo {NAME}")
    with pytest.raises(ImageNotFound) as caught:
        find("registry.example.com/taem/app:1.2")[0].resolve()
    assert "registry.example.com/taem/app:1.2" in caught.value.message
    assert caught.value.hint == f"did you mean {NAME}?"


def test_an_unknown_name_that_podman_knows(docker: FakeEngine, podman: FakeEngine) -> None:
    docker.fails("inspect", "Error: No such image: x")
    podman.on("inspect", "echo sha256:1")
    with pytest.raises(ImageNotFound) as caught:
        find("app:1")[0].resolve()
    assert "podman:app:1" in caught.value.hint


def test_an_unknown_name_where_nothing_can_be_listed(docker: FakeEngine, podman: FakeEngine) -> None:
    docker.fails("inspect", "Error: No such image: x")
    docker.fails("ls", "no")
    podman.fails("inspect", "Error: x: image not known", 125)
    with pytest.raises(ImageNotFound) as caught:
        find("app:1")[0].resolve()
    assert "docker image ls" in caught.value.hint


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "nonsense",
        "[]",
        "[1]",
        "{}",
        "[{}]",
        '[{"Id": 5}]',
        '[{"Id": "sha256:1"}]',
        f'[{{"Id": "{IMAGE.config_digest}", "RootFS": 5}}]',
        f'[{{"Id": "{IMAGE.config_digest}", "RootFS": {{"Layers": [5]}}}}]',
        f'[{{"Id": "{IMAGE.config_digest}", "RootFS": {{"Layers": ["x"]}}}}]',
    ],
)
def test_an_answer_that_is_no_description(docker: FakeEngine, answer: str) -> None:
    docker.on("inspect", f"echo '{answer}'")
    with pytest.raises(EngineFailed):
        find(NAME)[0].resolve()


@pytest.mark.parametrize(
    "said", ["Error response from daemon: reference does not exist", "failed to get digest: no such file"]
)
def test_an_image_deleted_since_is_a_change(docker: FakeEngine, tmp_path: Path, said: str) -> None:
    docker.has(IMAGE, write_archive(tmp_path / "a.tar", IMAGE))
    source = pinned()
    docker.fails("save", said)
    docker.fails("inspect", "Error: No such image: x")
    with pytest.raises(ImageChanged) as caught:
        exported(source, IMAGE.diff_ids)
    assert NAME in caught.value.message
    assert "enqueue" in caught.value.hint


@pytest.mark.parametrize("cut", [0, 1000, 100_000, 200_001])
@pytest.mark.parametrize("code", [0, 1])
def test_a_stream_that_breaks_off(docker: FakeEngine, tmp_path: Path, cut: int, code: int) -> None:
    path = truncated(write_archive(tmp_path / "a.tar", IMAGE), cut)
    docker.has(IMAGE, path)
    source = pinned()
    docker.on("save", f"/bin/cat {path}; {'echo the disk broke >&2; exit 1' if code else 'exit 0'}")
    with pytest.raises(EngineFailed) as caught:
        exported(source, {*IMAGE.diff_ids, "sha256:" + "0" * 64})
    assert ("the disk broke" if code else "truncated") in caught.value.message


def test_a_failure_after_the_whole_archive_is_a_failure(docker: FakeEngine, tmp_path: Path) -> None:
    path = write_undescribed(tmp_path / "a.tar", IMAGE)
    docker.has(IMAGE, path)
    source = pinned()
    docker.on("save", f"/bin/cat {path}; echo late trouble >&2; exit 3")
    with pytest.raises(EngineFailed, match="late trouble"):
        exported(source, IMAGE.diff_ids)


def test_a_stream_that_is_no_tar(docker: FakeEngine, tmp_path: Path) -> None:
    docker.has(IMAGE, write_archive(tmp_path / "a.tar", IMAGE))
    source = pinned()
    docker.on("save", "/bin/cat /proc/self/status /proc/self/status")
    with pytest.raises(EngineFailed):
        exported(source, IMAGE.diff_ids)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_leaving_early_ends_the_engine_and_its_children(docker: FakeEngine, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.tar", IMAGE)
    docker.has(IMAGE, path)
    source = pinned()
    docker.on("save", f"echo $$ > {tmp_path}/pid; /bin/cat {path}; /bin/sleep 60; exit 0")
    with source.export(set(IMAGE.diff_ids)) as pieces:
        next(pieces)
    assert not _alive(int((tmp_path / "pid").read_text()))


def test_an_engine_that_ignores_a_polite_end_is_killed(
    docker: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pusher.sources.engine.command._STOP_SECONDS", 0.05)
    path = write_archive(tmp_path / "a.tar", IMAGE)
    docker.has(IMAGE, path)
    source = pinned()
    docker.on(
        "save", f"trap '' TERM; echo $$ > {tmp_path}/pid; /bin/cat {path}; /bin/sleep 60; /bin/sleep 60"
    )
    with source.export(set(IMAGE.diff_ids)) as pieces:
        next(pieces)
    assert not _alive(int((tmp_path / "pid").read_text()))


class _StopError(Exception):
    pass


def test_a_silent_engine_can_be_stopped(docker: FakeEngine, tmp_path: Path) -> None:
    docker.has(IMAGE, write_archive(tmp_path / "a.tar", IMAGE))
    source = pinned()
    docker.on("save", "exec /bin/sleep 60")

    def stop() -> None:
        raise _StopError

    started = time.monotonic()
    with pytest.raises(_StopError), source.export(set(IMAGE.diff_ids), check_stop=stop) as pieces:
        next(pieces)
    assert time.monotonic() - started < 45


def test_a_slow_engine_is_waited_for(docker: FakeEngine, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.tar", IMAGE)
    docker.has(IMAGE, path)
    source = pinned()
    asked = tmp_path / "asked"
    docker.on("save", f"while [ ! -e {asked} ]; do /bin/sleep 0.1; done; /bin/cat {path}")
    with source.export(set(IMAGE.diff_ids), check_stop=asked.touch) as pieces:
        assert len([piece.stream.read() for piece in pieces]) == 3


def test_the_engine_is_left_as_soon_as_everything_has_passed(docker: FakeEngine, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.tar", IMAGE, shape="podman")
    docker.has(IMAGE, path)
    source = pinned()
    docker.on("save", f"/bin/cat {path}; exec /bin/sleep 60")
    started = time.monotonic()
    assert len(exported(source, IMAGE.diff_ids)) == 3
    assert time.monotonic() - started < 45


def test_other_entries_of_the_stream_are_ignored(docker: FakeEngine, tmp_path: Path) -> None:
    content = [
        Entry("hardware/layer.txt", b"x"),
        Entry("a/b/layer.tar", b"not here"),
        Entry("linked/layer.tar", target="../x/layer.tar"),
        Entry(f"{'0' * 64}.json", b"{}"),
        *entries("podman", IMAGE),
    ]
    docker.has(IMAGE, write_tar(tmp_path / "a.tar", content))
    assert [name for _, name, _ in exported(pinned(), IMAGE.diff_ids)] == list(IMAGE.diff_ids)


def test_an_image_given_by_its_id_has_no_name(docker: FakeEngine) -> None:
    assert find("sha256:" + "a" * 64)[1] is None
    assert find("docker-daemon:" + "a" * 12)[1] is None
    assert find("abcdef")[1] == "abcdef"
