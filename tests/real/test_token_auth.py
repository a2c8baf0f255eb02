"""The real distribution registry with ``auth: token``, and tokens that live four seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pusher.config.values import MIB
from pusher.store.records import JobState
from tests.support.docker_registry import DockerRegistry
from tests.support.home import Home
from tests.support.images import make_image, write_archive
from tests.support.jwt_tokens import JwtServer
from tests.support.link import ShakyLink
from tests.support.real import ReadBack

LOGIN = ("ann", "s3cr3t")
LIFE = 4
RATE = 6 * MIB
LAYERS = (30 * MIB, 20 * MIB, 10 * MIB)
CHUNK = 1 * MIB


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[JwtServer]:
    with JwtServer(tmp_path, login=LOGIN, life=LIFE) as running:
        yield running


def test_a_push_of_many_tokens(
    tokens: JwtServer,
    make_docker_registry: Callable[..., DockerRegistry],
    read_back: ReadBack,
    tmp_path: Path,
) -> None:
    image = make_image(*LAYERS, compressible=0)
    archive = write_archive(tmp_path / "image.tar", image)
    registry = make_docker_registry(auth=tokens.auth)
    with (
        ShakyLink(registry.address, rate=RATE) as link,
        Home(tmp_path / "home", username=LOGIN[0], password=LOGIN[1], chunk_size=CHUNK, parallel=3) as home,
    ):
        started = time.monotonic()
        job = home.push(archive, f"{link.address}/team/app:1.0")
        took = time.monotonic() - started
        total, done, sent = home.figures(job.id)
        assert done == total > sum(LAYERS)
        assert total < sent < total + 10_000, "more than the blobs and the manifest was sent: a chunk twice"
        assert link.bytes_sent < sent * 1.02, "more went over the link than was counted"
        assert took > 2 * LIFE
        assert len(tokens.given) > took / LIFE
        tokens.life = 60  # for skopeo, which does not believe in shorter lives
        read = read_back(f"{registry.address}/team/app:1.0", credentials=LOGIN)
        assert read.config_digest == image.config_digest


def test_a_chunk_whose_token_has_ended(
    tokens: JwtServer, make_docker_registry: Callable[..., DockerRegistry], tmp_path: Path
) -> None:
    """The registry's clock is ahead, or the server gives less than it says: it costs one chunk."""
    image = make_image(6 * MIB, compressible=0)
    archive = write_archive(tmp_path / "image.tar", image)
    registry = make_docker_registry(auth=tokens.auth)
    with (
        ShakyLink(registry.address, rate=1 * MIB) as link,
        Home(tmp_path / "home", username=LOGIN[0], password=LOGIN[1], chunk_size=CHUNK, parallel=1) as home,
    ):
        make = tokens.make
        tokens.life = 60  # as it is told
        tokens.make = lambda granted: _briefly(tokens, make, granted)  # type: ignore[method-assign]
        job = home.push(archive, f"{link.address}/team/app:1.0")
        total, done, sent = home.figures(job.id)
        assert done == total
        assert len(tokens.given) > 1
        assert sent <= total + (len(tokens.given) - 1) * CHUNK + 10_000
        assert "session-lost" not in home.kinds(job.id)


def _briefly(tokens: JwtServer, make: Callable[..., str], granted: object) -> str:
    tokens.life = LIFE
    try:
        return make(granted)
    finally:
        tokens.life = 60


def test_a_login_that_may_not_push(
    tokens: JwtServer, make_docker_registry: Callable[..., DockerRegistry], tmp_path: Path
) -> None:
    archive = write_archive(tmp_path / "image.tar", make_image(100))
    tokens.allowed = lambda _, action: action == "pull"
    address = make_docker_registry(auth=tokens.auth).address
    with Home(tmp_path / "home", username=LOGIN[0], password=LOGIN[1]) as home:
        job = home.enqueue(archive, f"{address}/team/app:1.0")
        home.run()
        assert home.state(job.id) == JobState.FAILED
        error = home.job(job.id).error
        assert error is not None
        assert error.message.startswith(
            f"{address} does not allow repository:team/app:pull,push to the login for user ann (--username)"
        )
