"""A finished job is freed at once: what only the garbage collector finds stays for hundreds of jobs."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path

import pytest

from pusher.store.records import JobState
from tests.support.fakeregistry import FakeRegistry, Fault, On, busy
from tests.support.home import Home
from tests.support.images import Image, make_image, write_archive
from tests.worker.origin import name_of, put

JOBS = 3


def garbage_of_a_run(home: Home) -> Counter[str]:
    """Push the queued jobs; return how many objects of pusher's, by class, only the collector freed."""
    gc.collect()
    gc.disable()
    flags = gc.get_debug()
    try:
        home.run()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = map(type, gc.garbage)
        return Counter(kind.__qualname__ for kind in kinds if kind.__module__.startswith("pusher."))
    finally:
        gc.set_debug(flags)
        gc.garbage.clear()
        gc.enable()


def check(home: Home, images: list[str], registry: FakeRegistry) -> None:
    """The worker itself is garbage once a run, however many jobs it has had."""
    home.enqueue(images[0], f"{registry.address}/first:1")
    of_one = garbage_of_a_run(home)
    for number, image in enumerate(images[1:]):
        home.enqueue(image, f"{registry.address}/app{number}:1")
    assert garbage_of_a_run(home) - of_one == Counter()
    assert [job.state for job in home.store.jobs.list()] == [JobState.SUCCEEDED] * len(images)


@pytest.fixture
def archives(tmp_path: Path) -> list[str]:
    images = [make_image(70_000, 300, seed=number) for number in range(1 + JOBS)]
    return [str(write_archive(tmp_path / f"{number}.tar", image)) for number, image in enumerate(images)]


def test_jobs_whose_layers_are_compressed(home: Home, registry: FakeRegistry, archives: list[str]) -> None:
    check(home, archives, registry)


def test_jobs_with_nothing_to_compress(home: Home, registry: FakeRegistry, archives: list[str]) -> None:
    check(home, archives[:1] * (1 + JOBS), registry)


def test_jobs_from_a_registry(home: Home, origin: FakeRegistry, registry: FakeRegistry, image: Image) -> None:
    put(origin, image)
    check(home, [name_of(origin)] * (1 + JOBS), registry)


def test_jobs_whose_requests_fail_at_first(home: Home, registry: FakeRegistry, archives: list[str]) -> None:
    registry.faults.add(Fault(On.OPEN, busy(), times=5, path="/app"))
    check(home, archives, registry)
