"""A queue, a fleet of workers and a real distribution registry under random faults.

Workers are killed, frozen for longer than their leases, stopped; the clock is set, the job store locked or
its server killed, the disk slow, the link cut; a machine with all its workers is lost for a while. A seed
gives the same order of faults. In the end every job has succeeded once, every blob is read back and hashed,
no more was sent than the faults explain, and nothing is left behind.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pusher.errors import ExitCode
from pusher.store.outages import StoreOutages
from pusher.store.queue_settings import LIMIT_RATE
from pusher.store.records import JobRecord, JobState
from tests.soak.rate import EXACT_WITHIN, RateSamples
from tests.soak.result import CHUNK, ORIGIN, SoakResult, lines_of_faults
from tests.support.databases import PostgresServer
from tests.support.docker_registry import DockerRegistry
from tests.support.home import Home
from tests.support.images import Image, make_image, write_archive
from tests.support.link import ShakyLink

_ROOT: Final = Path(__file__).parents[2]
_LEASE: Final = 3.0
_STOPPED: Final = (128 + signal.SIGTERM, -signal.SIGTERM)
"""The exit codes of a worker that was stopped; the second is that before it has started."""
_SIZES: Final = (300, 40_000, 200_000, 900_000, 2_000_000)
_IMAGES: Final = 6
_BASES: Final = 2
"""Images with the same size of the lowest layer share it."""
_TAKEN_OVER_WITHIN: Final = _LEASE + 4.0
"""Seconds after which a lost machine's jobs are free: the lease, and the time it is still respected."""
_PATIENCE: Final = 60.0
"""Seconds that other workers may take besides, on a busy machine, until they have room for them."""
_LONGEST: Final = 90.0
"""Seconds that one step of it may take on a busy machine: an end, a turn with the job store."""


_RATE_SECONDS: Final = 30
"""Seconds for which a limit of the fleet's rate is in use."""
_FOLLOWED_WITHIN: Final = 2.0
"""Seconds after which running workers follow it."""


@dataclass(frozen=True)
class Fleet:
    """``workers`` on each of some machines: a PUSHER_HOME each, which share nothing but the job store."""

    machines: int = 1
    workers: int = 3
    jobs: int | None = None
    """How many are enqueued in all; None: as many as there is time for."""
    rate: int | None = None
    """Bytes a second that all workers may send together once there are no more faults; None: not tried."""


@dataclass(frozen=True)
class _Worker:
    machine: int
    process: subprocess.Popen[bytes]


class Soak:
    """One run of it, over SQLite or a server of its own. ``figures`` counts what happened."""

    def __init__(
        self,
        folder: Path,
        registry: DockerRegistry,
        seed: int,
        server: PostgresServer | None = None,
        fleet: Fleet | None = None,
    ) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._registry = registry
        self._server = server
        self._fleet = fleet or Fleet()
        where = {} if server is None else {"database_url": server.create("head")}
        self._homes = [Home(folder / f"home{n}", **where) for n in range(self._fleet.machines)]
        self._store = self._homes[0].store.waiting_out(StoreOutages(lambda text: None, limit=120))
        for home in self._homes[1:]:
            home.store.close()
        for home in self._homes:
            home.store = self._store
        self._workers: list[_Worker] = []
        self._lost: set[int] = set()
        self._stopping: set[int] = set()
        self._jobs: dict[int, tuple[str, Image]] = {}
        self._images = [self._make_image(number) for number in range(_IMAGES)]
        self._faults: list[Callable[[ShakyLink], None]] = []
        self._had_each_fault = False
        self.figures: Counter[str] = Counter()
        self.log_path = folder / "workers.log"
        """What the workers printed."""
        self._log = self.log_path.open("ab")

    def _make_image(self, number: int) -> Image:
        """One that shares its lowest layers with others."""
        base = make_image(_SIZES[-1], _SIZES[1], seed=100 + number % _BASES, compressible=0.2)
        own = self._random.choices(_SIZES, k=self._random.randint(1, 3))
        return replace(base, layers=base.layers + make_image(*own, seed=number, compressible=0.2).layers)

    def run(self, seconds: float, *, limit: float) -> None:
        """Inject faults for so long, each kind at least once, and until all jobs are enqueued.

        Then check that every job ends well within ``limit`` seconds more.
        """
        with ShakyLink(self._registry.address) as link:
            try:
                self._fill_origin()
                for _ in range(4):
                    self._enqueue(link)
                until = time.monotonic() + seconds
                while time.monotonic() < until or self._has_more_to_do():
                    self._start_missing()
                    self._inject_fault(link)
                    time.sleep(self._random.uniform(0.1, 0.6))
                self._wait_for_jobs(limit)
                rates = self._measure_rate(link, limit) if self._fleet.rate else []
                self._finish()
                SoakResult(self._homes, self._registry, self._jobs, self.figures).check(
                    link, self.log_path.read_text(errors="replace")
                )
                self._check_rates(rates)
            finally:
                for worker in self._workers:
                    worker.process.kill()
                    worker.process.wait()
                self._log.close()
                self._store.close()

    def _fill_origin(self) -> None:
        """Push each image to where the jobs find it whose images are in a registry."""
        for number, image in enumerate(self._images):
            archive = write_archive(self._folder / f"origin{number}.tar", image)
            self._homes[0].push(archive, f"{self._registry.address}/{ORIGIN}{number}:1")

    # --- faults -------------------------------------------------------------------------------------------

    def _inject_fault(self, link: ShakyLink) -> None:
        if not self._faults:  # all of them, in an order of its own each time
            self._faults = [self._enqueue, self._enqueue, self._kill, self._freeze, self._cut, self._cut]
            self._faults += [self._stop, self._set_clock, self._lock_store, self._slow_disk]
            if self._fleet.machines > 1:
                self._faults += [self._lose_machine, self._enqueue, self._enqueue]
            self._random.shuffle(self._faults)
        fault = self._faults.pop()
        self._had_each_fault |= not self._faults
        self.figures[fault.__name__.removeprefix("_")] += 1
        fault(link)

    def _has_more_to_do(self) -> bool:
        return not self._had_each_fault or self._has_more_to_enqueue()

    def _has_more_to_enqueue(self) -> bool:
        return self._fleet.jobs is not None and len(self._jobs) < self._fleet.jobs

    def _enqueue(self, link: ShakyLink) -> None:
        """A job, or in a fleet one on each machine; a third of its images are in a registry."""
        for home in self._homes:
            if self._fleet.jobs is not None and not self._has_more_to_enqueue():
                return
            number, which = len(self._jobs), self._random.randrange(_IMAGES)
            place = f"{link.address}/team/app{number % 5}:{number}"
            if len(self._homes) > 1 and self._random.random() < 1 / 3:
                job = home.enqueue(f"docker://{self._registry.address}/{ORIGIN}{which}:1", place)
            else:
                archive = write_archive(self._folder / f"image{number}.tar", self._images[which])
                job = home.enqueue(archive, place)
            self._jobs[job.id] = (job.repository, self._images[which])

    def _choose_worker(self) -> _Worker | None:
        return self._random.choice(self._workers) if self._workers else None

    def _kill(self, link: ShakyLink) -> None:
        if worker := self._choose_worker():
            worker.process.kill()

    def _freeze(self, link: ShakyLink) -> None:
        """One of them, or all of a machine as when it sleeps; longer than a lease or not."""
        if (one := self._choose_worker()) is None:
            return
        all_of_it = [worker for worker in self._workers if worker.machine == one.machine]
        frozen = self._random.choice(([one], all_of_it))
        for worker in frozen:
            worker.process.send_signal(signal.SIGSTOP)
        time.sleep(self._random.choice((0.5, _LEASE + 1)))
        for worker in frozen:
            worker.process.send_signal(signal.SIGCONT)

    def _stop(self, link: ShakyLink) -> None:
        if worker := self._choose_worker():
            worker.process.send_signal(signal.SIGTERM)
            self._stopping.add(worker.process.pid)

    def _lose_machine(self, link: ShakyLink) -> None:
        """A machine is gone until the others have its jobs whose images are in a registry."""
        machine = self._random.randrange(len(self._homes))
        gone = [worker for worker in self._workers if worker.machine == machine]
        for worker in gone:
            worker.process.kill()
            worker.process.wait()
        lost_at = time.monotonic()
        self._lost.add(machine)
        dead = {worker.process.pid for worker in gone}
        left = {job.id: job.lease_owner for job in self._store.workers.running_jobs() if _pid(job) in dead}
        left = {job: owner for job, owner in left.items() if self._store.jobs.get(job).machine is None}
        while any(self._store.jobs.get(job).lease_owner == owner for job, owner in left.items()):
            waited = time.monotonic() - lost_at
            assert waited < _TAKEN_OVER_WITHIN + _PATIENCE, self._tail(left)
            self._start_missing()
            time.sleep(0.1)
        if left:
            waited = time.monotonic() - lost_at
            self.figures["jobs taken over from a lost machine"] += len(left)
            longest = self.figures["longest take-over, in tenths of a second"]
            self.figures["longest take-over, in tenths of a second"] = max(longest, round(waited * 10))
        self._lost.remove(machine)

    def _cut(self, link: ShakyLink) -> None:
        link.cut()

    def _set_clock(self, link: ShakyLink) -> None:
        self._write("clock", self._random.choice((0, 3600, 40, -40, -2 * 86400)))

    def _lock_store(self, link: ShakyLink) -> None:
        """A server is shut down, killed or frozen instead, and comes back."""
        seconds = self._random.choice((0.5, _LEASE + 1))
        if self._server is not None:
            how = self._random.choice((self._server.away, self._server.crashed, self._server.frozen))
            with how():
                time.sleep(seconds)
            return
        path = self._homes[0].settings.home / "jobs.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute(f"PRAGMA busy_timeout = {_LONGEST * 1000:.0f}")
            other.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            other.execute("ROLLBACK")

    def _slow_disk(self, link: ShakyLink) -> None:
        self._write("sync", self._random.choice((0, 0, 0.1)))

    def _write(self, name: str, value: float) -> None:
        (self._folder / f"{name}.new").write_text(str(value))
        (self._folder / f"{name}.new").replace(self._folder / name)

    # --- workers ------------------------------------------------------------------------------------------

    def _start_missing(self) -> None:
        for worker in self._workers:
            if worker.process.poll() is not None:
                expected = [-signal.SIGKILL, *_STOPPED]
                if worker.process.pid in self._stopping:
                    expected.append(ExitCode.STORE)  # it waits for no store then
                assert worker.process.returncode in expected, self._tail(worker.process.returncode)
        self._workers = [worker for worker in self._workers if worker.process.poll() is None]
        for machine in set(range(len(self._homes))) - self._lost:
            alive = sum(worker.machine == machine for worker in self._workers)
            self._workers += [self._worker(machine, "--forever") for _ in range(self._fleet.workers - alive)]

    def _worker(self, machine: int, *options: str) -> _Worker:
        self.figures["workers"] += 1
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.launcher", "run", "--chunk-size", str(CHUNK), *options],
            env={
                **os.environ,
                "PUSHER_HOME": str(self._homes[machine].settings.home),
                "PUSHER_DATABASE_URL": self._homes[machine].settings.database_url,
                "PUSHER_TEST_SOAK": str(self._folder),
                "PUSHER_LEASE": f"{_LEASE:.0f}",
                "PYTHONPATH": str(_ROOT),
            },
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        return _Worker(machine, process)

    # --- the end ------------------------------------------------------------------------------------------

    def _wait_for_jobs(self, limit: float) -> None:
        self._write("clock", 0)
        self._write("sync", 0)
        deadline = time.monotonic() + limit
        while self._store.jobs.counts().keys() != {JobState.SUCCEEDED}:
            assert time.monotonic() < deadline, self._tail(self._store.jobs.counts())
            self._start_missing()
            time.sleep(0.1)

    def _measure_rate(self, link: ShakyLink, limit: float) -> list[float]:
        """Push images that share nothing under a limit for all workers; return the rates of all windows."""
        rate, workers = self._fleet.rate or 0, len(self._homes) * self._fleet.workers
        size = rate * _RATE_SECONDS // workers
        self._store.settings.set(LIMIT_RATE, str(rate))
        time.sleep(_FOLLOWED_WITHIN)
        samples = RateSamples(size * workers)
        with samples.taking(link, lambda: [worker.process.pid for worker in self._workers]):
            for number in range(workers):
                image = make_image(size, seed=1000 + number, compressible=0.0)
                archive = write_archive(self._folder / f"rate{number}.tar", image)
                home = self._homes[number % len(self._homes)]
                job = home.enqueue(archive, f"{link.address}/team/rate:{number}")
                self._jobs[job.id] = (job.repository, image)
            self._wait_for_jobs(limit)
        self._store.settings.clear(LIMIT_RATE)
        return samples.rates()

    def _check_rates(self, rates: Sequence[float]) -> None:
        """Check that the fleet sent what the limit allows, no more and no less."""
        if (rate := self._fleet.rate) is None:
            return
        self.figures["windows of 10 s of the fleet's rate"] = len(rates)
        if not rates:
            return  # the machine was always too busy
        lowest, highest = min(rates) / rate, max(rates) / rate
        self.figures["fleet rate, lowest of 10 s, in thousandths of the limit"] = round(lowest * 1000)
        self.figures["fleet rate, highest of 10 s, in thousandths of the limit"] = round(highest * 1000)
        assert 1 - EXACT_WITHIN <= lowest <= highest <= 1 + EXACT_WITHIN, self.figures

    def _finish(self) -> None:
        for worker in self._workers:
            worker.process.send_signal(signal.SIGTERM)
        for worker in self._workers:
            assert worker.process.wait(_LONGEST) in _STOPPED, self._tail()
        for machine in range(len(self._homes)):
            assert self._worker(machine).process.wait(_LONGEST) == 0, self._tail()

    def _tail(self, what: object = "") -> str:
        log = self.log_path.read_text(errors="replace")
        return f"{what}\n{lines_of_faults(log)}\n...\n{log[-5000:]}"


def _pid(job: JobRecord) -> int:
    return int((job.lease_owner or "/0").partition("/")[2].partition("-")[0])
