"""Bad links, restarts and refusals with Debian's docker-registry and a real Docker."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pusher.errors import EngineNotPermitted, EngineNotRunning, ExitCode
from pusher.sources import find
from pusher.store.records import JobRecord
from tests.support.docker_registry import CREDENTIALS, DockerRegistry
from tests.support.engines import Docker
from tests.support.home import Background, Home
from tests.support.images import make_image, write_archive
from tests.support.link import ShakyLink
from tests.support.real import ReadBack, require
from tests.support.waiting import PATIENCE

_CHUNK = 200_000
_NOBODY = 65534
_IMAGE = make_image(2_000_000, 250_000, 1_000, compressible=0.1)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home", chunk_size=_CHUNK, parallel=1) as home:
        yield home


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("image") / "app.tar", _IMAGE)


def _right(read_back: ReadBack, reference: str, login: tuple[str, str] | None = None) -> None:
    read = read_back(reference, credentials=login)
    assert read.config == _IMAGE.config
    assert tuple(layer.diff_id for layer in read.layers) == _IMAGE.diff_ids


def _push(home: Home, archive: Path, to: str, chunks: int, act: Callable[[], None]) -> JobRecord:
    """Push, and ``act`` once between two chunks, after so many were acknowledged.

    In this thread, not in the worker's: a daemon started there would end with that thread.
    """
    seen, reached, go_on = itertools.count(1), threading.Event(), threading.Event()

    def acknowledged(_job: int, _digest: str, offset: int) -> None:
        if offset and next(seen) == chunks:
            reached.set()
            assert go_on.wait(PATIENCE)

    home.progress.hooks["blob_acknowledged"] = acknowledged
    job = home.enqueue(archive, to)
    worker = Background(home, only=[job.id], give_up_after=0.1)
    assert reached.wait(PATIENCE)
    act()
    go_on.set()
    worker.join()
    return home.job(job.id)


def test_a_link_that_resets_every_connection(
    home: Home, docker_registry: DockerRegistry, archive: Path, read_back: ReadBack
) -> None:
    """distribution 2.x loses a session whose chunk breaks; a connection for each chunk gets through."""
    with ShakyLink(docker_registry.address, reset_every=3 * _CHUNK) as link:
        job = home.push(archive, f"{link.address}/resets/app:1")
        assert link.resets > 0
        total, done, sent = home.figures(job.id)
        assert done == total
        assert sent < 2 * total
    _right(read_back, f"{docker_registry.address}/resets/app:1")
    assert 0 < home.kinds(job.id).count("session-lost") <= link.resets


def test_a_connection_cut_between_chunks_costs_nothing(
    home: Home, docker_registry: DockerRegistry, archive: Path, read_back: ReadBack
) -> None:
    with ShakyLink(docker_registry.address) as link:
        job = _push(home, archive, f"{link.address}/cut/app:1", 4, link.cut)
    _right(read_back, f"{docker_registry.address}/cut/app:1")
    assert "session-lost" not in home.kinds(job.id)
    assert home.figures(job.id)[2] <= home.figures(job.id)[0] + _CHUNK + 2_000


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_a_restart_with_a_fixed_secret_keeps_the_session(
    home: Home,
    make_docker_registry: Callable[..., DockerRegistry],
    archive: Path,
    read_back: ReadBack,
    kill: bool,
) -> None:
    registry = make_docker_registry(secret="fixed")
    to = f"{registry.address}/restart/app:1"
    job = _push(home, archive, to, 5, lambda: registry.restart(kill=kill))
    _right(read_back, f"{registry.address}/restart/app:1")
    assert "session-lost" not in home.kinds(job.id)
    assert home.figures(job.id)[2] <= home.figures(job.id)[0] + _CHUNK + 2_000


def test_a_restart_with_a_new_secret_loses_the_session_and_says_so(
    home: Home, make_docker_registry: Callable[..., DockerRegistry], archive: Path, read_back: ReadBack
) -> None:
    registry = make_docker_registry()
    job = _push(home, archive, f"{registry.address}/restart/app:1", 5, registry.restart)
    _right(read_back, f"{registry.address}/restart/app:1")
    assert home.kinds(job.id).count("session-lost") == 1


def test_a_registry_that_is_away_for_a_while(
    home: Home, make_docker_registry: Callable[..., DockerRegistry], archive: Path, read_back: ReadBack
) -> None:
    registry = make_docker_registry(secret="fixed")
    waiting = job = _push(home, archive, f"{registry.address}/away/app:1", 3, registry.stop)
    assert (waiting.state, waiting.attempts) == ("waiting", 0)
    assert waiting.error is not None
    assert waiting.error.code == "registry-unreachable"
    registry.start()
    home.store.jobs.retry(job.id)
    assert home.run().exit_code == ExitCode.DONE
    _right(read_back, f"{registry.address}/away/app:1")
    assert "session-lost" not in home.kinds(job.id)


def test_a_password_wrong_then_right(
    home: Home, make_docker_registry: Callable[..., DockerRegistry], archive: Path, read_back: ReadBack
) -> None:
    registry = make_docker_registry(authenticated=True)
    user, password = CREDENTIALS
    job = home.enqueue(archive, f"{registry.address}/login/app:1")
    assert home.run(username=user, password="wrong").exit_code == ExitCode.AUTH
    error = home.job(job.id).error
    assert error is not None
    assert error.code == "credentials-rejected"
    assert registry.address in error.message
    home.store.jobs.retry(job.id)
    assert home.run(username=user, password=password).exit_code == ExitCode.DONE
    _right(read_back, f"{registry.address}/login/app:1", CREDENTIALS)


def test_relative_locations(
    home: Home, make_docker_registry: Callable[..., DockerRegistry], archive: Path, read_back: ReadBack
) -> None:
    registry = make_docker_registry(relative_urls=True)
    with ShakyLink(registry.address) as link:
        home.push(archive, f"{link.address}/relative/app:1")
        assert link.bytes_sent > 2_000_000, "relative locations lead through the link again"
    _right(read_back, f"{registry.address}/relative/app:1")


# --- Docker is not there ----------------------------------------------------------------------------------


def test_docker_that_does_not_run(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("docker")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(EngineNotRunning) as caught:
        home.enqueue("app:1", "registry.example.com/app:1")
    assert caught.value.hint
    assert home.store.jobs.list() == []


def test_docker_that_is_not_permitted(dockerd: Docker) -> None:
    """The socket is root's, and we are nobody, like any user who is not in the group docker."""
    source, _ = find("app:1")
    dockerd.folder.chmod(0o755)
    os.seteuid(_NOBODY)
    try:
        with pytest.raises(EngineNotPermitted) as caught:
            source.resolve()
    finally:
        os.seteuid(0)
    assert "docker" in caught.value.hint


def test_a_socket_that_is_no_docker(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something listens and closes: no hang, a sentence."""
    require("docker")
    path = tmp_path / "odd.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        listener.close()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    with pytest.raises(EngineNotRunning):
        home.enqueue("app:1", "registry.example.com/app:1")
