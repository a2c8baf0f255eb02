"""Jobs for a registry that is away do not keep those for others waiting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pusher.errors import ExitCode, RegistryBusy, RegistryStalled, RegistryUnreachable
from pusher.store.records import JobState
from pusher.worker.control import Control
from pusher.worker.registry_troubles import RegistryTroubles
from pusher.worker.stall_notices import StallNotices
from tests.support.fakeregistry import Answer, FakeRegistry, Fault, On
from tests.support.home import Background, Home
from tests.support.images import make_image, write_archive
from tests.support.quick import QUICK
from tests.support.waiting import wait_until


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_registry_is_away_for_a_while_after_a_failure() -> None:
    clock = Clock()
    troubles = RegistryTroubles(StallNotices(print), 30, clock)
    troubles.record_failure("a.example", RegistryUnreachable("no route"))
    troubles.record_failure("b.example", RegistryStalled("silence"))
    troubles.record_failure("c.example", RegistryBusy("later"))
    assert troubles.away() == {"a.example", "b.example"}
    troubles.record_success("b.example")
    assert troubles.away() == {"a.example"}
    clock.now += 30
    assert troubles.away() == set(), "it is tried again in its turn"


def test_the_jobs_of_other_registries_go_first(home: Home, registry: FakeRegistry, archive: Path) -> None:
    """With one job at a time and many for the registry that is away, which are older."""
    with FakeRegistry() as gone:
        address = gone.address
    away = [home.enqueue(archive, f"{address}/app{number}:1").id for number in range(6)]
    well = [home.enqueue(archive, f"{registry.address}/app:{number}").id for number in range(2)]
    home.run(parallel=1, give_up_after=0.05, retry=replace(QUICK, job_offline=30))
    started = [job_id for job_id, *_ in home.progress.of("job_started")]
    assert started[:3] == [away[0], *well]


def test_a_job_is_recorded_as_waiting_until_its_registry_has_responded(
    home: Home, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also over a new try, whose first bytes a proxy takes."""
    job, clock, still = home.enqueue(archive, "r.example/app:1"), Clock(), [20.0]
    monkeypatch.setattr(Control, "seconds_still", property(lambda control: still[0]))
    claimed = home.store.jobs.claim("a worker", lease=3600)
    assert claimed is not None
    stalls = StallNotices(print, clock)
    troubles = RegistryTroubles(stalls, 30, clock)

    def look() -> list[str]:
        stalls.report()
        troubles.record_silences(home.store, [(claimed, Control())])
        return [event.message for event in home.store.events.of(job.id)][1:]

    for _ in range(2):
        still[0] = 0.0
        with stalls.wait_for("r.example"):
            look()
            clock.now, still[0] = clock.now + 20, 20.0
            look()
    before = look()
    assert before[-1] == "r.example does not respond"
    assert before.count("r.example does not respond") == 1
    stalls.record_response("r.example")
    look()
    assert look() == [*before, "r.example responds again"]


def test_a_registry_that_is_away_is_reported_at_intervals_until_it_responds() -> None:
    clock, said = Clock(), list[str]()
    troubles = RegistryTroubles(StallNotices(print), 30, clock, said.append)
    refused = RegistryUnreachable("a.example refuses the connection")
    troubles.record_pause("a.example", refused, 1)
    troubles.record_pause("b.example", RegistryBusy("later"), 1)
    troubles.record_response("a.example")
    assert said == [], "it was away for a moment only"
    for _ in range(70):
        troubles.record_pause("a.example", refused, 8)
        troubles.report_outages()
        clock.now += 1
    assert said == [
        "no connection to a.example for 30s (a.example refuses the connection): next try in 2s",
        "no connection to a.example for 1m00s (a.example refuses the connection): next try in 4s",
    ]
    troubles.record_response("a.example")
    troubles.record_response("a.example")
    assert said[2:] == ["a.example is back after 1m10s; continuing"]
    troubles.record_failure("c.example", refused, 30)
    clock.now += 200
    troubles.report_outages()
    troubles.record_response("c.example")
    assert len(said) == 3, "no job has tried it for long"


def test_the_jobs_that_wait_for_a_registry_start_once_it_has_responded(
    home: Home, registry: FakeRegistry, archive: Path
) -> None:
    """A new job shows that it is back, an hour before their next try."""
    registry.stop()
    waiting = [home.enqueue(archive, f"{registry.address}/app{number}:1") for number in range(2)]
    worker = Background(home, parallel=1, retry=replace(QUICK, job_first=3600, job_offline=3600))
    home.progress.wait_for("job_ended", 2)
    registry.start()
    new = home.enqueue(archive, f"{registry.address}/new:1")
    assert worker.join().exit_code == ExitCode.DONE
    assert [home.state(job.id) for job in (*waiting, new)] == ["succeeded"] * 3
    notes = [note for (note,) in home.progress.of("note") if registry.address in note]
    assert sum("is back after" in note for note in notes) == 1


def test_a_run_tries_at_once_what_waits_for_a_registry(
    home: Home, registry: FakeRegistry, archive: Path
) -> None:
    """The user has fixed the network and starts it."""
    registry.stop()
    job = home.enqueue(archive, f"{registry.address}/app:1")
    later = replace(QUICK, job_first=3600, job_offline=3600)
    assert home.run(give_up_after=0.05, retry=later).exit_code == ExitCode.UNFINISHED
    assert home.state(job.id) is JobState.WAITING
    registry.start()
    assert home.run(retry=later).exit_code == ExitCode.DONE


def test_a_failure_just_after_an_outage_is_not_another_one() -> None:
    """Of a request that was sent before."""
    clock, said = Clock(), list[str]()
    troubles = RegistryTroubles(StallNotices(print), 30, clock, said.append)
    refused = RegistryUnreachable("a.example refuses the connection")
    for _ in range(2):
        troubles.record_failure("a.example", refused, 8)
        clock.now += 1
        troubles.record_response("a.example")
        assert troubles.has_just_returned("a.example")
    assert said == ["a.example is back after 1s; continuing"]
    clock.now += 5
    assert not troubles.has_just_returned("a.example")
    troubles.record_failure("a.example", refused, 8)
    troubles.record_response("a.example")
    assert len(said) == 2


def test_a_job_is_resumed_early_once_until_it_makes_progress(
    home: Home, registry: FakeRegistry, archive: Path, tmp_path: Path
) -> None:
    """What it cannot reach is the storage behind the registry, which itself responds."""
    with FakeRegistry() as gone:
        storage = f"http://{gone.address}/storage"
    moved = Answer(307, {"Location": storage})
    registry.faults.add(Fault(On.CLOSE, moved, times=None, path="/away/"))
    away = home.enqueue(archive, f"{registry.address}/away/app:1")
    worker = Background(home, parallel=2, retry=replace(QUICK, job_first=3600, job_offline=3600))
    home.progress.wait_for("job_ended")
    for number in range(5):
        other = write_archive(tmp_path / f"{number}.tar", make_image(300 + number))
        home.enqueue(other, f"{registry.address}/app{number}:1")
        wait_until(lambda: home.store.jobs.counts().get(JobState.SUCCEEDED) == number + 1)  # noqa: B023
    home.store.jobs.cancel(away.id)
    worker.join()
    assert len([job for job, *_ in home.progress.of("job_started") if job == away.id]) <= 3


def test_an_outage_that_is_reported_ends_with_one_line() -> None:
    clock, said = Clock(), list[str]()
    stalls = StallNotices(said.append, clock)
    troubles = RegistryTroubles(stalls, 30, clock, said.append)
    for is_reported in (True, False):
        with stalls.wait_for("a.example"):
            clock.now += 20
            stalls.report()
        troubles.record_pause("a.example", RegistryUnreachable("no route"), 8, is_reported=is_reported)
        said.clear()
        stalls.record_response("a.example")
        troubles.record_response("a.example")
        assert said == [
            "a.example is back after 0s; continuing" if is_reported else "a.example responds again"
        ]


def test_every_job_for_a_registry_that_is_away_says_so(home: Home, archive: Path) -> None:
    clock = Clock()
    troubles = RegistryTroubles(StallNotices(print), 30, clock)
    jobs = [home.enqueue(archive, f"a.example/app{number}:1") for number in range(3)]
    claimed = [home.store.jobs.claim("worker", lease=60, only={job.id}) for job in jobs]
    active = [(job, Control()) for job in claimed if job is not None]
    troubles.record_pause("a.example", RegistryUnreachable("a.example refuses the connection"), 1)
    clock.now += 5
    troubles.record_silences(home.store, active)
    assert [home.job(job.id).error for job in jobs] == [None] * 3, "it is away for a moment only"
    clock.now += 15
    for _ in range(2):
        troubles.record_silences(home.store, active)
    errors = [home.job(job.id).error for job in jobs]
    assert [error and error.message for error in errors] == ["a.example refuses the connection"] * 3
    troubles.record_response("a.example")
    troubles.record_silences(home.store, active)
    assert [home.job(job.id).error for job in jobs] == [None] * 3
