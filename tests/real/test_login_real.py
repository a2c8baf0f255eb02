"""``pusher login`` with the real registry; Docker and skopeo read what it stores, and pusher what they do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pusher.errors import ExitCode
from tests.support.docker_registry import CREDENTIALS, DockerRegistry
from tests.support.engines import Docker
from tests.support.images import make_image, write_archive
from tests.support.real import require
from tests.support.waiting import PATIENCE

_USER, _PASSWORD = CREDENTIALS
_IMAGE = make_image(50_000, 1_000)


@pytest.fixture
def registry(make_docker_registry: Callable[..., DockerRegistry]) -> DockerRegistry:
    return make_docker_registry(authenticated=True)


@pytest.fixture
def config() -> Path:
    return Path.home() / ".docker" / "config.json"


def _pusher(*arguments: str, password: str = "") -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PUSHER_HOME": str(Path.home() / "pusher")}
    return subprocess.run(
        [sys.executable, "-m", "pusher", *arguments],
        input=password,
        capture_output=True,
        text=True,
        env=environ,
        timeout=PATIENCE,
    )


def _login(registry: DockerRegistry, password: str = _PASSWORD) -> subprocess.CompletedProcess[str]:
    return _pusher(
        "login", registry.address, "--username", _USER, "--password-stdin", password=password + "\n"
    )


def _run(*command: str, password: str = "") -> str:
    done = subprocess.run(command, input=password, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _skopeo_reads(reference: str) -> None:
    """With the login that it finds in its own places."""
    raw = _run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}")
    assert json.loads(raw)["config"]["digest"] == _IMAGE.config_digest


@pytest.fixture
def push(registry: DockerRegistry, tmp_path: Path) -> Callable[[], subprocess.CompletedProcess[str]]:
    archive = write_archive(tmp_path / "app.tar", _IMAGE)
    return lambda: _pusher("push", str(archive), "--to", f"{registry.address}/team/app:1")


Push = Callable[[], subprocess.CompletedProcess[str]]


def test_login_push_logout(registry: DockerRegistry, push: Push, config: Path) -> None:
    require("skopeo")
    assert push().returncode == ExitCode.AUTH
    refused = _login(registry, "wrong")
    assert refused.returncode == ExitCode.AUTH
    assert "; nothing was stored" in refused.stderr
    assert not config.exists()

    done = _login(registry)
    assert (done.returncode, done.stderr) == (ExitCode.DONE, "")
    assert config.stat().st_mode & 0o777 == 0o600
    pushed = push()
    assert pushed.returncode == ExitCode.DONE, pushed.stderr
    _skopeo_reads(f"{registry.address}/team/app:1")
    assert _run("skopeo", "login", "--get-login", registry.address).strip() == _USER

    assert _pusher("logout", registry.address).returncode == ExitCode.DONE
    assert push().returncode == ExitCode.AUTH


def test_what_docker_stores_and_what_it_reads(
    registry: DockerRegistry, push: Push, dockerd: Docker, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker and pusher write the same file, byte for byte."""
    monkeypatch.setenv("DOCKER_CONFIG", str(config.parent))
    _run("docker", "login", registry.address, "-u", _USER, "--password-stdin", password=_PASSWORD)
    by_docker = config.read_bytes()
    assert push().returncode == ExitCode.DONE
    assert _login(registry).returncode == ExitCode.DONE
    assert config.read_bytes() == by_docker
    config.unlink()
    assert _login(registry).returncode == ExitCode.DONE
    assert config.read_bytes() == by_docker
    _run("docker", "pull", "-q", f"{registry.address}/team/app:1")
    _run("docker", "logout", registry.address)
    assert push().returncode == ExitCode.AUTH


def test_a_login_of_skopeo(registry: DockerRegistry, push: Push, config: Path) -> None:
    """Podman's file, in the place where skopeo and Podman themselves put it."""
    require("skopeo")
    Path(os.environ["XDG_RUNTIME_DIR"]).mkdir()
    login = ("skopeo", "login", "--tls-verify=false", "-u", _USER, "--password-stdin", registry.address)
    _run(*login, password=_PASSWORD)
    assert not config.exists()
    assert push().returncode == ExitCode.DONE
    left = _pusher("logout", registry.address)
    auth = Path(os.environ["XDG_RUNTIME_DIR"]) / "containers" / "auth.json"
    assert left.stdout == f"Not logged in to {registry.address}.\n"
    assert left.stderr == f"{auth} still has a login for {registry.address}, which is used now.\n"
    _run("skopeo", "logout", registry.address)
    assert push().returncode == ExitCode.AUTH
