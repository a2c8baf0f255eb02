"""Export metrics for Prometheus: counters of events, and the queue at the time of the scrape."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import field
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pusher.dataclass import dataclass
from pusher.errors import StoreError
from pusher.oci.digest import provisional_digest
from pusher.progress.base import Progress
from pusher.store.records import JobState
from pusher.store.store import Store

PATH: Final = "/metrics"
_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_MAX_REGISTRIES: Final = 100
_DURATIONS: Final = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400)
"""Seconds: a blob may take a night."""


class Metrics:
    """Every metric of this process. Thread-safe."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._labels: set[str] = set()
        self.before_scrape: Callable[[], None] = lambda: None
        self.sent = self._count("sent_bytes", "Bytes of blobs and manifests that were sent.", "registry")
        self.acknowledged = self._count(
            "acknowledged_bytes", "Bytes of blobs that registries confirmed.", "registry"
        )
        self.wasted = self._count(
            "wasted_bytes",
            "Bytes wasted: of chunks that broke off, and of uploads that were lost or given up.",
            "registry",
        )
        self.chunks = self._count(
            "chunks", "Requests with a blob's bytes that registries confirmed.", "registry"
        )
        self.lost = self._count("uploads_lost", "Uploads of which a registry lost what it had.", "registry")
        self.blobs = self._count(
            "blobs",
            "Blobs that a registry has, by how they came: uploaded, mounted, exists.",
            "registry",
            "how",
        )
        self.faults = self._count(
            "faults",
            "Errors after which something is tried again, by the codes of pusher help errors.",
            "registry",
            "code",
        )
        self.waits = self._count(
            "waits", "Pauses before another try, of a job, a blob or the network.", "what"
        )
        self.jobs = self._count("jobs_ended", "Jobs that this worker ended, by their state.", "state")
        self.requests = self._count(
            "serve_requests", "Requests that pusher serve answered.", "method", "status"
        )
        self.durations = Histogram(
            "pusher_blob_upload_seconds",
            "From the beginning of a blob's upload to its end, in this process.",
            ["registry"],
            buckets=_DURATIONS,
            registry=self._registry,
        )

    def label(self, registry: str) -> str:
        """Return the label of a registry: its name, but ``other`` after the first hundred, since clients of
        ``pusher serve`` choose the names."""
        if registry not in self._labels and len(self._labels) >= _MAX_REGISTRIES:
            return "other"
        self._labels.add(registry)
        return registry

    def _count(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"pusher_{name}", what, labels, registry=self._registry)

    def watch_queue(self, store: Store) -> None:
        """Show the jobs of the store, too, those of other workers included."""
        self._registry.register(_Queue(store.direct()))

    def route(self) -> Route:
        """Return what answers a scrape."""
        return Route(PATH, self._answer, methods=["GET"])

    def _answer(self, _request: Request) -> Response:
        self.before_scrape()
        return Response(generate_latest(self._registry), headers={"Content-Type": _CONTENT_TYPE})


class _Queue(Collector):
    """The jobs by state, how long the oldest has waited for its turn, and the links' speeds."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> list[Metric]:
        """Return nothing: the names are unique, and the store is not read before a scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("pusher_jobs", "Jobs of the job store, by state.", labels=["state"])
        age = GaugeMetricFamily(
            "pusher_oldest_queued_job_seconds", "Since the oldest queued job was recorded; 0 without any."
        )
        uplink = GaugeMetricFamily(
            "pusher_uplink_bytes_per_second", "Measured speed of one upload.", labels=["registry"]
        )
        try:
            counts = self._store.jobs.counts()
            oldest = self._store.jobs.oldest_queued()
            now = self._store.now()
            facts = self._store.facts.all()[:_MAX_REGISTRIES]
        except StoreError:
            return  # it is away: no figures are better than wrong ones
        for state in JobState:
            jobs.add_metric([state.value], counts.get(state, 0))
        age.add_metric([], 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds()))
        for fact in facts:
            if fact.uplink is not None:
                uplink.add_metric([fact.registry], fact.uplink)
        yield jobs
        yield age
        yield uplink


@dataclass
class _Job:
    """A job at work: where to, and what of its totals is counted already."""

    registry: str
    sent: int
    wasted: int


@dataclass
class _Blob:
    """A blob that is sent: where to, and what is confirmed."""

    registry: str
    offset: int
    began: float = field(default_factory=time.monotonic)


class MeteredProgress:
    """A Progress that counts the events it forwards. Sent and wasted bytes come from the job store."""

    def __init__(self, inner: Progress, metrics: Metrics, store: Store) -> None:
        self._inner = inner
        self._metrics = metrics
        self._store = store.direct()  # does not wait for an unavailable store
        self._lock, self._counting = threading.Lock(), threading.Lock()
        self._jobs: dict[int, _Job] = {}
        self._blobs: dict[tuple[int, str], _Blob] = {}
        metrics.before_scrape = self._count_sent

    def job_started(self, job_id: int, image: str, destination: str) -> None:
        self._count_sent()  # it may have started before, without its manifest
        with suppress(StoreError, KeyError):
            totals = self._store.jobs.totals([job_id])[job_id]
            with self._lock:
                registry = self._metrics.label(destination.partition("/")[0])
                self._jobs[job_id] = _Job(registry, totals.bytes_sent, totals.bytes_wasted)
        self._inner.job_started(job_id, image, destination)

    def job_ended(self, job_id: int, state: str, message: str, *, resumes: bool = True) -> None:
        self._count_sent()
        with self._lock:
            self._jobs.pop(job_id, None)
        self._metrics.jobs.labels(state).inc()
        self._inner.job_ended(job_id, state, message, resumes=resumes)

    def preparing(
        self, job_id: int, diff_id: str, done: int, total: int | None, doing: str = "compressing"
    ) -> None:
        self._inner.preparing(job_id, diff_id, done, total, doing)

    def prepared(
        self, job_id: int, diff_id: str, digest: str, size: int, compression: str | None = None
    ) -> None:
        with self._lock:
            if (begun := self._blobs.pop((job_id, provisional_digest(diff_id)), None)) is not None:
                self._blobs[job_id, digest] = begun
        self._inner.prepared(job_id, diff_id, digest, size, compression)

    def blob_started(self, job_id: int, digest: str, size: int | None, offset: int) -> None:
        with self._lock:
            self._blobs[job_id, digest] = _Blob(self._registry_of(job_id), offset)
        self._inner.blob_started(job_id, digest, size, offset)

    def blob_sending(self, job_id: int, digest: str, in_flight: int) -> None:
        self._inner.blob_sending(job_id, digest, in_flight)

    def blob_acknowledged(self, job_id: int, digest: str, offset: int) -> None:
        with self._lock:
            if blob := self._blobs.get((job_id, digest)):
                self._confirm(blob, offset)
        self._inner.blob_acknowledged(job_id, digest, offset)

    def blob_done(self, job_id: int, digest: str, size: int, how: str) -> None:
        with self._lock:
            registry = self._registry_of(job_id)
            blob = self._blobs.pop((job_id, digest), None)
            if blob is not None and how == "uploaded":
                if size > blob.offset:  # it went with the request that closes the upload
                    self._confirm(blob, size)
                self._metrics.durations.labels(registry).observe(time.monotonic() - blob.began)
            self._metrics.blobs.labels(registry, how).inc()
        self._inner.blob_done(job_id, digest, size, how)

    def waiting(
        self,
        what: str,
        seconds: float,
        reason: str,
        *,
        fault: str = "",
        registry: str = "",
        job: int | None = None,
    ) -> None:
        kind = "job" if what.startswith("job ") else "network" if what == "network" else "blob"
        self._metrics.waits.labels(kind).inc()
        if fault:
            self._metrics.faults.labels(self._metrics.label(registry), fault).inc()
        self._inner.waiting(what, seconds, reason, fault=fault, registry=registry, job=job)

    def note(self, message: str) -> None:
        self._inner.note(message)

    def _registry_of(self, job_id: int) -> str:
        return self._jobs[job_id].registry if job_id in self._jobs else ""

    def _confirm(self, blob: _Blob, offset: int) -> None:
        if offset > blob.offset:
            self._metrics.acknowledged.labels(blob.registry).inc(offset - blob.offset)
            self._metrics.chunks.labels(blob.registry).inc()
        elif offset < blob.offset:
            self._metrics.lost.labels(blob.registry).inc()
        blob.offset = offset

    def _count_sent(self) -> None:
        """Count what the jobs at work sent since the last scrape."""
        with suppress(StoreError), self._counting:
            with self._lock:
                at_work = dict(self._jobs)
            for job_id, found in self._store.jobs.totals(at_work).items():
                job = at_work[job_id]
                self._metrics.sent.labels(job.registry).inc(max(0, found.bytes_sent - job.sent))
                self._metrics.wasted.labels(job.registry).inc(max(0, found.bytes_wasted - job.wasted))
                job.sent, job.wasted = found.bytes_sent, found.bytes_wasted
