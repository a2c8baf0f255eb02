"""Every command of the README and of the topics runs as it is written, against stand-ins on loopback."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from pusher.cli import main
from pusher.config.load import resolve
from pusher.help.markdown import Code, Table, parse
from pusher.help.topics import NAMES, read_topic
from tests.documents import stand_in
from tests.support.certificates import inspection_ca, write_ca
from tests.support.dialogue import dialogue
from tests.support.fake_engine import FakeEngine
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry
from tests.support.images import make_image, write_archive
from tests.support.layouts import two_platforms
from tests.support.real import require
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
_PASSWORD: Final = "..."
"""As the documents have it."""
_ELSEWHERE: Final = {
    ".venv/bin/pip install": ".ci/run installs the wheel and runs the tests",
    "docker build": "needs an image of Docker Hub",
    "docker run": "needs a virtual machine",
    "docker compose": "needs an image of Docker Hub",
    "pip install '.[postgres]'": ".ci/run installs it",
    "PUSHER_DATABASE_URL": ".ci/run runs these with PostgreSQL, and so do the tests of the store",
    "pusher db upgrade": "the same",
    "pusher run --forever": "tests/crash/test_signals.py ends it",
    "pusher run --detach": "tests/crash/test_background.py does, and stops it",
    "pusher serve": "tests/serve/test_process.py ends it",
    "localhost:5055": "tests/real/test_serve_real.py pushes to it",
}
"""Commands that cannot run here, and where they do."""
_ANSWERS: Final = {
    "pusher login registry.example.com": (("Username", b"alice\n"), ("Password", b"...\n")),
    "pusher run --username alice": (("Password", b"...\n"),),
}
"""What is typed where a command asks."""


def _documents() -> dict[str, str]:
    topics = {name: read_topic(name).text for name in NAMES}
    return {"README": (ROOT / "README.md").read_text(encoding="utf-8"), **topics}


def _commands(text: str) -> Iterator[str]:
    """Each command of the blocks of shell, with what continues it on the next lines."""
    for block in parse(text):
        if isinstance(block, Code) and block.language == "sh":
            yield from "\n".join(block.lines).replace("\\\n", "").split("\n")


def _all_commands() -> list[tuple[str, str]]:
    """Document and command; one that several documents have runs once."""
    found: dict[str, str] = {}
    for name, text in _documents().items():
        for command in _commands(text):
            if not any(mark in command for mark in _ELSEWHERE):
                found.setdefault(re.sub(r" +# .*", "", command), name)
    return [(name, command) for command, name in found.items()]


COMMANDS: Final = _all_commands()


class Machine:
    """A user's machine: Docker has an image, a registry and a password manager are there."""

    def __init__(
        self,
        folder: Path,
        registry: FakeRegistry,
        patch: pytest.MonkeyPatch,
        here: pytest.CaptureFixture[str],
    ) -> None:
        self.folder = folder
        self._here = here
        image = make_image(30_000, 2_000)
        saved = write_archive(folder / "saved.tar", image)
        self._bin = folder / "bin"
        FakeEngine(self._bin).has(image, saved)
        port = registry.address.rpartition(":")[2]
        self._program("pusher", f'exec {sys.executable} {stand_in.__file__} {port} "$@"')
        self._program("pass", f"echo {_PASSWORD}")
        for name in ("sudo", "systemctl", "loginctl", "journalctl"):
            self._program(name, "cat > /dev/null")
        two_platforms()[0].write_folder(folder / "layout")
        write_ca(inspection_ca(), folder / "vpn-ca.pem")
        self._log_in()
        patch.chdir(folder)
        for name, value in self.environ.items():
            patch.setenv(name, value)
        patch.setattr("socket.getaddrinfo", stand_in.names_of(int(port)))

    def _program(self, name: str, script: str) -> None:
        path = self._bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def _log_in(self) -> None:
        auth = base64.b64encode(f"alice:{_PASSWORD}".encode()).decode()
        hosts = ("registry.example.com", "registry.example.workers.dev")
        (self.folder / "config.json").write_text(
            json.dumps({"auths": {host: {"auth": auth} for host in hosts}})
        )

    @property
    def environ(self) -> dict[str, str]:
        folder = str(self.folder)
        environ = {"PATH": f"{self._bin}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
        environ["PYTHONDONTWRITEBYTECODE"] = "1"  # leave no __pycache__ in the checkout
        environ |= dict.fromkeys(("HOME", "DOCKER_CONFIG"), folder)
        return environ | {
            "PUSHER_HOME": f"{folder}/pusher",
            "PUSHER_PLAIN_HTTP": "true",
            "PASSWORD": _PASSWORD,
        }

    def run(self, command: str) -> str:
        """Run a line of shell; return what it printed. AssertionError if it fails.

        What is pusher and nothing else runs in this process: that is quicker.
        """
        if answers := _ANSWERS.get(command):
            asked = dialogue(
                ["bash", "-c", f"cd {shlex.quote(str(self.folder))}; {command}"],
                *answers,
                environ=self.environ,
            )
            assert asked.code == 0, asked
            return asked.out + asked.shown
        if command.startswith("pusher ") and not re.search(r"[|;&<>$]", command):
            with pytest.raises(SystemExit) as ended:
                main(shlex.split(command)[1:])
            shown = "".join(self._here.readouterr())
            assert ended.value.code == 0, f"{command}\n{shown}"
            return shown
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture
def machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Machine]:
    with FakeRegistry(DISTRIBUTION_3, credentials=("alice", _PASSWORD)) as registry:
        yield Machine(tmp_path, registry, monkeypatch, capsys)


def test_what_runs_elsewhere_is_in_the_documents() -> None:
    whole = "\n".join(_documents().values())
    assert [mark for mark in _ELSEWHERE if mark not in whole] == []
    assert len(COMMANDS) > 30


@pytest.mark.parametrize(("document", "command"), COMMANDS, ids=[command[:50] for _, command in COMMANDS])
def test_a_command_runs_as_it_is_written(machine: Machine, document: str, command: str) -> None:
    if "| jq " in command:
        require("jq")
    if re.match(r"pusher (log|status|priority|move) \d", command):
        machine.run("pusher enqueue app:1.2 --to registry.example.com")
    machine.run(command)


_PLACES: Final = [
    (command, where)
    for block in parse(read_topic("destinations").text)
    if isinstance(block, Table)
    for command, where in block.rows
    if command.startswith("`pusher push ")
]


@pytest.mark.parametrize(("command", "where"), _PLACES, ids=[command for command, _ in _PLACES])
def test_an_image_goes_where_the_topic_says(machine: Machine, command: str, where: str) -> None:
    words = re.findall(r"`([^`]+)`", command)
    arguments = words[0].removeprefix("pusher push ")
    setting = "PUSHER_REGISTRY=registry.example.com " if "with the setting" in command else ""
    told = machine.run(f"{setting}pusher enqueue {arguments} --json")
    places = {"exactly there": arguments.rpartition(" ")[2], "Docker Hub": "docker.io/library/app:1.2"}
    places |= {"where its name says": arguments, "that registry": "registry.example.com/app:1.2"}
    expected = next((place for words, place in places.items() if where.startswith(words)), where)
    assert f'"{expected.partition(";")[0].strip("`")}"' in told


def test_the_settings_file_of_the_topic_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = (b for b in read_topic("settings").blocks if isinstance(b, Code) and b.language == "toml")
    path = tmp_path / "pusher.toml"
    path.write_text("\n".join(block.lines))
    monkeypatch.setenv("PUSHER_CONFIG", str(path))
    settings = resolve({}).settings
    assert settings.at("registry.internal:5000").chunk_size == 50 * 1024 * 1024
