"""A worker that stands still for longer than its lease: a laptop that sleeps, SIGSTOP, a busy machine."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.conftest import Pusher, ended
from tests.support.fakeregistry import FakeRegistry, Fault, On, Stall
from tests.support.home import CHUNK, Home, blob_bytes, pushed
from tests.support.images import Image
from tests.support.waiting import wait_until

LEASE = 2.0


@pytest.fixture(autouse=True)
def _short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHER_LEASE", f"{LEASE:.0f}")


@pytest.fixture
def stall(registry: FakeRegistry, request: pytest.FixtureRequest) -> Iterator[Stall]:
    """The second chunk stands still half-way, or another request in the middle of its body."""
    on: On = getattr(request, "param", On.CHUNK)
    stall = Stall(after_bytes=CHUNK // 2 if on is On.CHUNK else 10)
    registry.faults.add(Fault(on, stall, nth=2 if on is On.CHUNK else 1))
    yield stall
    stall.release()


def _frozen(pusher: Pusher, home: Home, registry: FakeRegistry, job_id: int) -> subprocess.Popen[str]:
    """A worker that was stopped in the middle of a request, once its lease has ended."""
    process = pusher.start("run", "--chunk-size", str(CHUNK), "--parallel", "1")
    registry.wait_for_fault()
    process.send_signal(signal.SIGSTOP)
    ends = home.job(job_id).lease_expires_at
    assert ends is not None
    wait_until(lambda: home.store.now() > ends)
    return process


def test_it_goes_on_where_nobody_took_over(
    home: Home, pusher: Pusher, registry: FakeRegistry, image: Image, archive: Path, stall: Stall
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1")
    process = _frozen(pusher, home, registry, job.id)
    process.send_signal(signal.SIGCONT)
    stall.release()
    done = ended(process)

    assert done.returncode == 0, done.stderr
    assert home.kinds(job.id) == ["queued", "running", "succeeded"], "it is not taken over from itself"
    assert "taken" not in done.stderr
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() == blob_bytes(registry, "app")
    home.assert_clean()


@pytest.mark.parametrize(
    ("home", "stall"),
    [("sqlite", On.CHUNK), ("postgresql", On.PUT_MANIFEST)],
    indirect=True,
)
def test_it_gives_up_what_another_took_over_and_says_so(
    home: Home, pusher: Pusher, registry: FakeRegistry, image: Image, archive: Path, stall: Stall
) -> None:
    job = home.enqueue(archive, f"{registry.address}/app:1")
    frozen = _frozen(pusher, home, registry, job.id)
    heir = pusher.work()
    assert heir.returncode == 0, heir.stderr
    assert [kind for kind, _ in home.events(job.id)].count("running") == 2
    frozen.send_signal(signal.SIGCONT)
    stall.release()
    sleeper = ended(frozen)

    assert sleeper.returncode == 0, sleeper.stderr
    assert "another worker took it over and has pushed it" in sleeper.stderr
    assert "Jobs: 1 pushed by another worker." in sleeper.stderr
    assert "Traceback" not in sleeper.stderr
    assert home.kinds(job.id).count("succeeded") == 1
    pushed(registry, "app", "1", image)
    home.assert_clean()
