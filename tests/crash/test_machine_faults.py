"""Real workers on a machine that lacks something: a sentence each, and they continue when it is over."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pusher.errors import ExitCode
from pusher.store.records import JobState
from tests.crash.conftest import ROOT, Pusher, ended
from tests.support.databases import PostgresServer
from tests.support.fakeregistry import FakeRegistry
from tests.support.home import Home, pushed
from tests.support.images import Image
from tests.support.waiting import PATIENCE


@pytest.fixture
def start() -> Iterator[Callable[[Home], Pusher]]:
    with ExitStack() as stack:

        def begin(home: Home) -> Pusher:
            pusher = Pusher(home)
            stack.callback(pusher.close)
            return pusher

        yield begin


@pytest.mark.parametrize("home", ["sqlite", "postgresql"], indirect=True)
def test_forty_files_are_enough(home: Home, registry: FakeRegistry, archive: Path, image: Image) -> None:
    """As after ``ulimit -n 40``."""
    jobs = [home.enqueue(archive, f"{registry.address}/app{n}:1") for n in range(3)]
    command = [sys.executable, "-m", "pusher", "run", "--parallel", "4"]
    settings = home.settings
    env = {"PUSHER_HOME": str(settings.home), "PUSHER_DATABASE_URL": settings.database_url}
    done = subprocess.run(
        ["prlimit", "--nofile=40:40", *command],
        env={**os.environ, **env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == ExitCode.DONE, done.stderr
    assert "Traceback" not in done.stderr
    for job in jobs:
        pushed(registry, job.repository, "1", image)


def test_a_home_that_is_mounted_read_only_and_writable_again(
    tmp_path: Path,
    start: Callable[[Home], Pusher],
    registry: FakeRegistry,
    archive: Path,
    image: Image,
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    folder = tmp_path / "home"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700,size=16M", "tmpfs", str(folder)], check=True)
    try:
        with Home(folder) as home:
            pusher = start(home)
            job = home.enqueue(archive, f"{registry.address}/app:1")
            home.store.close()
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
            assert ended(pusher.start("status")).returncode == ExitCode.DONE
            for command in ("run", "pause 1", "prune", f"enqueue {archive} --to {registry.address}/app:2"):
                refused = ended(pusher.start(*command.split()))
                assert refused.returncode == ExitCode.STORE, (command, refused.stderr)
                assert str(folder) in refused.stderr, command
                assert "on a disk that is mounted read-only" in refused.stderr, command
                assert "hint: make the disk writable" in refused.stderr, command
            subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
            done = pusher.work()
            assert done.returncode == ExitCode.DONE, done.stderr
            assert home.state(job.id) is JobState.SUCCEEDED
        pushed(registry, "app", "1", image)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_server_whose_connections_are_all_in_use(
    tmp_path: Path,
    postgres: PostgresServer,
    start: Callable[[Home], Pusher],
    registry: FakeRegistry,
    archive: Path,
    image: Image,
) -> None:
    """A run needs several at a time; with fewer its threads wait for each other's."""
    import psycopg

    url = postgres.create("head")
    few = url.replace("postgres@", "few@")
    name = url.partition("?")[0].rpartition("/")[2]
    postgres.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 2")
    postgres.execute(f"ALTER DATABASE {name} OWNER TO few")
    with psycopg.connect(url) as connection:
        connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO few")
        connection.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO few")
    try:
        with Home(tmp_path / "home", database_url=url) as home:
            pusher = start(Home(tmp_path / "few", database_url=few))
            job = pusher.home.enqueue(archive, f"{registry.address}/app:1")
            pusher.home.store.close()
            held = [psycopg.connect(few) for _ in range(2)]
            refused = ended(pusher.start("status"))
            assert refused.returncode == ExitCode.STORE
            assert "has no connection left" in refused.stderr
            assert "hint: run fewer workers" in refused.stderr
            for connection in held:
                connection.close()
            done = pusher.work(parallel=4)
            assert done.returncode == ExitCode.DONE, done.stderr
            assert home.state(job.id) is JobState.SUCCEEDED
        pushed(registry, "app", "1", image)
    finally:
        postgres.drop(url)
        postgres.execute("DROP ROLE few")
