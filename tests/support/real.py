"""Fixtures for the real parts: registry, Docker, Podman, skopeo. Import them in a conftest.py.

A part that is missing skips the test with a reason; with ``PUSHER_TEST_REQUIRE_REAL=1`` (CI) it fails it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest

from tests.support import skopeo as skopeo_module
from tests.support.docker_registry import DockerRegistry
from tests.support.engines import Docker, Engine, Podman
from tests.support.processes import RUNNING
from tests.support.skopeo import ImageRead

ReadBack = Callable[..., ImageRead]
_Engine = TypeVar("_Engine", bound=Engine)


def require(*commands: str, root: bool = False) -> None:
    """Skip (or fail, where real parts are required) unless the commands are installed, and this is root where
    ``root`` is asked for."""
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        _lacking(f"not installed: {', '.join(missing)}")
    if root and os.geteuid() != 0:
        _lacking(f"{commands[0]} must be started by root" if commands else "only root can do this")


def _lacking(reason: str) -> None:
    if os.environ.get("PUSHER_TEST_REQUIRE_REAL") == "1":
        pytest.fail(reason + " (PUSHER_TEST_REQUIRE_REAL=1)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """The distribution registry as Debian ships it, one for all tests: use a repository of your own."""
    require("docker-registry")
    with DockerRegistry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def make_docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., DockerRegistry]]:
    """Start a distribution registry for this test only, with the options of DockerRegistry."""
    require("docker-registry")
    with ExitStack() as stack:

        def make(**options: Any) -> DockerRegistry:
            folder = tmp_path_factory.mktemp("registry")
            return stack.enter_context(DockerRegistry(folder, **options))

        yield make


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Docker]:
    """A Docker daemon of our own, for all tests."""
    require("dockerd", "docker", root=True)
    with Docker() as docker:
        yield docker


@pytest.fixture
def dockerd(docker_engine: Docker, monkeypatch: pytest.MonkeyPatch) -> Docker:
    """The Docker daemon, and an environment in which ``docker`` speaks to it."""
    return _enter(docker_engine, monkeypatch)


@pytest.fixture(scope="session")
def podman_engine(tmp_path_factory: pytest.TempPathFactory) -> Podman:
    """Podman with storage of its own, for all tests."""
    require("podman", root=True)
    return Podman(tmp_path_factory.mktemp("podman"))


@pytest.fixture
def podman(podman_engine: Podman, monkeypatch: pytest.MonkeyPatch) -> Podman:
    """Podman, and an environment in which ``podman`` uses its own storage."""
    return _enter(podman_engine, monkeypatch)


def _enter(engine: _Engine, monkeypatch: pytest.MonkeyPatch) -> _Engine:
    for name, value in engine.env.items():
        monkeypatch.setenv(name, value)
    return engine


@pytest.fixture
def read_back() -> ReadBack:
    """tests.support.skopeo.read_back, where skopeo is installed."""
    require("skopeo")
    return skopeo_module.read_back


def log_sections() -> list[tuple[str, str]]:
    """Title and end of the log of every daemon that runs."""
    return [(f"log of {daemon.name}", daemon.tail()) for daemon in RUNNING]
