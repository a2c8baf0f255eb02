"""``kill -9`` at every step: the next run ends with the registry right, and at most one chunk sent twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.conftest import Point, Pusher
from tests.crash.launcher import OF_UNFINISHED_BLOBS, POINTS
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry
from tests.support.home import CHUNK, Home, blob_bytes, pushed
from tests.support.images import Image

_AROUND: list[Point] = [
    (point, when, 1)
    for point in (
        "keep a blob",
        "record a session",
        "record an intent",
        "send a chunk",
        "record a chunk",
        "record a closing",
        "close an upload",
        "put the manifest",
        "record the success",
    )
    for when in ("before", "after")
]
_OTHERS: list[Point] = [
    (point, "after", 1)
    for point in POINTS
    if point not in OF_UNFINISHED_BLOBS and point not in {point for point, *_ in _AROUND}
]
_LATER: list[Point] = [
    ("write a blob", "before", 2),
    ("keep a blob", "after", 3),
    ("read a chunk", "after", 3),
    ("record a chunk", "before", 4),
    ("close an upload", "after", 3),
    ("record a layer as done", "before", 4),
]


def _id(point: Point) -> str:
    what, when, nth = point
    return f"{when} {what}, {nth}"


@pytest.mark.parametrize("point", [*_AROUND, *_OTHERS, *_LATER], ids=_id)
def test_killed_at(
    point: Point, home: Home, pusher: Pusher, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1")
    killed = pusher.work(point=point)
    assert killed.returncode == -9, killed.stderr

    assert home.run(parallel=1).exit_code == 0, home.events(job.id)

    _all_is_well(home, registry, image, job.id)
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + CHUNK
    assert len(registry.sessions) <= 1, "only one that was opened and not yet recorded"


@pytest.mark.parametrize(
    "point",
    [("read a chunk", "after", 2), ("send a chunk", "after", 2), ("close an upload", "after", 2)],
    ids=_id,
)
def test_killed_with_a_registry_that_keeps_parts_of_chunks(
    point: Point, home: Home, pusher: Pusher, image: Image, archive: Path
) -> None:
    with FakeRegistry(DISTRIBUTION_3) as registry:
        job = home.enqueue(archive, f"{registry.address}/app:1")
        assert pusher.work(point=point).returncode == -9
        assert home.run(parallel=1).exit_code == 0
        _all_is_well(home, registry, image, job.id)
        assert registry.body_bytes_received() <= blob_bytes(registry, "app") + CHUNK


def test_killed_while_four_blobs_are_sent(
    home: Home, pusher: Pusher, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """One chunk of each of them is in doubt, no more."""
    job = home.enqueue(archive, f"{registry.address}/app:1")
    assert pusher.work(point=("record a chunk", "before", 2), parallel=4).returncode == -9
    again = pusher.work(parallel=4)
    assert again.returncode == 0, again.stderr
    _all_is_well(home, registry, image, job.id)
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + 4 * CHUNK


def test_killed_again_and_again_at_the_same_step(
    home: Home, pusher: Pusher, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """Every run gets one chunk further: what was acknowledged stays acknowledged."""
    job = home.enqueue(archive, f"{registry.address}/app:1")
    kills = 0
    while (run := pusher.work(point=("send a chunk", "after", 1))).returncode == -9:
        kills += 1
        assert kills < 10
    assert kills == 4, "as many as the big layer has chunks"
    assert run.returncode == 0, run.stderr
    _all_is_well(home, registry, image, job.id)
    assert registry.body_bytes_received() == blob_bytes(registry, "app"), "what was in doubt had arrived"


def _all_is_well(home: Home, registry: FakeRegistry, image: Image, job_id: int) -> None:
    pushed(registry, "app", "1", image)
    total, done, sent = home.figures(job_id)
    assert done == total == blob_bytes(registry, "app")
    assert total <= sent <= registry.body_bytes_received() + 2 * len(registry.manifests["app"]["1"][1])
    assert home.state(job_id) == "succeeded"
    home.assert_clean()
