"""The command line in this process, with a job store of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pusher.cli import main
from pusher.store.records import JobRecord, NewBlob, NewJob
from pusher.store.store import Store
from tests.progress.helpers import digest
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry


@dataclass(frozen=True)
class Result:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


Pusher = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PUSHER_HOME", str(tmp_path / "pusher"))
    return tmp_path / "pusher"


@pytest.fixture
def pusher(home: Path, capsys: pytest.CaptureFixture[str]) -> Pusher:
    """Run a command."""

    def run(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Result(int(ended.value.code), captured.out, captured.err)

    return run


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(DISTRIBUTION_3) as running:
        yield running


class Clock:
    """The store's time; starts at noon."""

    def __init__(self) -> None:
        self.now = datetime(2025, 1, 31, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job store to copy: the migrations run once."""
    path = tmp_path_factory.mktemp("store") / "jobs.db"
    Store.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def store(home: Path, clock: Clock, empty_store: Path) -> Iterator[Store]:
    home.mkdir()
    shutil.copy(empty_store, home / "jobs.db")
    with Store.open(f"sqlite:///{home}/jobs.db", clock=clock) as store:
        yield store


LAYERS = (
    NewBlob(digest("1"), "layer", digest("a"), 300 * 1024**2),
    NewBlob(digest("2"), "layer", digest("b"), 700 * 1024**2),
)


def add_job(store: Store, name: str = "app:1.2", *, registry: str = "registry.example.com") -> JobRecord:
    """Queue ``name`` for the same name at ``registry``, beside others for it."""
    repository, _, tag = name.partition(":")
    source = {"kind": "docker"}
    return store.jobs.add(
        NewJob(
            name, source, digest("c"), registry, repository, tag, LAYERS, config_size=1024, keeps_older=True
        )
    )


def claim(store: Store, job: JobRecord) -> JobRecord:
    """Take exactly this job, as a worker would."""
    claimed = store.jobs.claim("worker", lease=60, only=[job.id])
    assert claimed is not None
    return claimed
