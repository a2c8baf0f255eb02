"""``kill -9`` of one of three workers: the others push all of it, each job once, and leave nothing behind."""

from __future__ import annotations

import subprocess

import pytest

from pusher.store.records import BlobState
from tests.crash.conftest import Point, Pusher, ended
from tests.support.fakeregistry import FakeRegistry, On
from tests.support.home import CHUNK, Home, blob_bytes, pushed
from tests.support.images import make_image, write_archive

_POINTS: list[Point] = [
    ("write a blob", "before", 1),
    ("open a session", "after", 1),
    ("record a chunk", "before", 1),
]


@pytest.mark.parametrize("point", _POINTS, ids=lambda point: f"{point[1]} {point[0]}")
def test_a_worker_is_killed_beside_two_others(
    point: Point, home: Home, pusher: Pusher, registry: FakeRegistry
) -> None:
    images = [make_image(3 * CHUNK, 2 * CHUNK + number, seed=number // 2) for number in range(4)]
    jobs = [
        home.enqueue(
            write_archive(home.settings.home / f"{number}.tar", image), f"{registry.address}/app:{number}"
        )
        for number, image in enumerate(images)
    ]
    options = ("run", "--chunk-size", str(CHUNK), "--parallel", "2", "--wait")
    killed = pusher.start(*options, point=point)
    others = [pusher.start(*options) for _ in range(2)]
    assert ended(killed).returncode in (-9, 0), "it may find nothing left to do at its step"
    for other in map(ended, others):
        assert other.returncode == 0, other.stderr
        assert "Traceback" not in other.stderr
        assert "bug" not in other.stderr
    for number, (job, image) in enumerate(zip(jobs, images, strict=True)):
        assert home.kinds(job.id).count("succeeded") == 1, home.events(job.id)
        pushed(registry, "app", str(number), image)
    assert home.run().exit_code == 0, "it sweeps the spool"
    home.assert_clean()
    assert home.store.abandoned.all() == []
    assert len(registry.sessions) <= 2, "those that were opened and not yet recorded"


def test_what_a_killed_worker_has_sent_is_not_sent_again_for_another_repository(
    home: Home, pusher: Pusher, registry: FakeRegistry
) -> None:
    image = make_image(8 * CHUNK, compressible=0.0)
    archive = write_archive(home.settings.home / "app.tar", image)

    def push(name: str, point: Point | None = None) -> subprocess.Popen[str]:
        to = f"{registry.address}/{name}/app:1"
        return pusher.start(
            "push", str(archive), "--to", to, "--chunk-size", str(CHUNK), "--no-early", point=point
        )

    killed = push("one", ("record a chunk", "before", 6))
    registry.wait_for(lambda r: len(r.requests(On.CHUNK)) > 0)
    other = ended(push("two"))
    assert (ended(killed).returncode, other.returncode) == (-9, 0), other.stderr
    assert home.store.blobs.of_job(2)[1].state is BlobState.MOUNTED
    last = pusher.work()
    assert last.returncode == 0, last.stderr
    for name in ("one", "two"):
        pushed(registry, f"{name}/app", "1", image)
    configs = 2 * len(image.config)
    assert registry.body_bytes_received() <= blob_bytes(registry, "one/app") + configs + CHUNK
    assert registry.sessions == {}
    home.assert_clean()
