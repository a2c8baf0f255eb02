"""A layer sent to Debian's docker-registry while it is compressed, by a process that is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pusher.config.timetable import Timetable
from pusher.errors import ExitCode
from pusher.sources.pins import EnginePin, pin_from_json
from tests.crash.conftest import Pusher
from tests.support.docker_registry import DockerRegistry
from tests.support.engines import Docker
from tests.support.home import Home
from tests.support.images import make_image, random_bytes, write_archive
from tests.support.real import ReadBack
from tests.support.slow_source import SlowSource

_CHUNK = 20_000
_HELD = 30
"""The block of the source that does not arrive before the first process is dead."""


def test_killed_twice_and_continued(
    tmp_path: Path, docker_registry: DockerRegistry, read_back: ReadBack
) -> None:
    """What was acknowledged is not sent again: nothing is in doubt after a chunk is recorded."""
    image = make_image(300_000, 250_000, compressible=0.2)
    archive = write_archive(tmp_path / "app.tar", image)
    reference = f"{docker_registry.address}/early/app:1"
    with Home(tmp_path / "home", chunk_size=_CHUNK) as home:
        pusher = Pusher(home)
        try:
            job = home.enqueue(archive, reference)
            for chunks in (2, 3):
                point = ("record a chunk", "after", chunks)
                killed = pusher.work(point=point, chunk=_CHUNK, held_block=_HELD)
                assert killed.returncode == -9, killed.stderr
            done = pusher.work(point=("claim", "before", 1000), chunk=_CHUNK, held_block=0)
            assert done.returncode == 0, done.stderr
        finally:
            pusher.close()
        assert "session-lost" not in home.kinds(job.id)
        total, acknowledged, sent = home.figures(job.id)
        assert acknowledged == total
        assert sent <= total + 2_000, "with the manifest"
        home.assert_clean()
    read = read_back(reference)
    assert read.config == image.config
    assert tuple(layer.diff_id for layer in read.layers) == image.diff_ids


def test_a_damaged_layer_leaves_no_session(
    tmp_path: Path, docker_registry: DockerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found damaged while a chunk of it is under way."""
    image = make_image(300_000, compressible=0.0)
    archive = write_archive(tmp_path / "app.tar", image)
    data = archive.read_bytes()
    at = data.index(image.layers[0].tar) + 90_000
    archive.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    source = SlowSource(monkeypatch)
    source.write_at_once()
    with Home(tmp_path / "home", chunk_size=100_000, limit_rate=Timetable(100_000)) as home:
        source.hold_at(20, lambda: home.progress.wait_for("blob_sending", 2))
        job = home.enqueue(archive, f"{docker_registry.address}/early/damaged:1")
        assert home.run().exit_code == ExitCode.SOURCE
        assert "session-discarded" in home.kinds(job.id)
        assert home.store.dead_sessions.all() != [], "the next run looks whether it is gone"
        home.run()
        assert home.store.dead_sessions.all() == []
    uploads = docker_registry.data / "docker/registry/v2/repositories/early/damaged/_uploads"
    assert list(uploads.glob("*/data")) == [], "2.8 leaves an empty state of its hash"


def test_what_docker_saves_is_continued(
    tmp_path: Path, dockerd: Docker, docker_registry: DockerRegistry, read_back: ReadBack
) -> None:
    """Of an image that was committed upon one that was built, where Docker's disk cannot be read."""
    built, committed = "localhost/early:built", "localhost/early:committed"
    dockerd.build_random(built, [300_000, 1_000], seed=25)
    new = tmp_path / "new"
    new.write_bytes(random_bytes(250_000, compressible=0.0))
    container = dockerd.run("create", built, "/none").strip()
    dockerd.run("cp", str(new), f"{container}:/new")
    dockerd.run("commit", "--message", "<new> & \u00fc", container, committed)
    dockerd.run("rm", container)
    reference = f"{docker_registry.address}/early/saved:1"
    with Home(tmp_path / "home", chunk_size=_CHUNK, docker_root=tmp_path / "nowhere") as home:
        pusher = Pusher(home)
        try:
            job = home.enqueue(committed, reference)
            killed = pusher.work(point=("record a chunk", "after", 3), chunk=_CHUNK, held_block=_HELD)
            assert killed.returncode == -9, killed.stderr
            done = pusher.work(point=("claim", "before", 1000), chunk=_CHUNK, held_block=0)
            assert done.returncode == 0, done.stderr
        finally:
            pusher.close()
        assert isinstance(pin_from_json(job.source), EnginePin)
        assert "session-lost" not in home.kinds(job.id)
        total, acknowledged, sent = home.figures(job.id)
        assert acknowledged == total
        assert sent <= total + 2_000, "with the manifest"
        home.assert_clean()
    assert [layer.diff_id for layer in read_back(reference).layers] == dockerd.diff_ids(committed)
