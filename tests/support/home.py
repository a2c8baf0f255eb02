"""A PUSHER_HOME of a test's own, the worker run on it in this process, and what a registry then holds."""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

import pytest

from pusher.config import Settings, Timeouts
from pusher.config.load import sqlite_url
from pusher.spool.spool import Spool
from pusher.store import migrate
from pusher.store.records import JobRecord, JobState
from pusher.store.store import Store
from pusher.worker.control import Control
from pusher.worker.enqueue import enqueue
from pusher.worker.result import RunResult
from pusher.worker.run import run
from tests.support.fakeregistry import FakeRegistry, Fault, On, Stall
from tests.support.images import Image, sha256, unpacked
from tests.support.quick import QUICK

CHUNK: Final = 20_000
"""Bytes of a chunk in these tests; the registry must take so much."""


class Recorder:
    """A Progress that keeps what it is told: ``calls`` holds name and arguments, in their order.

    ``hooks`` are called with the arguments as well, by name, in the thread that tells: between two requests.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.hooks: dict[str, Callable[..., None]] = {}
        self._changed = threading.Condition()

    def __getattr__(self, name: str) -> Callable[..., None]:
        def record(*arguments: Any, **_options: object) -> None:
            with self._changed:
                self.calls.append((name, *arguments))
                self._changed.notify_all()
            if hook := self.hooks.get(name):
                hook(*arguments)

        return record

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of every call of this method."""
        with self._changed:
            return [call[1:] for call in self.calls if call[0] == name]

    def wait_for(self, name: str, count: int = 1, timeout: float = 60.0) -> None:
        """Wait until the method was called so often."""
        with self._changed:
            found = self._changed.wait_for(lambda: [c[0] for c in self.calls].count(name) >= count, timeout)
            assert found, f"{name} was not called {count} times: {self.calls}"

    def wait_for_note(self, part: str, timeout: float = 60.0) -> None:
        """Wait until a note that holds this text was told."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: any(call[0] == "note" and part in call[1] for call in self.calls), timeout
            )
            assert found, f"no note says {part!r}: {self.calls}"


class Home:
    """A folder with a job store and a spool; a context manager that holds the store open."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        base = Settings(
            home=folder,
            database_url=sqlite_url(folder / "jobs.db"),
            parallel=2,
            chunk_size=CHUNK,
            timeouts=Timeouts(connect=5, stall=10, answer=30, commit=30),
            retry=QUICK,
        )
        self.settings = replace(base, **settings)
        self.progress = Recorder()
        folder.mkdir(exist_ok=True)
        shutil.copy(_empty_store(), folder / "jobs.db")
        self.store = Store.open(self.settings.database_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.store.close()

    @property
    def spool(self) -> Spool:
        return Spool(self.settings.spool)

    def enqueue(self, image: Path | str, to: str | None = None, **options: Any) -> JobRecord:
        places = () if to is None else (to,)
        (job,) = enqueue(self.store, str(image), to=places, **{"settings": self.settings, **options})
        return job

    def run(
        self,
        only: Collection[int] | None = None,
        *,
        forever: bool = False,
        wait: bool = False,
        **settings: Any,
    ) -> RunResult:
        """Work the queue in this thread; ``settings`` differ from the home's own."""
        ours = replace(self.settings, **settings)
        if ours.login_registry is None:  # as the commands do
            jobs = [job for job in self.store.jobs.list() if only is None or job.id in only]
            ours = replace(ours, login_registry=ours.registry_of_login({job.registry for job in jobs}))
        return run(self.store, ours, self.progress, only=only, forever=forever, wait=wait)

    def push(self, image: Path | str, to: str, **options: Any) -> JobRecord:
        """Enqueue, run that job, and see that it succeeded."""
        job = self.enqueue(image, to, **options)
        result = self.run([job.id])
        assert result.exit_code == 0, (self.job(job.id), self.events(job.id))
        return self.job(job.id)

    def job(self, job_id: int) -> JobRecord:
        return self.store.jobs.get(job_id)

    def state(self, job_id: int) -> JobState:
        return self.job(job_id).state

    def figures(self, job_id: int) -> tuple[int, int, int]:
        """``bytes_total``, ``bytes_done`` and ``bytes_sent`` as ``pusher status --json`` shows them."""
        totals = self.store.jobs.totals([job_id])[job_id]
        return totals.bytes_total, totals.bytes_done, totals.bytes_sent

    def events(self, job_id: int) -> list[tuple[str, str]]:
        return [(event.kind, event.message) for event in self.store.events.of(job_id)]

    def kinds(self, job_id: int) -> list[str]:
        """The kinds of a job's events, but for ``compression``, which every job that compresses has, for the
        count of ``connection-breaks``, and for those of a registry or another job that is waited for, as on a
        busy machine."""
        silence = re.compile(r"\S+ (does not respond|responds again)")
        events = [event for event in self.events(job_id) if not silence.fullmatch(event[1])]
        return [kind for kind, _ in events if kind not in ("compression", "connection-breaks", "blob-wait")]

    def assert_clean(self) -> None:
        """Nothing half-written, no lock of a dead worker, no lease, and a store that passes its check."""
        assert migrate.check(self.settings.database_url).problems == ()
        assert list((self.settings.spool / "tmp").iterdir()) == []
        assert list(self.settings.workers.glob("*.lock")) == []
        assert self.store.jobs.owners() == set()
        for digest, _, _ in self.spool.blobs():
            assert self.spool.verify(digest)


@functools.cache
def _empty_store() -> Path:
    """A job store's file, made once a test process: making one takes longer than most tests here."""
    folder = tempfile.TemporaryDirectory(prefix="pusher-store-")
    atexit.register(folder.cleanup)
    path = Path(folder.name, "jobs.db")
    migrate.upgrade(sqlite_url(path))
    return path


def keep_controls(monkeypatch: pytest.MonkeyPatch) -> list[Control]:
    """Return a list that gets every ``Control``: first a run's own, then those of its jobs."""
    controls: list[Control] = []
    make = Control.__init__

    def keep(control: Control, parent: Control | None = None) -> None:
        make(control, parent)
        controls.append(control)

    monkeypatch.setattr(Control, "__init__", keep)
    return controls


class Background:
    """A run of the worker in a thread, ended by ``join``."""

    def __init__(self, home: Home, **options: Any) -> None:
        self.result: RunResult | None = None
        self.error: BaseException | None = None

        def work() -> None:
            try:
                self.result = home.run(**options)
            except BaseException as error:
                self.error = error

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def join(self, timeout: float = 60.0) -> RunResult:
        """What the run returned; raises what it raised."""
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the worker does not end"
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


def pushed(registry: FakeRegistry, repository: str, tag: str, image: Image) -> list[str]:
    """See that the registry holds exactly this image under the tag; digests of its blobs, config first.

    The config's bytes are the image's, every blob has its descriptor's digest and size, and decompresses to
    the diff ID that the config promises.
    """
    _, raw = registry.manifests[repository][tag]
    manifest = json.loads(raw)
    config, layers = manifest["config"], manifest["layers"]
    assert registry.blob(repository, config["digest"]) == image.config
    assert config["digest"] == image.config_digest
    assert len(layers) == len(image.layers)
    for descriptor, layer in zip(layers, image.layers, strict=True):
        blob = registry.blob(repository, descriptor["digest"])
        assert (sha256(blob), len(blob)) == (descriptor["digest"], descriptor["size"])
        assert sha256(unpacked(blob)) == layer.diff_id
    return [config["digest"], *(layer["digest"] for layer in layers)]


def blob_bytes(registry: FakeRegistry, repository: str) -> int:
    """Bytes of all blobs that the repository holds."""
    return sum(blob.size for blob in registry.blobs[repository].values())


def manifest_digest(registry: FakeRegistry, repository: str, tag: str) -> str:
    return "sha256:" + hashlib.sha256(registry.manifests[repository][tag][1]).hexdigest()


def cut_off(home: Home, registry: FakeRegistry, chunk: int) -> RunResult:
    """Work until the registry has half of the ``chunk``-th chunk, then take it away; the run gives up.

    The registry is there again afterwards, with its sessions.
    """
    registry.faults.add(Fault(On.CHUNK, Stall(after_bytes=CHUNK // 2), nth=chunk))
    worker = Background(home, give_up_after=0.1, parallel=1)
    registry.wait_for_fault(On.CHUNK)
    registry.stop()
    registry.faults.clear()
    result = worker.join()
    registry.start()
    return result
