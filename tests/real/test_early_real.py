"""A layer sent to Debian's docker-registry while it is compressed, by a process that is killed."""

from __future__ import annotations

from pathlib import Path

from tests.crash.conftest import Pusher
from tests.support.docker_registry import DockerRegistry
from tests.support.home import Home
from tests.support.images import make_image, write_archive
from tests.support.real import ReadBack

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
