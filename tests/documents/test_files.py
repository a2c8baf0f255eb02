"""What ``pusher help TOPIC --file NAME`` prints, and units that systemd takes; nights: test_nights.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pusher.help.topics import NAMES, read_topic
from tests.cli.conftest import Pusher, home, pusher
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
