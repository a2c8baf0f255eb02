"""A job that waits for a layer which another job is pushing says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from pusher.errors import ExitCode
from pusher.oci.digest import short
from pusher.worker import blob_waits, overview
from pusher.worker.job_json import describe_jobs
from tests.support.fakeregistry import FakeRegistry, Fault, On, Stall
from tests.support.home import CHUNK, Background, Home
from tests.support.images import make_image, write_archive
from tests.support.waiting import wait_until


@pytest.mark.parametrize("workers", [1, 2])
def test_status_run_and_log_name_the_job_that_is_waited_for(
    home: Home, registry: FakeRegistry, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_waits, "_LONG_WAIT", 0.1)
    archive = write_archive(tmp_path / "app.tar", make_image(5 * CHUNK, compressible=0.0))
    first = home.enqueue(archive, f"{registry.address}/one/app:1")
    stall = Stall(after_bytes=CHUNK // 2)
    registry.faults.add(Fault(On.CHUNK, stall, nth=2))
    runs = [Background(home, only=[first.id] if workers == 2 else None, no_early=True)]
    registry.wait_for_fault(On.CHUNK)
    second = home.enqueue(archive, f"{registry.address}/two/app:1")
    if workers == 2:
        runs.append(Background(home, only=[second.id]))
    wait_until(lambda: any(kind == "blob-wait" for kind, _ in home.events(second.id)))

    digest = home.store.blobs.of_job(first.id)[1].digest or ""
    which = f"which job {first.id} is pushing"
    assert ("blob-wait", f"waiting for layer {digest}, {which}") in home.events(second.id)
    home.progress.wait_for_note(f"job {second.id}: waiting for layer sha256:{short(digest)}, {which}")
    jobs, folder = [home.job(first.id), home.job(second.id)], home.settings.workers
    text = f"waiting for layer sha256:{short(digest)}, {which}"
    shown = overview.read_overviews(home.store, folder, jobs)
    assert text in overview.note(shown[1], home.store.now())
    assert "waiting" not in overview.note(shown[0], home.store.now())
    described = describe_jobs(home.store, jobs, folder)
    assert [each["held"] for each in described] == [None, {"reason": text, "hint": None}]

    stall.release()
    assert [run.join().exit_code for run in runs] == [ExitCode.DONE] * len(runs)
    assert [kind for kind, _ in home.events(first.id) if kind == "blob-wait"] == []
    assert [hold.hold for hold in overview.read_overviews(home.store, folder, jobs)] == [None, None]
