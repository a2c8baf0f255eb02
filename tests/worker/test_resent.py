"""Uploads that are lost: what that costs, what is told of it, and what is left at the registry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pusher.errors import ExitCode
from pusher.registry.upload.chunk_sizes import Limits
from pusher.registry.upload.profiles import DEFAULT
from pusher.registry.upload.session import Session
from pusher.registry.upload.uplink import LinkEstimate
from pusher.store.records import JobState
from pusher.worker import cleanup
from pusher.worker.store_journal import StoreJournal
from pusher.worker.uplinks import LinkEstimates
from tests.support.fakeregistry import (
    DISTRIBUTION_2,
    DISTRIBUTION_3,
    Answer,
    FakeRegistry,
    Fault,
    On,
    ResetAfter,
)
from tests.support.fakeregistry.wire import Request
from tests.support.home import Home
from tests.support.images import make_image, write_archive

MB = 1_000_000
CHUNK = 300_000


@pytest.fixture
def restarting() -> Iterator[FakeRegistry]:
    """A registry that starts a blob again when the connection breaks inside a chunk."""
    with FakeRegistry(DISTRIBUTION_2) as registry:
        yield registry


@pytest.fixture
def big(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "big.tar", make_image(MB, compressible=0.0))


def _is_late(request: Request) -> bool:
    return int(request.headers["content-range"].partition("-")[0]) >= 500_000


def test_a_layer_that_starts_again_without_end_is_given_up(
    home: Home, restarting: FakeRegistry, big: Path
) -> None:
    """The link breaks in the third chunk of each session: what is acknowledged again is no progress."""
    job = home.enqueue(big, f"{restarting.address}/app:1")
    third = Fault(On.CHUNK, ResetAfter(1000), times=None, where=_is_late)
    restarting.faults.add(third)
    result = home.run(chunk_size=CHUNK, give_up_after=5)
    assert result.exit_code == ExitCode.UNFINISHED
    totals = home.store.jobs.totals([job.id])[job.id]
    lost = home.kinds(job.id).count("session-lost")
    assert lost * 500_000 <= totals.bytes_wasted <= lost * 3 * CHUNK
    assert totals.bytes_wasted <= totals.bytes_sent
    assert result.bytes_wasted == totals.bytes_wasted
    told = [message for (message,) in home.progress.of("note") if "had to be sent again" in message]
    assert len(told) == sum(lost >= count for count in (3, 6, 12, 24, 48)), "ever more rarely"
    assert "starts a blob again when the connection breaks inside a chunk" in told[0]
    assert "--split-layers" in told[0]


def test_bytes_are_counted_once_where_nothing_breaks(home: Home, restarting: FakeRegistry, big: Path) -> None:
    job = home.push(big, f"{restarting.address}/app:1")
    total, done, sent = home.figures(job.id)
    totals = home.store.jobs.totals([job.id])[job.id]
    assert (total, done, totals.bytes_wasted, totals.bytes_at_risk) == (total, total, 0, 0)
    assert sent >= total


def test_what_was_cut_off_inside_a_chunk_is_at_risk(home: Home, restarting: FakeRegistry, big: Path) -> None:
    """Where the registry starts again after that: status must not say that it goes on there."""
    job = home.enqueue(big, f"{restarting.address}/app:1")
    claimed = home.store.jobs.claim("w", lease=60)
    assert claimed is not None
    layer = home.store.blobs.of_job(job.id)[1]
    home.store.blobs.set_blob(claimed, layer.key, digest="sha256:" + "1" * 64, size=MB, media_type="x")
    upload = home.store.uploads.acquire(
        job.registry, job.repository, "sha256:" + "1" * 64, owner="w", lease=60
    )
    assert upload is not None
    for restarts, risk in ((True, 600_000), (False, 0)):
        upload = home.store.uploads.record_session(
            upload,
            location="http://r/1",
            chunk_size=CHUNK,
            min_chunk=None,
            max_chunk=None,
            profile="p",
            restarts=restarts,
        )
        upload = home.store.uploads.record_offset(upload, location="http://r/2", offset=600_000)
        assert home.store.jobs.totals([job.id])[job.id].bytes_at_risk == 0
        upload = home.store.uploads.record_chunk(upload, CHUNK)
        totals = home.store.jobs.totals([job.id])[job.id]
        assert (totals.bytes_done, totals.bytes_at_risk) == (600_000, risk)
        assert totals.unattended().bytes_done == 600_000 - risk


def test_the_journal_knows_how_far_lost_sessions_got_and_takes_back_what_never_left(
    home: Home, big: Path
) -> None:
    job = home.enqueue(big, "r.example.com/app:1")
    upload = home.store.uploads.acquire(
        job.registry, job.repository, "sha256:" + "1" * 64, owner="w", lease=60
    )
    assert upload is not None
    journal = StoreJournal(home.store, LinkEstimates(home.store), upload, job.id, lambda _: None, {})
    for offset in (600_000, 200_000):
        session = Session("http://r/1", CHUNK, Limits(), DEFAULT)
        journal.record_session(session)
        journal.record_chunk(replace(session, in_flight=CHUNK))
        journal.withdraw_chunk(session)
        found = journal.load()
        assert found is not None
        assert (found.offset, found.in_flight) == (0, 0)
        journal.record_offset(replace(session, offset=offset), offset)
        found = journal.load()
        assert found is not None
        assert (found.offset, found.furthest) == (offset, 600_000)
        journal.record_loss("a test")
    assert journal.load() is None


def test_what_a_waiting_job_shows_agrees_with_status(home: Home, restarting: FakeRegistry, big: Path) -> None:
    """An outage inside a chunk: the bar does not stay where the registry will not continue."""
    job = home.enqueue(big, f"{restarting.address}/app:1")
    restarting.faults.add(Fault(On.CHUNK, ResetAfter(1000), nth=2), Fault(On.STATUS, Answer(500), times=None))
    assert home.run(chunk_size=CHUNK, give_up_after=0.1).exit_code == ExitCode.UNFINISHED
    totals = home.store.jobs.totals([job.id])[job.id]
    assert totals.bytes_at_risk == CHUNK
    last = {digest: offset for _, digest, offset in home.progress.of("blob_acknowledged")}
    config_size = totals.bytes_done - CHUNK
    assert totals.unattended().bytes_done == config_size
    assert sorted(last.values())[0] == 0


# --- what is left at the registry -------------------------------------------------------------------------


def test_cancel_after_a_broken_chunk_leaves_nothing(
    home: Home, big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stored location is behind then; distribution 3 refuses to DELETE it, and says the present one."""
    monkeypatch.setattr(LinkEstimate, "pays_to_probe", lambda _link, _left: True)  # however fast it is
    with FakeRegistry(DISTRIBUTION_3) as registry:
        job = home.enqueue(big, f"{registry.address}/app:1")
        registry.faults.add(
            Fault(On.CHUNK, ResetAfter(1000), nth=2), Fault(On.STATUS, Answer(500), nth=2, times=None)
        )
        assert home.run(chunk_size=CHUNK, give_up_after=0.1).exit_code == ExitCode.UNFINISHED
        assert len(registry.sessions) == 1
        registry.faults.clear()
        cleanup.cancel(home.store, home.settings, [job.id])
        assert (home.state(job.id), registry.sessions) == (JobState.CANCELLED, {})
        assert home.store.dead_sessions.all() == []


def test_what_a_registry_does_not_delete_is_tried_again_and_not_for_ever(
    home: Home, restarting: FakeRegistry, big: Path
) -> None:
    """2.x refuses every location of a session that was cut off inside a chunk."""
    job = home.enqueue(big, f"{restarting.address}/app:1")
    restarting.faults.add(Fault(On.CHUNK, ResetAfter(1000), nth=2))
    assert home.run(chunk_size=CHUNK).exit_code == ExitCode.DONE
    tries = []
    while sessions := home.store.dead_sessions.all():
        tries += [session.tries for session in sessions]
        cleanup.cancel(home.store, home.settings, [])
    assert tries == sorted(tries)
    assert 2 <= len(tries) <= 5
    assert home.state(job.id) == JobState.SUCCEEDED


def test_sessions_that_were_lost_are_deleted(home: Home, big: Path) -> None:
    with FakeRegistry(DISTRIBUTION_3) as registry:
        job = home.enqueue(big, f"{registry.address}/app:1")
        registry.faults.add(Fault(On.CLOSE, Answer(400, body=b'{"errors": [{"code": "X"}]}'), times=2))
        assert home.run(chunk_size=CHUNK).exit_code == ExitCode.DONE
        assert "session-lost" in home.kinds(job.id)
        assert registry.sessions == {}
        assert home.store.dead_sessions.all() == []
