"""``kill -9`` of one of three workers: the others push all of it, each job once, and leave nothing behind."""

from __future__ import annotations

import pytest

from tests.crash.conftest import Point, Pusher, ended
from tests.support.fakeregistry import FakeRegistry
from tests.support.home import CHUNK, Home, pushed
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
