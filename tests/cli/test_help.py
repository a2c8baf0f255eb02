"""``pusher help``."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from pusher.help.topics import NAMES, SYNONYMS, read_topic
from tests.cli.conftest import Pusher
from tests.cli.test_main import COMMANDS


def test_alone_it_lists_topics_and_commands(pusher: Pusher) -> None:
    result = pusher("help")
    assert (result.code, result.err) == (0, "")
    topics, _, commands = result.out.partition("\nCommands:\n")
    assert [line.split()[0] for line in topics.splitlines()[1:]] == list(NAMES)
    assert [line.split()[0] for line in commands.partition("\n\n")[0].splitlines()] == COMMANDS


@pytest.mark.parametrize("width", [40, 80])
def test_the_lists_fit_a_terminal(pusher: Pusher, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert max(map(len, pusher("help").out.splitlines())) <= width


@pytest.mark.parametrize("name", NAMES)
def test_a_topic(pusher: Pusher, name: str) -> None:
    result = pusher("help", name)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(read_topic(name).title)
    assert "\x1b" not in result.out


@pytest.mark.parametrize("command", [["push"], ["status"], ["db"], ["db", "upgrade"], ["help"]], ids=" ".join)
def test_a_command(pusher: Pusher, command: list[str]) -> None:
    assert pusher("help", *command) == pusher(*command, "--help")


@pytest.mark.parametrize(
    ("words", "guess"),
    [
        (["source"], "sources"),
        (["exit-code"], "scripting"),
        (["authentification"], "credentials"),
        (["pusj"], "push"),
        (["db", "upgade"], "db upgrade"),
    ],
)
def test_an_unknown_name_gets_the_nearest(pusher: Pusher, words: list[str], guess: str) -> None:
    result = pusher("help", *words)
    assert (result.code, result.out) == (2, "")
    assert result.err.endswith(f"\n  hint: did you mean pusher help {guess}? See also: pusher help\n")


@pytest.mark.parametrize(
    ("word", "topic"),
    [
        *[(word, "nightly") for word in ("recipes", "ci", "cron")],
        *[(word, "queue") for word in ("hosts", "fleet", "postgres")],
        *[("compression", "images"), ("speed", "performance"), ("CI", "nightly")],
        ("authentication", "credentials"),
    ],
)
def test_another_word_for_a_topic_shows_the_topic(pusher: Pusher, word: str, topic: str) -> None:
    assert pusher("help", word) == pusher("help", topic)


def test_another_word_for_a_topic_that_is_a_command_shows_the_command(pusher: Pusher) -> None:
    for name in sorted(set(SYNONYMS) & set(COMMANDS)):
        assert pusher("help", name) == pusher(name, "--help")
    assert pusher("help", "resume") == pusher("resume", "--help")


def test_a_file_of_a_topic_by_another_word(pusher: Pusher) -> None:
    file = next(iter(read_topic("nightly").files))
    assert pusher("help", "ci", "--file", file) == pusher("help", "nightly", "--file", file)


def test_an_unknown_name_that_is_near_nothing(pusher: Pusher) -> None:
    result = pusher("help", "zzzz")
    assert result.code == 2
    assert (
        result.err
        == "error: no such topic or command 'zzzz'\n  hint: pusher help lists all topics and commands\n"
    )
    assert pusher("help", "push", "pull").code == 2


def test_on_a_terminal_it_is_styled_and_fits() -> None:
    leader, follower = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "40"}
    command = [sys.executable, "-m", "pusher", "help", "queue"]
    process = subprocess.Popen(command, stdout=follower, env=environ)
    os.close(follower)
    shown = b""
    try:
        while data := os.read(leader, 65536):
            shown += data
    except OSError:  # the end of a terminal
        pass
    os.close(leader)
    assert process.wait(60) == 0
    assert shown.startswith(b"\x1b[1mThe queue: jobs, workers and tags\x1b[0m")


def test_a_topic_imports_nothing_slow() -> None:
    program = (
        "import sys\nfrom pusher.cli import main\n"
        "try:\n    main(['help', 'errors'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('requests', 'sqlalchemy', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
