"""The doctor with the real distribution registry, its htpasswd, and the real Docker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pusher.errors import CredentialsMissing, CredentialsRejected, EngineNotRunning, ImageNotFound
from tests.doctor.diagnosis import PUSHING, diagnose, settings_in
from tests.support.docker_registry import CREDENTIALS, DockerRegistry
from tests.support.engines import Docker
from tests.support.home import Home

MakeRegistry = Callable[..., DockerRegistry]
REPOSITORY = ("image", "TLS")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home") as home:
        yield home


def test_a_registry_with_htpasswd(tmp_path: Path, make_docker_registry: MakeRegistry) -> None:
    registry = make_docker_registry(authenticated=True, secret="fixed")
    user, password = CREDENTIALS
    target = f"{registry.address}/doctor/app"

    found = diagnose(target, settings_in(tmp_path, username=user, password=password))
    found.assert_healthy(skipped=REPOSITORY)
    assert found["registry"].message.endswith("answers 401 (registry/2.0)")
    assert f"accepts user {user} from --username (Basic)" in found["login"].message
    assert "it was deleted again" in found["push"].message
    assert found["profile"].message.startswith("distribution (")

    skipped = [*REPOSITORY, *PUSHING[1:]]
    without = diagnose(target, settings_in(tmp_path))
    without.assert_failed("login", CredentialsMissing, "pusher login", skipped=skipped)
    wrong = diagnose(target, settings_in(tmp_path, username=user, password="wrong horse"))
    wrong.assert_failed("login", CredentialsRejected, user, skipped=skipped)


def test_an_image_in_docker(
    dockerd: Docker, home: Home, docker_registry: DockerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{docker_registry.address}/doctor/image:1"
    dockerd.build_random(name, [100_000, 50_000])
    found = diagnose(name, home.settings)
    found.assert_healthy(skipped=["TLS"])
    assert "found in Docker" in found["image"].message
    assert "2 layers" in found["image"].message
    assert "at most 1" in found["disk"].message

    dockerd.remove(name)
    diagnose(name, home.settings).assert_failed("image", ImageNotFound, name, skipped=["TLS"])
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    found = diagnose(name, home.settings)
    found.assert_failed("image", EngineNotRunning, "unix:///nowhere/docker.sock", skipped=["TLS"])
