"""pusher is replaced by another version while a worker runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pusher as package
from tests.crash.conftest import ended
from tests.support.fakeregistry import FakeRegistry
from tests.support.home import CHUNK, Home, pushed
from tests.support.images import Image
from tests.support.waiting import wait_until


def test_a_running_worker_needs_no_file_of_its_version(
    home: Home, registry: FakeRegistry, image: Image, archive: Path, tmp_path: Path
) -> None:
    installed = tmp_path / "site" / "pusher"
    installed.parent.mkdir()
    installed.symlink_to(Path(package.__file__).parent)
    worker = subprocess.Popen(
        [sys.executable, "-m", "pusher", "run", "--forever", "--chunk-size", str(CHUNK)],
        env={
            **os.environ,
            "PUSHER_HOME": str(home.settings.home),
            "PUSHER_DATABASE_URL": home.settings.database_url,
            "PYTHONPATH": str(installed.parent),
        },
        cwd=installed.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: [*home.settings.workers.glob("*.lock")])
        installed.unlink()
        job = home.enqueue(archive, f"{registry.address}/app:1")
        wait_until(lambda: home.state(job.id) in ("succeeded", "failed"))
    finally:
        worker.terminate()
        done = ended(worker)
    assert home.state(job.id) == "succeeded", done.stderr
    pushed(registry, "app", "1", image)
