"""A layer that several jobs need is compressed once, by whoever comes first."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pusher.errors import ExitCode
from pusher.spool.claims import Claims
from pusher.spool.spool import Spool
from pusher.worker.enqueue import enqueue
from tests.support.fakeregistry import FakeRegistry
from tests.support.home import Background, Home, pushed
from tests.support.images import Image, make_image, write_archive
from tests.support.waiting import PATIENCE

BASE = 80_000


@pytest.fixture
def compressed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Diff IDs of the layers that were compressed."""
    made: list[str] = []
    write = Spool.write_layer

    def noting(spool: Spool, *arguments: object, **options: object) -> object:
        blob = write(spool, *arguments, **options)  # type: ignore[arg-type]
        made.append(str(blob.diff_id))
        return blob

    monkeypatch.setattr(Spool, "write_layer", noting)
    return made


def _images(folder: Path, count: int) -> list[tuple[Image, Path]]:
    """Images with one base and a layer of their own each."""
    base = make_image(BASE, compressible=0.0).layers[0]
    images = []
    for number in range(count):
        own = make_image(200 + number, seed=number + 7, compressible=0.0)
        image = replace(own, layers=(base, *own.layers))
        images.append((image, write_archive(folder / f"{number}.tar", image)))
    return images


@pytest.mark.parametrize("parallel", [1, 4])
def test_one_run_compresses_a_shared_base_once(
    home: Home, registry: FakeRegistry, tmp_path: Path, compressed: list[str], parallel: int
) -> None:
    images = _images(tmp_path, 6)
    for number, (_, archive) in enumerate(images):
        home.enqueue(archive, f"{registry.address}/r{number}/app:1")
    assert home.run(parallel=parallel).exit_code == ExitCode.DONE
    for number, (image, _) in enumerate(images):
        pushed(registry, f"r{number}/app", "1", image)
    assert len(compressed) == len(set(compressed)) == 7


def test_two_workers_compress_it_once(
    home: Home, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: list[str]
) -> None:
    """The second waits for the first, and takes its own layer meanwhile."""
    (one, first), (two, second) = _images(tmp_path, 2)
    base = one.layers[0].diff_id
    begun, go_on = threading.Event(), threading.Event()
    write = Spool.write_layer

    def slow(spool: Spool, *arguments: object, **options: object) -> object:
        if options.get("expected_diff_id") == base:
            begun.set()
            assert go_on.wait(PATIENCE)
        return write(spool, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Spool, "write_layer", slow)
    jobs = [
        home.enqueue(archive, f"{registry.address}/{name}/app:1")
        for name, archive in (("a", first), ("b", second))
    ]
    waited = threading.Event()
    home.progress.hooks["waiting"] = lambda _what, _seconds, why: (
        waited.set() if "compressing" in why else None
    )
    worker_one = Background(home, only=[jobs[0].id])
    assert begun.wait(PATIENCE)
    worker_two = Background(home, only=[jobs[1].id])
    assert waited.wait(PATIENCE)
    own = two.layers[1].diff_id
    assert own in compressed
    go_on.set()
    assert worker_one.join().exit_code == worker_two.join().exit_code == ExitCode.DONE
    assert len(compressed) == len(set(compressed)) == 3
    pushed(registry, "b/app", "1", two)


def test_one_image_for_several_places_is_prepared_once(
    home: Home, registry: FakeRegistry, tmp_path: Path, compressed: list[str]
) -> None:
    """What comes to the same destination is one job."""
    ((image, archive),) = _images(tmp_path, 1)
    places = [
        f"{registry.address}/{name}" for name in ("a/app:1", "b/app:1", "a/app:1", "c/app", "c/app:latest")
    ]
    jobs = enqueue(home.store, str(archive), settings=home.settings, to=places)
    assert [job.destination for job in jobs] == [places[0], places[1], places[4]]
    assert home.run([job.id for job in jobs]).exit_code == ExitCode.DONE
    for repository, tag in (("a/app", "1"), ("b/app", "1"), ("c/app", "latest")):
        pushed(registry, repository, tag, image)
    assert len(compressed) == 2


def test_a_claim_is_one_s_until_it_is_given_back(tmp_path: Path) -> None:
    with Claims(tmp_path) as one, Claims(tmp_path) as two:
        assert one.take(["a", "b"]) == {"a", "b"}
        assert two.take(["a", "c"]) == {"c"}
        one.release("a")
        one.release("never")
        assert two.take(["a", "b"]) == {"a"}
    with Claims(tmp_path) as three:
        assert three.take(["a", "b", "c"]) == {"a", "b", "c"}
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_claim_of_one_who_stands_still_keeps_nobody_waiting(tmp_path: Path) -> None:
    now = [100.0]
    with Claims(tmp_path, lambda: now[0]) as one, Claims(tmp_path, lambda: now[0]) as two:
        one.take(["a"])
        for _ in range(8):
            assert two.take(["a"]) == set()
            now[0] += 3
            one.touch()
        assert two.take(["a"]) == set()
        now[0] += 9
        assert two.take(["a"]) == set()
        now[0] += 1
        assert two.take(["a"]) == {"a"}, "twice is better than never"
        one.touch()
        assert two.take(["a"]) == set()


def test_without_locks_everybody_works(tmp_path: Path) -> None:
    (tmp_path / "claims").write_text("")
    with Claims(tmp_path) as one, Claims(tmp_path) as two:
        assert one.take(["a"]) == two.take(["a"]) == {"a"}
