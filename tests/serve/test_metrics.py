"""What Prometheus scrapes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client import Counter
from prometheus_client.parser import text_string_to_metric_families

from pusher.errors import StoreUnreachable
from pusher.serve.metrics import MeteredProgress, Metrics
from tests.cli.conftest import Pusher, home, pusher  # noqa: F401 - pytest finds fixtures by name
from tests.serve.forward.front import Front
from tests.serve.served import Served
from tests.support.fakeregistry import SERVERLESS, FakeRegistry, Fault, On, ResetAfter
from tests.support.home import Home
from tests.support.images import make_image, write_archive
from tests.support.waiting import PATIENCE

HOST = "registry.example.com:5000"


def figures(text: str) -> dict[tuple[str, ...], float]:
    """Every sample: its name and the values of its labels, by their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Metered:
    """A progress whose counters are read."""

    def __init__(self, place: Home, archive: Path) -> None:
        self.metrics = Metrics()
        self.inner = place.progress
        self.progress = MeteredProgress(self.inner, self.metrics, place.store)
        job = place.enqueue(archive, f"{HOST}/team/app:1")
        self.progress.job_started(job.id, "app:1", f"{HOST}/team/app:1")
        self.progress.blob_started(job.id, "sha256:a", 100, 20)

    def __call__(self, name: str) -> float:
        counter: Counter = getattr(self.metrics, name)
        return float(counter.labels(HOST)._value.get())


@pytest.fixture
def metered(tmp_path: Path) -> Iterator[Metered]:
    archive = write_archive(tmp_path / "app.tar", make_image(1000))
    with Home(tmp_path / "home") as place:
        yield Metered(place, archive)


def test_chunks_that_arrive(metered: Metered) -> None:
    for offset in (60, 100):
        metered.progress.blob_sending(1, "sha256:a", 10)
        metered.progress.blob_acknowledged(1, "sha256:a", offset)
    metered.progress.blob_done(1, "sha256:a", 100, "uploaded")
    assert [metered(name) for name in ("acknowledged", "chunks", "lost")] == [80, 2, 0]


def test_another_registry_gets_the_same_blob(metered: Metered) -> None:
    metered.progress.blob_started(2, "sha256:a", 100, 0)
    metered.progress.blob_acknowledged(2, "sha256:a", 100)
    assert [metered(name) for name in ("acknowledged", "chunks", "lost")] == [0, 0, 0]
    metered.progress.blob_acknowledged(1, "sha256:a", 60)
    assert metered("acknowledged") == 40


def test_an_upload_that_is_lost(metered: Metered) -> None:
    metered.progress.blob_acknowledged(1, "sha256:a", 60)
    metered.progress.blob_acknowledged(1, "sha256:a", 0)
    assert [metered(name) for name in ("acknowledged", "lost")] == [40, 1]


def test_the_rest_of_a_blob_in_the_last_request(metered: Metered) -> None:
    metered.progress.blob_done(1, "sha256:a", 100, "uploaded")
    assert [metered(name) for name in ("acknowledged", "chunks")] == [80, 1]


def test_faults_are_counted_by_their_code(metered: Metered) -> None:
    metered.progress.waiting("a", 1.0, "why", fault="registry-busy", registry=HOST)
    metered.progress.waiting("a", 1.0, "another worker sends it")
    assert metered.metrics.faults.labels(HOST, "registry-busy")._value.get() == 1


def test_clients_cannot_make_labels_without_end(metered: Metered) -> None:
    for number in range(500):
        metered.progress.waiting("a", 1.0, "why", fault="x", registry=f"r{number}.example.com")
    assert metered.metrics.label(HOST) == HOST
    assert metered.metrics.label("new.example.com") == "other"
    samples = [sample for family in metered.metrics.faults.collect() for sample in family.samples]
    assert len({sample.labels["registry"] for sample in samples}) <= 101


def test_the_oldest_queued_job_has_an_age(tmp_path: Path) -> None:
    with Front(tmp_path / "home", work=False) as front:
        front.metrics.watch_queue(front.home.store)
        archive = write_archive(tmp_path / "app.tar", make_image(1000))
        front.home.enqueue(archive, f"{HOST}/team/app:1")
        time.sleep(0.01)
        assert figures(front.ask("GET", "/metrics").text)["pusher_oldest_queued_job_seconds",] > 0


def test_everything_is_handed_on(metered: Metered) -> None:
    progress = metered.progress
    progress.preparing(1, "d", 1, None)
    progress.prepared(1, "d", "e", 2)
    progress.blob_sending(1, "e", 1)
    progress.blob_acknowledged(1, "e", 1)
    progress.blob_done(1, "e", 2, "uploaded")
    progress.waiting("network", 1.0, "why")
    progress.note("n")
    progress.job_ended(1, "waiting", "m", resumes=False)
    names = ["job_started", "blob_started", "preparing", "prepared", "blob_sending", "blob_acknowledged"]
    assert [call[0] for call in metered.inner.calls] == [*names, "blob_done", "waiting", "note", "job_ended"]


def test_a_push_on_a_bad_link_shows(tmp_path: Path) -> None:
    layer = os.urandom(200_000)
    with (
        FakeRegistry(SERVERLESS.scaled(min=1000, max=20_000)) as registry,
        Front(tmp_path / "home") as front,
    ):
        front.metrics.watch_queue(front.home.store)
        registry.faults.add(Fault(On.CHUNK, ResetAfter(5000), nth=3))
        here = front.repository(registry.address, "team/app")
        assert here.push(here.image(layer), "1").status_code == 201
        front.home.store.facts.update(registry.address, uplink=1.5e6)
        text = front.ask("GET", "/metrics").text
        shown = figures(text)
        at = registry.address
        assert shown["pusher_acknowledged_bytes_total", at] == len(layer) + 2
        wasted = shown["pusher_wasted_bytes_total", at]
        assert 0 < wasted <= 20_000
        assert len(layer) + wasted < shown["pusher_sent_bytes_total", at] < len(layer) + wasted + 2000
        assert shown["pusher_blobs_total", "uploaded", at] == 2
        assert shown["pusher_blob_upload_seconds_count", at] == 2
        assert shown["pusher_jobs", "succeeded"] == 1
        assert shown["pusher_jobs", "queued"] == 0
        assert shown["pusher_jobs_ended_total", "succeeded"] == 1
        assert shown["pusher_oldest_queued_job_seconds",] == 0
        assert shown["pusher_faults_total", "connection-broken", at] == 1
        assert shown["pusher_uplink_bytes_per_second", at] == 1.5e6
        assert shown["pusher_serve_requests_total", "PUT", "201"] == 1


def test_requests_are_counted_and_an_unknown_queue_is_not_shown(tmp_path: Path) -> None:
    with Served(tmp_path / "registry") as served:
        assert served.ask("GET", "/v2/").status_code == 200
        answer = served.ask("GET", "/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        shown = figures(answer.text)
        assert shown["pusher_serve_requests_total", "GET", "200"] == 1
        assert not [sample for sample in shown if sample[0] == "pusher_jobs"]


def test_a_job_store_that_is_away_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Front(tmp_path / "home", work=False) as front:
        front.metrics.watch_queue(front.home.store)

        def away() -> None:
            raise StoreUnreachable("the database server does not answer")

        monkeypatch.setattr(front.home.store.direct().jobs, "counts", away)
        answer = front.ask("GET", "/metrics")
        assert answer.status_code == 200
        assert "pusher_jobs{" not in answer.text


def test_run_shows_them_too(tmp_path: Path) -> None:
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pusher",
            "run",
            "--forever",
            "--metrics",
            "127.0.0.1:0",
            "--progress",
            "none",
        ],
        env={**os.environ, "PUSHER_HOME": str(tmp_path / "home")},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"http://127\.0\.0\.1:\d+/metrics", process.stderr.readline())
            assert found is not None
            assert figures(requests.get(found[0], timeout=20).text)["pusher_jobs", "queued"] == 0
            assert requests.get(found[0].replace("/metrics", "/v2/"), timeout=20).status_code == 404
            status = Path(f"/proc/{process.pid}/status")
            while not int(status.read_text().split("SigCgt:")[1].split()[0], 16) & 1 << signal.SIGTERM - 1:
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 128 + signal.SIGTERM
        finally:
            process.kill()


def test_run_shows_them_to_this_machine_alone(pusher: Pusher) -> None:  # noqa: F811
    result = pusher("run", "--metrics", "0.0.0.0:9155")
    assert result.code == 2
    assert "could read the metrics" in result.err


def test_an_address_that_is_none_gets_an_example(pusher: Pusher) -> None:  # noqa: F811
    result = pusher("run", "--metrics", "nonsense")
    assert result.code == 2
    assert "write it like 127.0.0.1:9155 or [::1]:9155" in result.err
