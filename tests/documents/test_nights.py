"""The recipes of ``pusher help nightly`` run twice as their systems run them, with what these keep meanwhile.

An archive stands in for Docker's image, loopback for the registry, which wants a login.
"""

from __future__ import annotations

import base64
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any, Final

import pytest
import yaml

from pusher.help.topics import read_topic
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry
from tests.support.images import make_image, write_archive
from tests.support.waiting import PATIENCE

FILES: Final = read_topic("nightly").files
_USER, _PASSWORD = "alice", "secret"
_GITHUB: Final = {
    "github.run_id": "71",
    "github.run_attempt": "1",
    "vars.WHEEL": "pusher.whl",
    "secrets.REGISTRY_USER": _USER,
    "secrets.REGISTRY_PASSWORD": _PASSWORD,
}
_GITLAB: Final = {
    "CI_PIPELINE_SOURCE": "schedule",
    "CI_REGISTRY_USER": _USER,
    "CI_REGISTRY_PASSWORD": _PASSWORD,
    "CI_REGISTRY_IMAGE": "registry.example.com/team",
    "WHEEL": "pusher.whl",
}


@dataclass(frozen=True)
class _Recipe:
    """``commands``: one process each. ``kept``: files that a runner keeps until the next night."""

    commands: Sequence[Sequence[str]]
    environ: Mapping[str, str]
    kept: Sequence[str] = ()
    mode: int | None = None
    """That of files which the runner unpacks; None: the one they had."""
    images: set[str] = field(default_factory=lambda: {"team/app"})


def _github(folder: Path) -> _Recipe:
    values = {**_GITHUB, "github.workspace": str(folder)}

    def evaluate(text: str) -> str:
        return re.sub(r"\$\{\{ ([\w.]+) \}\}", lambda found: values[found[1]], text)

    workflow = yaml.safe_load(FILES[".github/workflows/nightly.yml"])
    assert workflow[True].keys() == {"schedule", "workflow_dispatch"}  # "on" is a truth in YAML 1.1
    _check_cron_times(workflow[True]["schedule"][0]["cron"])
    (job,) = workflow["jobs"].values()
    restores, saves = (
        [step for step in job["steps"] if step.get("uses", "").startswith(f"actions/cache/{what}@")]
        for what in ("restore", "save")
    )
    (restored,), (saved,) = restores, saves
    assert saved["if"] == "always()"
    assert (saved["with"]["path"], saved["with"]["key"]) == (
        restored["with"]["path"],
        restored["with"]["key"],
    )
    assert evaluate(saved["with"]["key"]).startswith(restored["with"]["restore-keys"])
    steps = [evaluate(step["run"]) for step in job["steps"] if "run" in step]
    assert len(steps) == 3
    return _Recipe(
        [["bash", "-e", "-c", step] for step in steps],
        {**os.environ, **{name: evaluate(str(value)) for name, value in job["env"].items()}},
        kept=[saved["with"]["path"]],
    )


def _gitlab(folder: Path) -> _Recipe:
    (job,) = yaml.safe_load(FILES[".gitlab-ci.yml"]).values()
    given = {**_GITLAB, "CI_PROJECT_DIR": str(folder)}
    assert job["rules"] == [{"if": '$CI_PIPELINE_SOURCE == "schedule"'}]
    assert job["retry"] == {"max": 2, "exit_codes": 5}
    variables = {name: Template(str(value)).substitute(given) for name, value in job["variables"].items()}
    script = "\n".join(job["script"])
    return _Recipe(
        [["sh", "-e", "-c", script]],
        {**os.environ, **given, **variables},
        kept=job["cache"]["paths"],
        mode=0o777,
    )


def _cron(folder: Path) -> _Recipe:
    setting, entry = FILES["crontab"].strip().splitlines()
    name, _, path = setting.replace("/home/alice", str(folder)).partition("=")
    *times, command = entry.replace("/home/alice", str(folder)).split(" ", 5)
    _check_cron_times(" ".join(times))
    assert name == "PATH"
    return _Recipe([["sh", "-c", command]], _bare(folder, path), images={"team/app", "team/worker"})


def _systemd(folder: Path) -> _Recipe:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(FILES["pusher-nightly.service"])
    service = {name: value.replace("%h", str(folder)) for name, value in unit["Service"].items()}
    name, _, path = service["Environment"].partition("=")
    assert name == "PATH"
    return _Recipe([[service["ExecStart"]]], _bare(folder, path), images={"team/app", "team/worker"})


def _bare(folder: Path, path: str) -> dict[str, str]:
    """What cron and systemd give a command; Python's own variables keep the checkout clean."""
    python = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    return {**python, "HOME": str(folder), "PATH": path, "LOGNAME": "alice", "SHELL": "/bin/sh"}


def _check_cron_times(text: str) -> None:
    assert re.fullmatch(r"[0-5]?\d (1?\d|2[0-3]) \* \* \*", text), text


class Nights:
    """A machine of a user, or of a CI system, and its registry."""

    def __init__(self, folder: Path, registry: FakeRegistry) -> None:
        self.folder = folder
        self.registry = registry
        (folder / "images").mkdir()
        write_archive(folder / "images" / "app.tar", make_image(30_000, compressible=0.0))
        programs = folder / ".local" / "bin"
        programs.mkdir(parents=True)
        for name, text in {"pusher": self._pusher(), "pip": "", "docker": ""}.items():
            (programs / name).write_text(f"#!/bin/sh\n{text}")
            (programs / name).chmod(0o755)
        (folder / "nightly.sh").write_text(FILES["nightly.sh"])
        (folder / "nightly.sh").chmod(0o755)

    def _pusher(self) -> str:
        """A pusher that finds the registry and the images."""
        return f"""
for word; do
  shift
  case $word in
    app:nightly|worker:nightly) word={self.folder}/images/app.tar ;;
    registry.example.com/*) word={self.registry.address}/${{word#*/}} ;;
  esac
  set -- "$@" "$word"
done
exec {sys.executable} -m pusher "$@"
"""

    def log_in(self) -> None:
        """As ``pusher login`` or ``docker login`` did once."""
        auth = base64.b64encode(f"{_USER}:{_PASSWORD}".encode()).decode()
        (self.folder / ".docker").mkdir()
        (self.folder / ".docker" / "config.json").write_text(
            json.dumps({"auths": {self.registry.address: {"auth": auth}}})
        )

    def run(self, recipe: _Recipe) -> str:
        """Run it once; return what it printed."""
        path = f"{self.folder}/.local/bin:{recipe.environ['PATH']}"
        shown = ""
        for command in recipe.commands:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env={**recipe.environ, "PATH": path} if recipe.kept else dict(recipe.environ),
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            shown += done.stdout + done.stderr
            assert done.returncode == 0, shown
        return shown

    def begin_anew(self, recipe: _Recipe) -> None:
        """Another runner unpacks what the last one kept."""
        for name in recipe.kept:
            place, away = self.folder / name, self.folder / "cache.tar"
            subprocess.run(["tar", "-cf", away, "-C", self.folder, name], check=True, timeout=PATIENCE)
            shutil.rmtree(place)
            subprocess.run(["tar", "-xf", away, "-C", self.folder], check=True, timeout=PATIENCE)
            for each in (place, *place.rglob("*")) if recipe.mode is not None else ():
                each.chmod(recipe.mode or 0)


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Nights]:
    with FakeRegistry(DISTRIBUTION_3, credentials=(_USER, _PASSWORD)) as registry:
        yield Nights(tmp_path, registry)


@pytest.mark.parametrize("system", [_github, _gitlab, _cron, _systemd])
def test_the_images_are_pushed_and_the_night_after_sends_no_blob_again(nights: Nights, system: Any) -> None:
    recipe: _Recipe = system(nights.folder)
    if not recipe.kept:
        nights.log_in()
    nights.run(recipe)
    sent = nights.registry.body_bytes_received()
    assert sent > 30_000
    nights.begin_anew(recipe)
    shown = nights.run(recipe)
    assert nights.registry.body_bytes_received() - sent < 3_000, "blobs were sent again"
    pushed = {name for name, tags in nights.registry.manifests.items() if tags}
    assert pushed == recipe.images
    assert _PASSWORD not in shown
    if not recipe.kept:
        assert shown == "", "cron would mail it"


@pytest.mark.parametrize("system", [_cron, _systemd])
def test_a_night_that_fails_says_so(nights: Nights, system: Any) -> None:
    """Nobody has logged in: the log is printed, which cron mails and the journal keeps."""
    recipe: _Recipe = system(nights.folder)
    (command,) = recipe.commands
    done = subprocess.run(
        command, cwd=nights.folder, env=dict(recipe.environ), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 1
    assert "pusher login" in done.stdout
