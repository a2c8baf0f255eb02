"""Several worker processes on one store, and kills at times of nobody's choosing."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.crash.conftest import Pusher, ended
from tests.support.fakeregistry import FakeRegistry, Fault, On, Stall, Trickle
from tests.support.home import CHUNK, Home, blob_bytes, pushed
from tests.support.images import Image, make_image, write_archive
from tests.support.link import ShakyLink


def test_two_processes_send_each_blob_once(
    home: Home, pusher: Pusher, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """The same image to two repositories: one process sends a blob, the other waits and mounts it."""
    registry.faults.add(Fault(On.CHUNK, Trickle(block=CHUNK // 4, seconds=0.02), times=None))
    jobs = [home.enqueue(archive, f"{registry.address}/r{n}/app:1") for n in range(2)]
    runs = [pusher.start("run", "--chunk-size", str(CHUNK), "--parallel", "1") for _ in range(2)]
    for run in runs:
        done = ended(run)
        assert done.returncode == 0, done.stderr
    for n in range(2):
        pushed(registry, f"r{n}/app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "r0/app")
    assert [home.state(job.id) for job in jobs] == ["succeeded", "succeeded"]
    home.assert_clean()


def test_a_dead_worker_is_seen_at_once_by_a_living_one(
    home: Home, pusher: Pusher, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """Its file lock is free; nobody waits for the end of its lease of 30 seconds."""
    stall = Stall(after_bytes=CHUNK // 2)
    registry.faults.add(Fault(On.CHUNK, stall, nth=2))
    job = home.enqueue(archive, f"{registry.address}/app:1")
    first = pusher.start("run", "--chunk-size", str(CHUNK), "--parallel", "1")
    registry.wait_for_fault(On.CHUNK)
    heir = pusher.start("run", "--forever", "--chunk-size", str(CHUNK), "--parallel", "1")
    first.kill()
    assert ended(first).returncode == -9
    stall.release()
    registry.wait_for(lambda r: bool(r.manifests))
    heir.terminate()
    assert ended(heir).returncode == 143
    pushed(registry, "app", "1", image)
    assert any("taken over" in message for _, message in home.events(job.id))
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + CHUNK
    home.assert_clean()


def test_killed_at_random(home: Home, pusher: Pusher, registry: FakeRegistry, tmp_path: Path) -> None:
    """A link that resets, and a worker killed whenever; every kill and reset costs one chunk at most."""
    draw = random.Random(20260102)
    image = make_image(300_000, 90_000, 2_000, compressible=0.1)
    archive = write_archive(tmp_path / "app.tar", image)
    with ShakyLink(registry.address, reset_every_total=150_000, rate=100_000) as link:
        job = home.enqueue(archive, f"{link.address}/app:1")
        kills, deadline = 0, time.monotonic() + 12
        while kills < 2 or time.monotonic() < deadline:
            process = pusher.start("run", "--chunk-size", str(CHUNK), "--parallel", "1")
            begun = len(registry.requests())
            # Killed after its last request, the one before has left this one nothing to ask for.
            while len(registry.requests()) == begun and process.poll() is None:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.4))  # the moment is what is drawn
            process.kill()
            if ended(process).returncode != -9:
                break  # it was quicker
            kills += 1
        assert kills >= 2
        link.rate = None
        last = pusher.work()
        assert last.returncode == 0, last.stderr
        resets = link.resets
    pushed(registry, "app", "1", image)
    total, done, _ = home.figures(job.id)
    assert done == total
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + (kills + resets) * CHUNK
    assert "session-lost" not in home.kinds(job.id)
    home.assert_clean()
