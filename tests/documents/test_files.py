"""What ``pusher help TOPIC --file NAME`` prints: units that systemd takes, scripts and steps that run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pusher.help.topics import NAMES, read_topic
from tests.cli.conftest import Pusher, home, pusher
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry
from tests.support.images import make_image, write_archive
from tests.support.real import require
from tests.support.waiting import PATIENCE

__all__ = ["home", "pusher"]

FILES = {(topic, name): text for topic in NAMES for name, text in read_topic(topic).files.items()}
UNITS = [key for key in FILES if key[1].endswith((".service", ".timer"))]


def test_a_file_is_printed_as_it_is(pusher: Pusher) -> None:
    assert len(FILES) == 10
    for (topic, name), text in FILES.items():
        assert pusher("help", topic, "--file", name).out == text
    result = pusher("help", "services", "--file", "compose.yml")
    assert result.code == 2
    assert "there is no file 'compose.yml' in services" in result.err
    assert "pusher help services --file compose.yaml" in result.err
    assert "shows all of it" in pusher("help", "queue", "--file", "x").err
    assert "pusher help nightly --file crontab" in pusher("help", "--file", "x").err


@pytest.mark.parametrize(("topic", "name"), UNITS, ids=[f"{topic}-{name}" for topic, name in UNITS])
def test_systemd_takes_a_unit(tmp_path: Path, topic: str, name: str) -> None:
    require("systemd-analyze")
    for (_, each), text in FILES.items():  # a timer needs its service
        if each.partition(".")[0] == name.partition(".")[0]:
            runnable = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", text, flags=re.MULTILINE)
            (tmp_path / Path(each).name).write_text(runnable)
    scope = [] if name.startswith("system/") else ["--user"]
    command = ["systemd-analyze", *scope, "verify", str(tmp_path / Path(name).name)]
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environ)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_unit_of_the_machine_leaves_little_to_an_attacker(tmp_path: Path) -> None:
    require("systemd-analyze")
    unit = tmp_path / "pusher.service"
    unit.write_text(FILES["services", "system/pusher.service"])
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr


def _steps(text: str) -> list[str]:
    """The shell of a workflow of GitHub, or of a script of GitLab, with values for its expressions."""
    values = {"github.workspace": "$PWD", "vars.WHEEL": "pusher.whl"}
    for name, value in values.items():
        text = text.replace("${{ " + name + " }}", value)
    if "script:" in text:
        return [line.strip().removeprefix("- ") for line in text.partition("script:\n")[2].splitlines()]
    blocks = re.findall(r"^ +- run: (?:\|\n((?: {10}.*\n)+)|(.+)\n)", text, re.MULTILINE)
    return [textwrap.dedent(block) or line for block, line in blocks]


@pytest.mark.parametrize("name", ["nightly.sh", ".github/workflows/nightly.yml", ".gitlab-ci.yml"])
def test_the_steps_of_a_night_push_the_images_and_continue_the_night_after(tmp_path: Path, name: str) -> None:
    """With an archive in place of Docker's image; the second night has only what the home has kept."""
    text = FILES["nightly", name]
    with FakeRegistry(DISTRIBUTION_3) as registry:
        _machine(tmp_path, registry.address)
        script = text if name.endswith(".sh") else "\n".join(_steps(text))
        environ = {
            **os.environ,
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "PUSHER_HOME": f"{tmp_path}/.pusher",
            "WHEEL": "pusher.whl",
            "CI_REGISTRY_IMAGE": "registry.example.com/team",
        }
        for night in (1, 2):
            command = ["bash", *([] if name.endswith(".sh") else ["-e"]), "-c", script]
            done = subprocess.run(
                command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=PATIENCE
            )
            assert done.returncode == 0, done.stdout + done.stderr
            if night == 1:
                sent = registry.body_bytes_received()
        assert registry.body_bytes_received() - sent < 3_000, "blobs were sent again"
        repositories = {"nightly.sh": {"team/app", "team/worker"}}.get(name, {"team/app"})
        assert {each for each in registry.manifests if registry.manifests[each]} == repositories
    if name == "nightly.sh":
        assert done.stdout + done.stderr == "", "cron would mail it"


def _machine(folder: Path, registry: str) -> None:
    """Programs that stand in for pip and docker, and a pusher that finds the registry and the images."""
    (folder / "images").mkdir()
    write_archive(folder / "images" / "app.tar", make_image(30_000, compressible=0.0))
    (folder / "bin").mkdir()
    python = f"exec {sys.executable} -m pusher"
    pushes = f"""#!/bin/sh
for word; do
  shift
  case $word in
    app:nightly|worker:nightly) word={folder}/images/app.tar ;;
    registry.example.com/*) word={registry}/${{word#*/}} ;;
  esac
  set -- "$@" "$word"
done
{python} "$@"
"""
    for name, text in {"pusher": pushes, "pip": "#!/bin/sh\n", "docker": "#!/bin/sh\n"}.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
