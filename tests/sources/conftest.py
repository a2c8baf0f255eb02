"""Engines that are shell scripts: nothing else is in PATH in these tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fake_engine import FakeEngine


@pytest.fixture
def path_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for variable in ("DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST"):
        monkeypatch.delenv(variable, raising=False)
    return folder


@pytest.fixture
def docker(path_folder: Path) -> FakeEngine:
    return FakeEngine(path_folder, "docker")


@pytest.fixture
def podman(path_folder: Path) -> FakeEngine:
    return FakeEngine(path_folder, "podman")
