"""Machines that share a PostgreSQL: two homes here, each with worker processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pusher.store.records import JobRecord, JobState, Machine
from pusher.store.store import Store
from tests.crash.conftest import ended
from tests.support.databases import PostgresServer, postgres
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry, Fault, On, Stall
from tests.support.home import CHUNK, blob_bytes, pushed
from tests.support.images import Image, make_image, write_archive
from tests.support.waiting import wait_until

__all__ = ["postgres"]

LEASE = "6s"


@dataclass(frozen=True)
class Host:
    """A machine: a home, the job store of all, and its own copy of nothing else."""

    home: Path
    url: str
    spool: Path | None = None

    def start(self, *arguments: str, given: Path = Path(os.devnull)) -> subprocess.Popen[str]:
        names = {"PUSHER_HOME": str(self.home), "PUSHER_DATABASE_URL": self.url, "PUSHER_LEASE": LEASE}
        if self.spool is not None:
            names["PUSHER_SPOOL"] = str(self.spool)
        with given.open("rb") as stdin:
            return subprocess.Popen(
                [sys.executable, "-m", "pusher", *arguments],
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "300", **names},
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )

    def run(self, *arguments: str, code: int = 0, given: Path = Path(os.devnull)) -> str:
        """Run a command to its end, with a file as its input; return what it printed, errors last."""
        done = ended(self.start(*arguments, given=given))
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout + done.stderr

    def work(self, code: int = 0) -> str:
        return self.run("run", "--chunk-size", str(CHUNK), "--parallel", "1", code=code)

    def machines(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run("workers", "--json"))["machines"]
        return found


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    url = postgres.create("head")
    yield url
    postgres.drop(url)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(DISTRIBUTION_3) as registry:
        yield registry


@pytest.fixture
def a(tmp_path: Path, url: str) -> Host:
    return Host(tmp_path / "a", url)


@pytest.fixture
def b(tmp_path: Path, url: str) -> Host:
    return Host(tmp_path / "b", url)


@pytest.fixture
def image() -> Image:
    return make_image(70_000, 15_000, compressible=0.0)


@pytest.fixture
def archive(tmp_path: Path, image: Image) -> Path:
    return write_archive(tmp_path / "app.tar", image)


def job_of(url: str) -> JobRecord:
    with Store.open(url) as store:
        (job,) = store.jobs.list()
        return job


@contextmanager
def stalled(host: Host, registry: FakeRegistry, chunk: int) -> Iterator[subprocess.Popen[str]]:
    """A worker of this host that stands still in the middle of a chunk, and is killed at the end."""
    stall = Stall(after_bytes=CHUNK // 2)
    registry.faults.add(Fault(On.CHUNK, stall, nth=chunk))
    worker = host.start("run", "--chunk-size", str(CHUNK), "--parallel", "1")
    try:
        registry.wait_for_fault(On.CHUNK)
        yield worker
    finally:
        worker.kill()
        assert ended(worker).returncode == -9
        stall.release()


def test_an_image_is_pushed_from_the_machine_that_has_it(
    a: Host, b: Host, url: str, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    a.run("enqueue", str(archive), "--to", f"{registry.address}/app:1")
    told = b.work()
    assert "For other machines: job 1." in told
    assert job_of(url).attempts == 0
    assert not registry.requests()
    status = b.run("status")
    assert "MACHINE" in status
    assert "was last seen" in status
    assert "pusher move 1 --here" in status
    assert "was last seen" not in a.run("status"), "its own"
    a.work()
    pushed(registry, "app", "1", image)
    (described,) = json.loads(b.run("status", "--json"))["jobs"]
    there, here = sorted(b.machines(), key=lambda each: each["is_here"])
    assert (described["machine"], described["machine_id"]) == (there["name"], there["id"])
    assert here["home"] == str(b.home)
    assert (here["workers"], there["workers"]) == ([], []), "they have ended"


def test_an_image_in_a_registry_is_pushed_by_any(
    a: Host, b: Host, url: str, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    a.run("push", str(archive), "--to", f"{registry.address}/from:1")
    a.run("enqueue", f"docker://{registry.address}/from:1", "--to", f"{registry.address}/to:1")
    b.work()
    pushed(registry, "to", "1", image)
    with Store.open(url) as store:
        assert store.jobs.get(2).machine is None
        assert "no machine" not in b.run("move", "1", "--here", code=2)


def test_a_job_of_a_dead_machine_is_moved_and_resumes(
    a: Host, b: Host, url: str, registry: FakeRegistry, image: Image, archive: Path
) -> None:
    """Both have the archive at one path, as from a build that runs on each."""
    a.run("enqueue", str(archive), "--to", f"{registry.address}/app:1")
    with stalled(a, registry, 2):
        assert "is being pushed by a worker" in b.run("move", "1", "--here", code=2)
    with Store.open(url) as store:
        wait_until(lambda: store.jobs.get(1).has_lapsed(store.now()))
    assert "was last seen" in b.run("status", "1")
    assert "For other machines: job 1." in b.run("run", "--wait"), "it does not wait for a dead machine"
    assert "Job 1 is queued, and is pushed from this machine." in b.run("move", "1", "--here")
    assert "For other machines: job 1." in a.work(), "nor does the other one push it by now"
    b.work()
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + CHUNK
    with Store.open(url) as store:
        kinds = [event.kind for event in store.events.of(1)]
    assert kinds.count("moved") == 1


def test_another_image_is_not_moved(
    a: Host, b: Host, url: str, registry: FakeRegistry, image: Image, archive: Path, tmp_path: Path
) -> None:
    a.run("enqueue", str(archive), "--to", f"{registry.address}/app:1")
    other = write_archive(tmp_path / "other.tar", make_image(3_000))
    assert "is another image here" in b.run("move", "1", "--here", "--image", str(other), code=7)
    copy = shutil.copy(archive, tmp_path / "copy.tar")
    archive.unlink()
    told = b.run("move", "1", "--here", code=7)
    assert str(archive) in told
    assert "pusher move 1 --here --image IMAGE" in told
    assert not b.machines()[0]["is_here"], "it has not become a machine of the store"
    b.run("move", "1", "--here", "--image", str(copy))
    b.work()
    pushed(registry, "app", "1", image)
    assert "has ended (succeeded) and cannot be moved" in b.run("move", "1", "--here", code=2)


def test_workers_are_shown_with_what_they_do(
    a: Host, b: Host, url: str, registry: FakeRegistry, archive: Path
) -> None:
    a.run("enqueue", str(archive), "--to", f"{registry.address}/app:1")
    with stalled(a, registry, 1) as worker:
        (listed,) = b.machines()
        (shown,) = listed["workers"]
        assert (shown["pid"], shown["is_gone"], shown["jobs"][0]["id"]) == (worker.pid, False, 1)
        assert f"1 {archive}" in b.run("workers")
    assert a.machines()[0]["workers"][0]["is_gone"], "its lock is free"
    assert "gone; had 1" in a.run("workers")
    a.work()
    assert job_of(url).state is JobState.SUCCEEDED
    assert a.machines()[0]["workers"] == []


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "shared" / "spool"


def test_a_machine_with_the_same_spool_continues_once_all_blobs_are_there(
    a: Host, b: Host, url: str, registry: FakeRegistry, image: Image, archive: Path, spool: Path
) -> None:
    a, b, c = replace(a, spool=spool), replace(b, spool=spool), replace(b, home=b.home.with_name("c"))
    a.run("enqueue", str(archive), "--to", f"{registry.address}/app:1")
    assert "For other machines: job 1." in b.work()
    with stalled(a, registry, 2), Store.open(url) as store:
        wait_until(lambda: store.jobs.get(1).spool is not None)
    archive.unlink()
    with Store.open(url) as store:
        wait_until(lambda: store.jobs.get(1).has_lapsed(store.now()))
    assert "For other machines: job 1." in c.work(), "it has another spool"
    b.work()
    pushed(registry, "app", "1", image)
    assert registry.body_bytes_received() <= blob_bytes(registry, "app") + CHUNK


def test_a_job_goes_back_to_its_machine_if_the_spool_lost_a_blob(
    a: Host, b: Host, url: str, registry: FakeRegistry, image: Image, archive: Path, spool: Path
) -> None:
    a, b = replace(a, spool=spool), replace(b, spool=spool)
    a.run("enqueue", str(archive), "--to", f"{registry.address}/app:1")
    with stalled(a, registry, 1), Store.open(url) as store:
        wait_until(lambda: store.jobs.get(1).spool is not None)
    shutil.rmtree(spool / "sha256")
    with Store.open(url) as store:
        wait_until(lambda: store.jobs.get(1).has_lapsed(store.now()))
    assert "For other machines: job 1." in b.work()
    job = job_of(url)
    assert (job.state, job.spool, job.error) == (JobState.QUEUED, None, None)
    a.work()
    pushed(registry, "app", "1", image)


def test_an_image_from_a_pipe_is_pushed_by_any_with_the_spool(
    a: Host, b: Host, registry: FakeRegistry, image: Image, archive: Path, spool: Path
) -> None:
    """Machines that build need no worker: one with a good uplink compresses and sends."""
    a, b = replace(a, spool=spool), replace(b, spool=spool)
    a.run("enqueue", "-", "--to", f"{registry.address}/app:1", given=archive)
    b.work()
    pushed(registry, "app", "1", image)


def test_doctor_compares_the_machines(a: Host, b: Host, url: str, spool: Path) -> None:
    a, b = replace(a, spool=spool), replace(b, spool=spool)
    assert "0 other machines use the job store; its clock agrees with the server's" in a.run("doctor")
    for host in (a, b):
        host.work()
    told = a.run("doctor")
    assert f"its spool is shared with {os.uname().nodename}" in told
    (here,) = [each for each in a.machines() if each["is_here"]]
    with Store.open(url) as store:
        machine = Machine(here["id"], here["name"], here["home"], here["spool"])
        store.workers.register("another/1-boot-x", machine, pid=1, version="0.0.1", lease=60)
    refused = a.run("doctor", code=8)
    assert "a worker on another has the identity of this machine" in refused
    assert "workers of another version" in b.run("doctor")
