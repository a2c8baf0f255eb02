"""What never answers: a registry that accepts and is silent. A stop takes seconds, and nothing is lost."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.crash.conftest import Pusher, ended
from tests.support.fakeregistry import FakeRegistry, Fault, On, Stall
from tests.support.home import Home, blob_bytes, pushed
from tests.support.images import Image


@pytest.mark.parametrize("where", [On.PING, On.CLOSE])
def test_a_stop_does_not_wait_for_an_answer_that_does_not_come(
    where: On, home: Home, pusher: Pusher, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    stall = Stall(after_bytes=0)
    registry.faults.add(Fault(where, stall, times=None))
    job = home.enqueue(archive, f"{registry.address}/app:1")
    process = pusher.start("run")
    registry.wait_for_fault(where)
    process.send_signal(signal.SIGTERM)
    done = ended(process)  # it stays silent
    assert done.returncode == 143, done.stderr
    assert "Traceback" not in done.stderr
    assert f"Job {job.id} queued" in done.stderr
    assert (home.state(job.id), home.job(job.id).attempts) == ("queued", 0)
    home.assert_clean()

    registry.faults.clear()
    stall.release()
    assert home.run().exit_code == 0
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() <= 2 * blob_bytes(registry, "app")
