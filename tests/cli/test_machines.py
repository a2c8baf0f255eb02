"""What is said of the machines that share a job store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pusher.cli.queueing import advise_start
from pusher.cli.settings import read_settings
from pusher.cli.wait import explain_idle
from pusher.store.records import BlobState, JobRecord, JobState, Machine
from pusher.store.store import Store
from pusher.worker.machine import this_machine
from pusher.worker.overview import JobOverview, note, read_overviews
from tests.cli.conftest import Clock, Pusher, add_job, claim
from tests.progress.helpers import digest


@pytest.fixture
def far(store: Store) -> Machine:
    """Another home of this host."""
    here = this_machine(read_settings())
    far = replace(here, id="far", home="/far")
    store.workers.record_machine(here)
    store.workers.record_machine(far)
    return far


def moved(store: Store, machine: Machine) -> JobRecord:
    """Add a job whose image is on this machine."""
    return store.jobs.move(add_job(store).id, machine, {"kind": "docker"})


def overview(store: Store, folder: Path, job: JobRecord) -> JobOverview:
    (found,) = read_overviews(store, folder, [job])
    return found


def test_machines_of_one_name_are_told_apart_by_their_homes(
    pusher: Pusher, store: Store, home: Path, far: Machine
) -> None:
    job = moved(store, far)
    label = f"{far.name} /far"
    assert store.events.of(job.id)[-1].message == f"moved by the user to {label}"
    found = overview(store, home / "workers", job).machine
    assert found is not None
    assert f"no worker runs on its machine {label}, which" in found.absence(store.now())
    assert f"  {label}  queued" in pusher("status").out
    assert label in pusher("status", str(job.id)).out
    alone = replace(far, id="alone", name="alone")
    job = moved(store, alone)
    store.workers.record_machine(alone)
    assert store.events.of(job.id)[-1].message == "moved by the user to alone"
    machine = overview(store, home / "workers", job).machine
    assert machine is not None
    assert (machine.name, machine.label) == ("alone", "alone")


def test_wait_names_the_machine_that_has_to_push(
    store: Store, home: Path, far: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    explain_idle([overview(store, home / "workers", moved(store, far))])
    assert capsys.readouterr().err == (
        f"Job 1 is for machine {far.name} /far, where no worker runs. Start one there with: pusher run; "
        "or, if the image is here, too: pusher move 1 --here\n"
    )


def test_help_says_that_jobs_of_other_machines_do_not_count(pusher: Pusher) -> None:
    text = " ".join(pusher("run", "--help").out.split())
    assert "Jobs that only another machine can push do not count" in text


def test_no_advice_to_start_a_worker_while_one_runs(store: Store, clock: Clock, home: Path) -> None:
    job = claim(store, add_job(store))
    store.blobs.set_done(job, digest("a"), BlobState.EXISTS)
    store.jobs.release(job, state=JobState.QUEUED, attempt=False)
    queued, settings = store.jobs.get(job.id), read_settings()
    here = this_machine(settings)
    store.workers.register(f"{here.name}/1-0-a", here, pid=1, version="1", lease=30)
    text = note(overview(store, settings.workers, queued), store.now())
    assert text == "continues at 300.0 MiB when a worker is free"
    told = "A running worker takes it in turn; if none does: pusher run"
    assert advise_start(store, [queued], settings) == told
    clock.advance(31)
    text = note(overview(store, settings.workers, queued), store.now())
    assert text == "continues at 300.0 MiB with: pusher run"
    assert advise_start(store, [queued], settings) == "Start it with: pusher run"
