"""Two versions of pusher at one store: the older one stays at work, or says why it cannot."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pusher.errors import ExitCode, StoreTooNew
from pusher.store import migrate, schema
from pusher.store.records import JobState
from pusher.store.store import Store
from tests.store.newer_version import NEXT
from tests.support.databases import FakeClock, digest, new_job
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry
from tests.support.images import make_image, write_archive

ROOT = Path(__file__).parents[2]
SAME, NEWER = schema.OLDEST, NEXT
"""The oldest revision that the next version leaves in use: those of today, or only its own."""

_MIGRATION = f"""
import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{schema.head()}"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("colour", sa.Text(), nullable=False, server_default="red"))
    {{more}}
"""

Newer = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(url: str, tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "pusher-home"
    home.mkdir(mode=0o700)
    return {**os.environ, "PUSHER_HOME": str(home), "PUSHER_DATABASE_URL": url, "PYTHONPATH": str(ROOT)}


def _pusher(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "pusher", *command]
    return subprocess.run(program, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def newer(environment: dict[str, str], tmp_path: Path) -> Newer:
    """How to run a command of the next version."""

    def run(oldest: str, *command: str, more: str = "pass") -> subprocess.CompletedProcess[str]:
        folder = tmp_path / "migrations"
        if not folder.exists():
            shutil.copytree(migrate.folder(), folder, ignore=shutil.ignore_patterns("__pycache__"))
            (folder / "versions" / "next.py").write_text(_MIGRATION.format(more=more))
        program = [sys.executable, "-m", "tests.store.newer_version", str(folder), oldest, *command]
        return subprocess.run(program, env=environment, capture_output=True, text=True, check=False)

    return run


@contextmanager
def _worker(environment: dict[str, str], url: str) -> Iterator[subprocess.Popen[str]]:
    """A worker of today's version that waits for jobs."""
    command = [sys.executable, "-m", "pusher", "run", "--forever"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        with Store.open(url) as store:
            deadline = time.monotonic() + 60
            while not store.workers.all():
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_a_worker_stays_at_work_through_an_upgrade(
    environment: dict[str, str], newer: Newer, url: str, tmp_path: Path
) -> None:
    archive = write_archive(tmp_path / "image.tar", make_image(300))
    with FakeRegistry(DISTRIBUTION_3) as registry, _worker(environment, url) as worker:
        done = newer(SAME, "db", "upgrade")
        assert done.returncode == 0, done.stderr
        assert f"schema {schema.head()} -> {NEXT}" in done.stderr
        added = _pusher(environment, "enqueue", str(archive), "--to", f"{registry.address}/app:1")
        assert added.returncode == 0, added.stderr
        assert _pusher(environment, "wait", added.stdout.strip()).returncode == 0
        assert newer(SAME, "status", "1").returncode == 0
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 128 + signal.SIGTERM
    for command in (["db", "check"], ["db", "upgrade"]):
        done = _pusher(environment, *command)
        assert done.returncode == 0, done.stderr
        assert f"schema {NEXT}" in done.stderr


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
def test_an_upgrade_that_would_end_workers_waits_for_them(
    environment: dict[str, str], newer: Newer, url: str
) -> None:
    with _worker(environment, url) as worker:
        refused = newer(NEWER, "db", "upgrade")
        assert refused.returncode == ExitCode.STORE, refused
        assert f"/{worker.pid}" in refused.stderr
        assert "pusher db upgrade --force" in refused.stderr
        assert migrate.check(url).current == schema.head()
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)
    assert newer(NEWER, "db", "upgrade").returncode == 0
    late = _pusher(environment, "status")
    assert late.returncode == ExitCode.STORE, late
    assert "was upgraded by a newer pusher" in late.stderr
    assert "Traceback" not in late.stderr


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
def test_a_worker_that_cannot_use_the_store_any_more_says_so(
    environment: dict[str, str], newer: Newer, url: str
) -> None:
    with _worker(environment, url) as worker:
        done = newer(NEWER, "db", "upgrade", "--force", more='op.rename_table("documents", "papers")')
        assert done.returncode == 0, done.stderr
        _, said = worker.communicate(timeout=60)
        assert worker.returncode == ExitCode.STORE, said
        assert "was upgraded by a newer pusher" in said
        assert "install that version here" in said
        assert "move it away" not in said


def test_a_claim_is_refused_and_nothing_is_said_to_be_damaged(
    store: Store, url: str, clock: FakeClock
) -> None:
    """Leases end by themselves, for workers of the newer version."""
    store.jobs.add(new_job())
    with store._database.write() as connection:
        connection.execute("UPDATE schema_support SET oldest = 'next'")
        connection.execute("DROP TABLE registries")
    with pytest.raises(StoreTooNew):
        store.jobs.claim("w", lease=30)
    with pytest.raises(StoreTooNew, match="cannot use"):
        store.facts.get("registry.example.com")
    assert store.jobs.list(states=[JobState.QUEUED])
    assert store.documents.get(digest("a")) is None


def test_the_oldest_revision_is_one_of_ours() -> None:
    assert schema.OLDEST in schema.REVISIONS
    assert schema.can_use(schema.head())
    assert not schema.can_use("0001")
