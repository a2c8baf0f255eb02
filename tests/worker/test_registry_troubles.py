"""Jobs for a registry that is away do not keep those for others waiting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pusher.errors import RegistryBusy, RegistryStalled, RegistryUnreachable
from pusher.worker.control import Control
from pusher.worker.registry_troubles import RegistryTroubles
from pusher.worker.stall_notices import StallNotices
from tests.support.fakeregistry import FakeRegistry
from tests.support.home import Home
from tests.support.quick import QUICK


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
