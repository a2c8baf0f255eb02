"""A home, a registry, and real ``pusher`` processes between them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.crash.launcher import HELD_BLOCK
from tests.support.databases import PostgresServer, postgres
from tests.support.fakeregistry import SERVERLESS, FakeRegistry, Fault, On, Stall
from tests.support.home import CHUNK, Home
from tests.support.images import Image, make_image, write_archive
from tests.support.waiting import PATIENCE

__all__ = ["postgres"]

ROOT: Final = Path(__file__).parents[2]
Point = tuple[str, str, int]
"""What to be killed at, ``before`` or ``after``, and at which call of it."""


class Pusher:
    """Starts ``pusher`` processes on one home; none outlives the test."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self,
        *arguments: str,
        point: Point | None = None,
        held_block: int | None = None,
        program: str = "pusher",
    ) -> subprocess.Popen[str]:
        """Start ``pusher ARGUMENTS``, to be killed at ``point``; both outputs are pipes.

        ``held_block``: see ``launcher``. ``program``: a module that starts pusher in another way.
        """
        modules = [program] if point is None else ["tests.crash.launcher", *map(str, point)]
        hold = {} if held_block is None else {HELD_BLOCK: str(held_block)}
        process = subprocess.Popen(
            [sys.executable, "-m", *modules, *arguments],
            env={**os.environ, **hold, **self._place(), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def _place(self) -> dict[str, str]:
        settings = self.home.settings
        return {"PUSHER_HOME": str(settings.home), "PUSHER_DATABASE_URL": settings.database_url}

    def work(
        self,
        *options: str,
        point: Point | None = None,
        parallel: int = 1,
        chunk: int = CHUNK,
        held_block: int | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """``pusher run`` to its end."""
        sizes = ["--chunk-size", str(chunk), "--parallel", str(parallel)]
        process = self.start("run", *sizes, *options, point=point, held_block=held_block)
        return ended(process)

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()


def read_until(process: subprocess.Popen[str], part: str) -> str:
    """Return what the process has printed on stderr, once that contains ``part``; ``ended`` has the rest."""
    assert process.stderr is not None
    said = b""
    while part.encode() not in said:
        data = os.read(process.stderr.fileno(), 4096)  # nothing stays in a buffer of Python's
        assert data, f"{part!r} was never said: {said.decode()}"
        said += data
    return said.decode()


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for the process; its exit code and outputs."""
    stdout, stderr = process.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/tests/crash/" in item.path.as_posix():
            item.add_marker(pytest.mark.crash)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(SERVERLESS.scaled(min=1_000, max=CHUNK)) as registry:
        yield registry


@pytest.fixture
def stall(registry: FakeRegistry) -> Iterator[Stall]:
    """The second chunk stands still half-way."""
    stall = Stall(after_bytes=CHUNK // 2)
    registry.faults.add(Fault(On.CHUNK, stall, nth=2))
    yield stall
    stall.release()


@pytest.fixture(params=["sqlite"])
def home(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Home]:
    """On SQLite; on PostgreSQL where a test is parametrized with that name."""
    if request.param == "sqlite":
        with Home(tmp_path / "home") as home:
            yield home
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create("head")
    with Home(tmp_path / "home", database_url=url) as home:
        yield home
    server.drop(url)


@pytest.fixture
def pusher(home: Home) -> Iterator[Pusher]:
    pusher = Pusher(home)
    yield pusher
    pusher.close()


@pytest.fixture(scope="session")
def image() -> Image:
    """Four chunks, one chunk, and a layer that fits in one request."""
    return make_image(70_000, 15_000, 300, compressible=0.0)


@pytest.fixture(scope="session")
def archive(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("image") / "app.tar", image)
