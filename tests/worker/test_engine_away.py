"""Docker is away when a job is pushed: the job waits for it, as for a registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from pusher.errors import ExitCode
from pusher.store.records import JobRecord, JobState
from tests.support.fake_engine import FakeEngine
from tests.support.fakeregistry import FakeRegistry
from tests.support.home import Background, Home, pushed
from tests.support.images import Image, make_image, write_archive

DOWN = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"


@pytest.fixture
def image() -> Image:
    return make_image(15_000, 300, names=["app:1"], compressible=0.0)


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(engine.folder))
    return engine


@pytest.fixture
def job(home: Home, docker: FakeEngine, registry: FakeRegistry, image: Image, tmp_path: Path) -> JobRecord:
    """A job whose image is in a Docker that has stopped since."""
    docker.has(image, write_archive(tmp_path / "app.tar", image))
    job = home.enqueue("docker-daemon:app:1", f"{registry.address}/app:1")
    for command in ("inspect", "save"):
        docker.fails(command, DOWN)
    return job


def test_the_job_waits_and_continues(
    home: Home, docker: FakeEngine, job: JobRecord, registry: FakeRegistry, image: Image, tmp_path: Path
) -> None:
    worker = Background(home)
    home.progress.wait_for_note("Docker does not respond: retrying, at least every 0 s, for up to 30m")
    home.progress.wait_for("job_ended", 2)
    docker.has(image, tmp_path / "app.tar")
    assert worker.join().exit_code == ExitCode.DONE
    pushed(registry, "app", "1", image)
    assert home.job(job.id).attempts == 1, "an engine that is away is no attempt"


def test_a_run_gives_up_and_the_job_waits_for_the_next(home: Home, job: JobRecord) -> None:
    assert home.run(give_up_after=0.05).exit_code == ExitCode.UNFINISHED
    waiting = home.job(job.id)
    assert (waiting.state, waiting.error and waiting.error.code) == (JobState.WAITING, "engine-not-running")
