"""``kill -9`` while Docker's containerd store is read, by `docker save` or its API, and while it is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.conftest import Point, Pusher, ended
from tests.support.content_api import ContentApi, stored_blobs
from tests.support.fake_engine import FakeEngine
from tests.support.fakeregistry import FakeRegistry
from tests.support.home import CHUNK, Home, blob_bytes, pushed
from tests.support.images import Image, write_archive

_KEEPING: list[Point] = [
    ("write a blob", "after", 1),
    ("keep a blob", "before", 2),
    ("keep a blob", "after", 2),
]
_SENDING: list[Point] = [
    ("record a session", "before", 1),
    ("read a chunk", "after", 2),
    ("record a chunk", "before", 2),
    ("close an upload", "after", 1),
    ("put the manifest", "before", 1),
]


@pytest.mark.parametrize("point", [*_KEEPING, *_SENDING], ids=lambda point: f"{point[1]} {point[0]}")
def test_what_passed_before_the_kill_is_not_lost(
    home: Home,
    pusher: Pusher,
    registry: FakeRegistry,
    image: Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    point: Point,
) -> None:
    docker = FakeEngine(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(docker.folder))
    docker.has(image, write_archive(tmp_path / "a.tar", image, shape="containerd"), containerd=True)
    options = ["--chunk-size", str(CHUNK), "--parallel", "1"]
    command = ["push", "docker-daemon:app:1", "--to", f"{registry.address}/app:1", *options]

    assert ended(pusher.start(*command, point=point)).returncode == -9
    kept = {path.name: path.stat().st_ino for path in (home.settings.spool / "sha256").iterdir()}
    is_enqueued = point in _SENDING
    again = pusher.work() if is_enqueued else ended(pusher.start(*command))
    assert again.returncode == 0, again.stderr

    pushed(registry, "app", "1", image)
    assert registry.manifests["app"]["1"][1] == image.manifest
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + CHUNK
    assert len([call for call in docker.calls() if call.startswith("save")]) == (1 if is_enqueued else 2)
    after = {path.name: path.stat().st_ino for path in (home.settings.spool / "sha256").iterdir()}
    assert kept.items() <= after.items(), "no kept blob is written again"
    home.assert_clean()


@pytest.mark.parametrize(
    "point",
    [
        *_SENDING,
        ("read a chunk", "before", 3),
        ("record a chunk", "after", 1),
        ("record a closing", "after", 1),
    ],
    ids=lambda point: f"{point[1]} {point[0]}",
)
def test_what_is_read_from_docker_while_it_is_sent_goes_on_where_it_ended(
    home: Home,
    pusher: Pusher,
    registry: FakeRegistry,
    image: Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    point: Point,
) -> None:
    docker = FakeEngine(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(docker.folder))
    docker.has(image, tmp_path / "none", containerd=True)
    options = ["--chunk-size", str(CHUNK), "--parallel", "1"]
    command = ["push", "docker-daemon:app:1", "--to", f"{registry.address}/app:1", *options]
    with ContentApi(stored_blobs(image)) as api:
        api.serve(docker)
        assert ended(pusher.start(*command, point=point)).returncode == -9
        again = pusher.work()
        assert again.returncode == 0, again.stderr
        api.wait_for_no_connection()
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + CHUNK
    assert not [call for call in docker.calls() if call.startswith("save")]
    home.assert_clean()
