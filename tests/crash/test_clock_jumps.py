"""Real workers whose machine's clock is set by days, forward and back, with libfaketime.

CLOCK_MONOTONIC and CLOCK_BOOTTIME stay true, as they do on a machine whose clock is set.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pusher.store.records import JobState
from tests.crash.conftest import Pusher
from tests.support.fakeregistry import FakeRegistry, Fault, On, Stall
from tests.support.home import CHUNK, Home, blob_bytes, pushed
from tests.support.images import Image, make_image, write_archive
from tests.support.real import require
from tests.support.waiting import wait_until

_DAYS = 5


class MachineClock:
    """The clock of the processes that are started from now on."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        self._file = folder / "clock"
        self.set(0)
        patch.setenv("LD_PRELOAD", str(library))
        patch.setenv("FAKETIME_TIMESTAMP_FILE", str(self._file))
        patch.setenv("FAKETIME_NO_CACHE", "1")
        patch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")

    def set(self, days: float) -> None:
        """Set it wrong by so many days; processes see it at once."""
        self._file.with_suffix(".new").write_text(f"{days:+}d\n")
        self._file.with_suffix(".new").replace(self._file)


@pytest.fixture
def machine_clock(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MachineClock]:
    require("faketime")
    yield MachineClock(tmp_path, monkeypatch)  # home: a server of the tests has started by now
    monkeypatch.undo()


def _wait_for(home: Home, job_id: int, state: JobState) -> None:
    wait_until(lambda: home.state(job_id) is state, lambda: (home.job(job_id), home.events(job_id)))


@pytest.mark.parametrize("home", ["sqlite", "postgresql"], indirect=True)
def test_a_clock_that_is_set_by_days_loses_no_job_and_hurries_none(
    home: Home,
    pusher: Pusher,
    registry: FakeRegistry,
    machine_clock: MachineClock,
    image: Image,
    archive: Path,
    tmp_path: Path,
) -> None:
    """One worker is in the middle of a chunk, a job waits for its registry, and one worker is idle."""
    stall = Stall(after_bytes=CHUNK // 2)
    registry.faults.add(Fault(On.CHUNK, stall, nth=2))
    small = write_archive(tmp_path / "small.tar", make_image(300, seed=5))
    sent = home.enqueue(archive, f"{registry.address}/app:1")
    worker = ("run", "--forever", "--chunk-size", str(CHUNK), "--parallel", "3")
    pusher.start(*worker, program="tests.crash.under_faketime")
    registry.wait_for_fault()
    with FakeRegistry() as later:
        later.stop()
        began = time.monotonic()
        waits = home.enqueue(small, f"{later.address}/app:1")
        pusher.start(*worker, program="tests.crash.under_faketime")
        _wait_for(home, waits.id, JobState.WAITING)
        for number, days in enumerate((_DAYS, -_DAYS, _DAYS, 0)):
            machine_clock.set(days)
            idle = home.enqueue(small, f"{registry.address}/idle{number}:1")
            _wait_for(home, idle.id, JobState.SUCCEEDED)
        assert home.state(sent.id) is JobState.RUNNING
        tries = home.kinds(waits.id).count("running")
        expected = 6 + (time.monotonic() - began) / 15  # after pauses of 1, 2, 4, 8, then 15 s at least
        later.start()
        stall.release()
        for job in (sent, waits):
            _wait_for(home, job.id, JobState.SUCCEEDED)

    assert home.kinds(sent.id) == ["queued", "running", "succeeded"], "nobody took it over"
    pushed(registry, "app", "1", image)
    bodies = [each for each in registry.requests(On.CHUNK, On.CLOSE, On.OPEN) if "/app/" in each.path]
    assert sum(each.body_received for each in bodies) == blob_bytes(registry, "app")
    assert tries <= expected, "it is not tried again and again"
