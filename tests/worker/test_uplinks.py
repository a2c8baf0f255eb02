"""Whole pushes over links that are limited, slow, shaky or away; and what is remembered of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pusher.config import Timeouts, Timetable
from pusher.errors import ExitCode
from pusher.store.records import JobState
from pusher.store.store import Store
from pusher.worker import run
from pusher.worker.blob_sender import BlobSender
from pusher.worker.signals import ReceivedSignals
from pusher.worker.uplinks import LinkEstimates
from tests.support.fakeregistry import DISTRIBUTION_2, SERVERLESS, FakeRegistry, Fault, On, ResetAfter, Stall
from tests.support.home import Background, Home, blob_bytes, pushed
from tests.support.images import make_image, sha256, write_archive
from tests.support.link import ShakyLink
from tests.support.quick import QUICK
from tests.support.waiting import PATIENCE

KIB, MB = 1024, 1_000_000
OFFLINE_30 = replace(QUICK, job_offline=30.0)


@pytest.fixture
def wide() -> Iterator[FakeRegistry]:
    """A registry like serverless-registry that takes chunks of 256 KiB and more."""
    with FakeRegistry(SERVERLESS.scaled(min=256 * KIB, max=100 * MB)) as registry:
        yield registry


class Changing(Timetable):
    """A timetable that the test turns."""

    turned = threading.Event()

    def rate_at(self, now: datetime) -> int | None:
        return None if self.turned.is_set() else 5_000


def chunk_sizes(registry: FakeRegistry) -> list[int]:
    """The bytes of every chunk that arrived whole."""
    return [record.body_received for record in registry.requests(On.CHUNK) if record.status == 202]


# --- what leaving at once would cost ----------------------------------------------------------------------


@pytest.fixture
def senders(monkeypatch: pytest.MonkeyPatch) -> list[BlobSender]:
    """The sender of the worker, once for each blob that it sends."""
    found: list[BlobSender] = []
    send = BlobSender.send

    def noted(self: BlobSender, *arguments: Any, **options: Any) -> str | None:
        found.append(self)
        return send(self, *arguments, **options)

    monkeypatch.setattr(BlobSender, "send", noted)
    return found


def test_a_second_ctrl_c_can_be_told_what_it_costs(
    home: Home, tmp_path: Path, senders: list[BlobSender]
) -> None:
    """At a registry that starts a layer again after a break inside a chunk: all that it holds of it."""
    stakes: list[int] = []
    with FakeRegistry(DISTRIBUTION_2) as registry:
        archive = write_archive(tmp_path / "app.tar", make_image(2 * MB, compressible=0.0))
        home.enqueue(archive, f"{registry.address}/app:1")
        home.progress.hooks["blob_sending"] = lambda *_: stakes.append(senders[0].bytes_at_stake())
        assert home.run(parallel=1, chunk_size=MB).exit_code == ExitCode.DONE
    assert max(stakes) > MB, "the chunk before, too"
    assert senders[0].bytes_at_stake() == 0


def test_it_costs_what_two_registries_hold_of_one_layer(
    home: Home, tmp_path: Path, senders: list[BlobSender]
) -> None:
    archive = write_archive(tmp_path / "app.tar", make_image(3 * MB, compressible=0.0))
    with FakeRegistry(DISTRIBUTION_2) as one, FakeRegistry(DISTRIBUTION_2) as two:
        stalls = [Stall(after_bytes=1000), Stall(after_bytes=1000)]
        for registry, stall in zip((one, two), stalls, strict=True):
            registry.faults.add(Fault(On.CHUNK, stall, nth=2))
            home.enqueue(archive, f"{registry.address}/app:1")
        worker = Background(home, parallel=2, chunk_size=MB, no_early=True)
        try:
            assert all(stall.reached.wait(PATIENCE) for stall in stalls)
            assert senders[0].bytes_at_stake() >= 2 * MB
            assert len(senders[0].observers) == 2
        finally:
            for stall in stalls:
                stall.release()
        assert worker.join().exit_code == ExitCode.DONE


# --- a limited rate ---------------------------------------------------------------------------------------


def test_four_uploads_share_one_limit(home: Home, wide: FakeRegistry, tmp_path: Path) -> None:
    image = make_image(2 * MB, 2 * MB, 2 * MB, 2 * MB, compressible=0.0)
    archive = write_archive(tmp_path / "app.tar", image)
    times: list[float] = []
    home.progress.hooks["blob_started"] = lambda *_: times.append(time.monotonic())
    home.progress.hooks["blob_done"] = lambda *_: times.append(time.monotonic())
    home.enqueue(archive, f"{wide.address}/app:1")
    assert home.run(parallel=4, chunk_size=500_000, limit_rate=Timetable(2 * MB)).exit_code == ExitCode.DONE
    pushed(wide, "app", "1", image)
    seconds = times[-1] - times[0]
    assert blob_bytes(wide, "app") / seconds < 2.2 * MB
    rates = [text for (text,) in home.progress.of("note") if text.startswith("rate:")]
    assert rates == ["rate: at most 1.9 MiB/s for all uploads together"]


def test_a_new_hour_is_felt_at_once(home: Home, wide: FakeRegistry, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "app.tar", make_image(MB, compressible=0.0))
    job = home.enqueue(archive, f"{wide.address}/app:1")
    table = Changing(None)
    worker = Background(home, chunk_size=MB, limit_rate=table)
    home.progress.wait_for("blob_sending", 2)
    started = time.monotonic()
    table.turned.set()
    worker.join()
    assert time.monotonic() - started < PATIENCE, "200 s at the old rate"
    assert home.state(job.id) == JobState.SUCCEEDED


def test_a_job_that_is_paused_leaves_in_the_middle_of_a_slow_chunk(
    home: Home, wide: FakeRegistry, tmp_path: Path
) -> None:
    image = make_image(2 * MB, compressible=0.0)
    job = home.enqueue(write_archive(tmp_path / "app.tar", image), f"{wide.address}/app:1")
    worker = Background(home, chunk_size=MB, limit_rate=Timetable(20_000), lease=1.0)
    home.progress.wait_for("blob_sending", 2)
    home.store.jobs.pause(job.id)
    worker.join()
    assert home.state(job.id) == JobState.PAUSED
    home.store.jobs.resume(job.id)
    assert home.run(chunk_size=MB).exit_code == ExitCode.DONE
    pushed(wide, "app", "1", image)


def test_waiting_for_ones_turn_is_neither_a_stall_nor_idle(
    home: Home, wide: FakeRegistry, tmp_path: Path
) -> None:
    archive = write_archive(tmp_path / "app.tar", make_image(300_000, compressible=0.0))
    job = home.enqueue(archive, f"{wide.address}/app:1")
    result = home.run(
        chunk_size=300_000,
        limit_rate=Timetable(100_000),
        give_up_after=1.0,
        timeouts=Timeouts(connect=30, stall=0.5, answer=30, commit=30),
    )
    assert result.exit_code == ExitCode.DONE
    assert home.progress.of("waiting") == []
    assert home.kinds(job.id)[-1] == "succeeded"


# --- a link that breaks -----------------------------------------------------------------------------------


def test_chunks_follow_the_link_and_the_next_run_knows_it(
    home: Home, wide: FakeRegistry, tmp_path: Path
) -> None:
    """Every run reads anew what the store knows of the link."""
    sent: dict[str, float] = {}
    told: dict[str, list[str]] = {}
    with ShakyLink(wide.address, reset_every_total=15 * MB) as link:
        for seed, (name, size) in enumerate({"fixed": 10 * 1024**2, "first": None, "second": None}.items()):
            if name == "first":  # as if nothing had been sent before
                home.store.facts.update(link.address, uplink=None, carries=None)
            archive = write_archive(
                tmp_path / f"{name}.tar", make_image(40 * MB, compressible=0.0, seed=seed)
            )
            job = home.enqueue(archive, f"{link.address}/{name}:1")
            wide.log.clear()
            assert home.run(chunk_size=size, parallel=1).exit_code == ExitCode.DONE
            sent[name] = wide.body_bytes_received() / blob_bytes(wide, name)
            told[name] = [message for kind, message in home.events(job.id) if kind == "chunk-size"]
        carries = home.store.facts.get(link.address).carries
    assert max(sent["first"], sent["second"]) < sent["fixed"], sent
    assert sent["second"] < 1.25, sent
    assert max(chunk_sizes(wide)) <= 3 * 1024**2
    assert carries is not None
    assert 8 * MB < carries < 30 * MB
    assert told["fixed"] == []
    assert "the link broke" in told["second"][0]


def test_layers_are_sent_one_at_a_time_where_a_break_restarts_them_all(home: Home, tmp_path: Path) -> None:
    image = make_image(1500 * KIB, 1500 * KIB, compressible=0.0)
    archive = write_archive(tmp_path / "app.tar", image)
    with FakeRegistry(DISTRIBUTION_2) as registry, ShakyLink(registry.address, rate=6 * MB) as link:
        registry.faults.add(Fault(On.CHUNK, ResetAfter(200 * KIB), nth=3))
        home.enqueue(archive, f"{link.address}/app:1")
        worker = Background(home, parallel=2, chunk_size=300 * KIB)
        home.progress.wait_for_note("large blobs are sent one at a time")
        registry.log.clear()
        assert worker.join().exit_code == ExitCode.DONE
        pushed(registry, "app", "1", image)
    chunks = [record.path.partition("?")[0] for record in registry.requests(On.CHUNK)]
    assert sum(before != after for before, after in pairwise(chunks)) <= 2, chunks


def test_facts_are_written_now_and_then(home: Home) -> None:
    now = [0.0]
    links = LinkEstimates(home.store, clock=lambda: now[0])
    link = links.get("r.example")
    link.record_chunk(4 * MB, 2)
    links.save("r.example")
    assert home.store.facts.get("r.example").uplink is None, "written a moment ago"
    now[0] = 3.0
    links.save("r.example")
    facts = home.store.facts.get("r.example")
    assert facts.uplink == pytest.approx(2 * MB)
    assert LinkEstimates(home.store).get("r.example").carries == facts.carries == link.carries
    link.record_break(1000, MB)
    links.close()
    assert home.store.facts.get("r.example").carries == link.carries


def test_the_rate_of_a_limit_is_not_that_of_the_link(home: Home) -> None:
    links = LinkEstimates(home.store, lambda: 2 * MB)
    rate = links.get("r.example").rate
    links.get("r.example").record_chunk(4 * MB, 2)
    assert rate.bytes_per_second == pytest.approx(2 * MB)
    links.save("r.example", at_once=True)
    facts = home.store.facts.get("r.example")
    assert facts.uplink is not None
    assert facts.link_rate is None
    links.get("r.example").record_chunk(MB, 8)
    links.save("r.example", at_once=True)
    kept = home.store.facts.get("r.example").link_rate
    assert kept is not None
    assert kept < MB, "the link itself is slower than the limit"


def test_the_registry_used_last_tells_what_the_uplink_takes(home: Home) -> None:
    """For others: links within this machine and those beyond it say nothing about each other."""
    links = LinkEstimates(home.store)
    for host, rate in [("a.example", 5.0 * MB), ("localhost:5000", 500.0 * MB), ("b.example", 8.0 * MB)]:
        home.store.facts.update(host, link_rate=rate)
        home.store.uploads.acquire(host, "app", sha256(host.encode()), owner="w", lease=30)
    home.store.facts.update("never-used.example", link_rate=1.0)
    assert links.rate_elsewhere("new.example") == 8 * MB
    assert links.rate_elsewhere("b.example") == 5 * MB
    assert links.rate_elsewhere("127.0.0.1:5001") == 500 * MB
    assert links.rate_elsewhere("localhost:5000") is None


def test_a_rate_of_last_month_says_nothing(tmp_path: Path) -> None:
    day = [datetime(2026, 11, 1, tzinfo=UTC)]
    with Store.open(f"sqlite:///{tmp_path / 'queue.db'}", clock=lambda: day[0]) as store:
        store.facts.update("a.example", link_rate=5.0 * MB)
        store.uploads.acquire("a.example", "app", sha256(b"a"), owner="w", lease=30)
        links = LinkEstimates(store)
        day[0] += timedelta(days=6)
        assert links.rate_elsewhere("new.example") == 5 * MB
        day[0] += timedelta(days=2)
        assert links.rate_elsewhere("new.example") is None


def test_a_share_that_varies_says_nothing_about_the_link(home: Home) -> None:
    held_back = True
    links = LinkEstimates(home.store, lambda: 2 * MB, lambda: held_back)
    links.get("r.example").record_chunk(MB, 4)
    links.save("r.example", at_once=True)
    assert home.store.facts.get("r.example").link_rate is None
    held_back = False
    links.get("r.example").record_chunk(MB, 4)
    links.save("r.example", at_once=True)
    assert home.store.facts.get("r.example").link_rate is not None


def test_without_a_store_nothing_is_kept() -> None:
    links = LinkEstimates(None)
    assert links.rate_elsewhere("r.example") is None
    links.get("r.example").record_chunk(4 * MB, 2)
    links.close()


# --- a slow link, and one that is away --------------------------------------------------------------------


def test_a_slow_link_that_moves_is_never_cut(home: Home, wide: FakeRegistry, tmp_path: Path) -> None:
    image = make_image(2 * MB, compressible=0.0)
    archive = write_archive(tmp_path / "app.tar", image)
    with ShakyLink(wide.address, rate=500_000) as link:
        job = home.enqueue(archive, f"{link.address}/app:1")
        timeouts = Timeouts(connect=30, stall=2, answer=30, commit=30)
        assert home.run(chunk_size=2 * MB, timeouts=timeouts).exit_code == ExitCode.DONE
    pushed(wide, "app", "1", image)
    assert home.progress.of("waiting") == []
    assert home.figures(job.id)[2] < 2.1 * MB


def test_a_drain_that_gives_up_says_so(home: Home, wide: FakeRegistry, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "app.tar", make_image(50_000, compressible=0.0))
    with ShakyLink(wide.address) as link:
        link.stop()
        job = home.enqueue(archive, f"{link.address}/app:1")
        assert home.run(give_up_after=0.6, retry=OFFLINE_30).exit_code == ExitCode.UNFINISHED
    notes = [message for (message,) in home.progress.of("note")]
    told = [message for message in notes if not message.startswith("compressed with gzip level ")]
    assert told == [
        f"no connection to {link.address}: retrying, at least every 30 s, for up to 1s",
        (
            "no progress for 1s: giving up, and nothing is lost; continue with pusher run, or with "
            "pusher run --forever, which never gives up"
        ),
    ]
    waiting = home.job(job.id)
    assert (waiting.state, waiting.next_try_at is not None) == (JobState.WAITING, True)


def test_forever_waits_for_the_network_and_goes_on(
    home: Home, wide: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make_image(50_000, compressible=0.0)
    archive = write_archive(tmp_path / "app.tar", image)
    stop: list[Callable[[], None]] = []

    @contextmanager
    def no_signals(first: Callable[[], None], *_others: Any, **_more: Any) -> Iterator[ReceivedSignals]:
        stop.append(first)
        yield ReceivedSignals()

    monkeypatch.setattr(run, "handle_signals", no_signals)
    with ShakyLink(wide.address) as link:
        link.stop()
        job = home.enqueue(archive, f"{link.address}/app:1")
        worker = Background(home, give_up_after=0.01, forever=True, retry=OFFLINE_30)
        home.progress.wait_for("job_ended", 3)
        link.start()
        home.progress.hooks["job_ended"] = lambda _id, state, _message: state == "succeeded" and stop[0]()
        worker.join()
    assert home.state(job.id) == JobState.SUCCEEDED
    pushed(wide, "app", "1", image)
    told = [message for (message,) in home.progress.of("note") if "retrying" in message]
    assert told == [f"no connection to {link.address}: retrying, at least every 30 s, until it succeeds"]
