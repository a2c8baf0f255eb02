"""A queue, several workers and a real distribution registry under random faults.

Workers are killed, frozen for longer than their leases, stopped; the clock is set, the job store locked,
the disk slow, the link cut. A seed gives the same order of faults. In the end every job has succeeded once,
every blob is read back and hashed, and nothing is left behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from pusher.errors import ExitCode
from pusher.store import migrate
from pusher.store.outages import StoreOutages
from pusher.store.records import JobState
from tests.support.databases import PostgresServer
from tests.support.docker_registry import DockerRegistry
from tests.support.home import Home
from tests.support.images import Image, make_image, write_archive
from tests.support.link import ShakyLink

_ROOT: Final = Path(__file__).parents[2]
_WORKERS: Final = 3
_LEASE: Final = 3.0
_STOPPED: Final = (128 + signal.SIGTERM, -signal.SIGTERM)
"""The exit codes of a worker that was stopped; the second is that before it has started."""
_CHUNK: Final = "200k"
_SIZES: Final = (300, 40_000, 200_000, 900_000, 2_000_000)


class Soak:
    """One run of it, over SQLite or a server of its own. ``figures`` counts what happened."""

    def __init__(
        self, folder: Path, registry: DockerRegistry, seed: int, server: PostgresServer | None = None
    ) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._registry = registry
        self._server = server
        where = {} if server is None else {"database_url": server.create("head")}
        self._home = Home(folder / "home", **where)
        self._home.store = self._home.store.waiting_out(StoreOutages(lambda text: None, limit=120))
        self._workers: list[subprocess.Popen[bytes]] = []
        self._stopping: set[int] = set()
        self._jobs: dict[int, tuple[str, Image]] = {}
        self._images = [
            make_image(
                *self._random.choices(_SIZES, k=self._random.randint(1, 4)), seed=number, compressible=0.2
            )
            for number in range(6)
        ]
        self._faults: list[Callable[[ShakyLink], None]] = []
        self.figures: Counter[str] = Counter()
        self._log = (folder / "workers.log").open("ab")

    def run(self, seconds: float, *, limit: float) -> None:
        """Inject faults for so long, then check that every job ends well within ``limit`` seconds more."""
        with ShakyLink(self._registry.address) as link, self._home:
            try:
                for _ in range(4):
                    self._enqueue(link)
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    self._start_missing()
                    self._inject_fault(link)
                    time.sleep(self._random.uniform(0.1, 0.6))
                self._finish(limit)
                self._check_result(link)
            finally:
                for worker in self._workers:
                    worker.kill()
                    worker.wait()
                self._log.close()

    # --- faults -------------------------------------------------------------------------------------------

    def _inject_fault(self, link: ShakyLink) -> None:
        if not self._faults:  # all of them, in an order of its own each time
            self._faults = [self._enqueue, self._enqueue, self._kill, self._freeze, self._cut, self._cut]
            self._faults += [self._stop, self._set_clock, self._lock_store, self._slow_disk]
            self._random.shuffle(self._faults)
        fault = self._faults.pop()
        self.figures[fault.__name__.removeprefix("_")] += 1
        fault(link)

    def _enqueue(self, link: ShakyLink) -> None:
        image = self._random.choice(self._images)
        number = len(self._jobs)
        archive = write_archive(self._folder / f"image{number}.tar", image)
        job = self._home.enqueue(archive, f"{link.address}/team/app{number % 5}:{number}")
        self._jobs[job.id] = (job.repository, image)

    def _kill(self, link: ShakyLink) -> None:
        if self._workers:
            self._random.choice(self._workers).kill()

    def _freeze(self, link: ShakyLink) -> None:
        """One of them, or all as when the machine sleeps; longer than a lease or not."""
        frozen = self._random.choice(([self._random.choice(self._workers)], self._workers))
        for worker in frozen:
            worker.send_signal(signal.SIGSTOP)
        time.sleep(self._random.choice((0.5, _LEASE + 1)))
        for worker in frozen:
            worker.send_signal(signal.SIGCONT)

    def _stop(self, link: ShakyLink) -> None:
        if self._workers:
            asked = self._random.choice(self._workers)
            asked.send_signal(signal.SIGTERM)
            self._stopping.add(asked.pid)

    def _cut(self, link: ShakyLink) -> None:
        link.cut()

    def _set_clock(self, link: ShakyLink) -> None:
        self._write("clock", self._random.choice((0, 3600, 40, -40, -2 * 86400)))

    def _lock_store(self, link: ShakyLink) -> None:
        """A server goes away instead and comes back."""
        if self._server is not None:
            with self._server.away():
                time.sleep(self._random.choice((0.5, _LEASE + 1)))
            return
        with closing(sqlite3.connect(self._home.settings.home / "jobs.db", isolation_level=None)) as other:
            other.execute("PRAGMA busy_timeout = 20000")
            other.execute("BEGIN IMMEDIATE")
            time.sleep(self._random.choice((0.5, _LEASE + 1)))
            other.execute("ROLLBACK")

    def _slow_disk(self, link: ShakyLink) -> None:
        self._write("sync", self._random.choice((0, 0, 0.1)))

    def _write(self, name: str, value: float) -> None:
        (self._folder / f"{name}.new").write_text(str(value))
        (self._folder / f"{name}.new").replace(self._folder / name)

    # --- workers ------------------------------------------------------------------------------------------

    def _start_missing(self) -> None:
        for worker in self._workers:
            if worker.poll() is not None:
                expected = [-signal.SIGKILL, *_STOPPED]
                if (
                    worker.pid in self._stopping
                ):  # perhaps while the store was away: it waits for no store then
                    expected.append(ExitCode.STORE)
                assert worker.returncode in expected, (worker.returncode, self._tail())
        self._workers = [worker for worker in self._workers if worker.poll() is None]
        while len(self._workers) < _WORKERS:
            self._workers.append(self._worker("--forever"))

    def _worker(self, *options: str) -> subprocess.Popen[bytes]:
        self.figures["workers"] += 1
        return subprocess.Popen(
            [sys.executable, "-m", "tests.soak.launcher", "run", "--chunk-size", _CHUNK, *options],
            env={
                **os.environ,
                "PUSHER_HOME": str(self._home.settings.home),
                "PUSHER_DATABASE_URL": self._home.settings.database_url,
                "PUSHER_TEST_SOAK": str(self._folder),
                "PUSHER_LEASE": f"{_LEASE:.0f}",
                "PYTHONPATH": str(_ROOT),
            },
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    def _finish(self, limit: float) -> None:
        self._write("clock", 0)
        self._write("sync", 0)
        deadline = time.monotonic() + limit
        while self._home.store.jobs.counts().keys() != {JobState.SUCCEEDED}:
            assert time.monotonic() < deadline, (self._home.store.jobs.counts(), self._tail())
            self._start_missing()
            time.sleep(0.1)
        for worker in self._workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self._workers:
            assert worker.wait(30) in _STOPPED, self._tail()
        assert self._worker().wait(30) == 0, self._tail()

    def _tail(self) -> str:
        return (self._folder / "workers.log").read_text(errors="replace")[-5000:]

    # --- the end ------------------------------------------------------------------------------------------

    def _check_result(self, link: ShakyLink) -> None:
        log = (self._folder / "workers.log").read_text(errors="replace")
        assert "Traceback" not in log, log[-5000:]
        assert "bug" not in log, log[-5000:]
        for job_id, (repository, image) in self._jobs.items():
            kinds = self._home.kinds(job_id)
            assert kinds.count("succeeded") == 1, self._home.events(job_id)
            self._read_back(repository, self._home.job(job_id).digest or "", image)
            for kind, message in self._home.events(job_id):
                taker, _, dead = message.removeprefix("taken over by ").partition(" from ")
                assert not (kind == "running" and taker == dead.partition(",")[0]), message
        self._home.assert_clean()
        assert list((self._home.settings.spool / "partial").iterdir()) == []
        assert self._home.store.uploads.list_abandoned() == []
        sessions = [*self._registry.data.rglob("_uploads/*")]
        self.figures["sessions left at the registry"] = len(sessions)
        assert len(sessions) <= self._most_unknown_sessions(), "more than can have had no response"
        self.figures["jobs"] = len(self._jobs)
        assert migrate.check(self._home.settings.database_url).problems == ()

    def _most_unknown_sessions(self) -> int:
        """Sessions that a worker may have opened without learning so, for it was killed or its link cut."""
        breaks = self.figures["kill"] + self.figures["freeze"] + self.figures["cut"]
        return breaks * self._home.settings.parallel

    def _read_back(self, repository: str, digest: str, image: Image) -> None:
        manifest = json.loads(self._get(f"{repository}/manifests/{digest}", digest))
        assert manifest["config"]["digest"] == image.config_digest
        assert len(manifest["layers"]) == len(image.layers)
        for blob in (manifest["config"], *manifest["layers"]):
            assert len(self._get(f"{repository}/blobs/{blob['digest']}", blob["digest"])) == blob["size"]
            self.figures["blobs read back"] += 1

    def _get(self, path: str, digest: str) -> bytes:
        request = urllib.request.Request(
            f"{self._registry.url}/v2/{path}",
            headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            content: Any = answer.read()
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == digest
        return bytes(content)
