"""The README: short, and where it leads."""

from __future__ import annotations

import re
from pathlib import Path

from pusher.help.topics import NAMES, read_topic

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_it_has_at_most_900_words() -> None:
    assert len(README.split()) <= 900


def test_it_says_early_which_registries_resume() -> None:
    beginning = README.partition("\n## ")[0]
    for name in ("Distribution 3", "Quay", "serverless-registry", "ECR", "GHCR", "Harbor", "Azure", "Google"):
        assert name in beginning


def test_it_lists_every_topic() -> None:
    listed = re.findall(r"^\| \[`?([\w-]+)`?\]\(pusher/help/([\w-]+)\.md\) \| (.+) \|$", README, re.MULTILINE)
    assert listed == [(name, name, read_topic(name).title) for name in NAMES]


def test_its_first_command_installs_and_pushes_and_another_one_runs_the_tests() -> None:
    """What the first one shows is a push: tests/serve/test_demo.py."""
    commands = re.findall(r"```sh\n(.+?)\n```", README, re.DOTALL)
    assert re.fullmatch(r"python3 -m venv \S+ && \S+ install \S+ \. && \S+/pusher demo", commands[0])
    assert sum(" install " in line and "-m pytest" in line for line in commands) == 1
    assert sum("pusher push app:1.2 --to " in line for line in commands) == 1
