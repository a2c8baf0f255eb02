"""A mistyped command line: what was probably meant, and nothing of what may be a password."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Pusher


def hint(pusher: Pusher, *arguments: str) -> str:
    result = pusher(*arguments)
    assert result.code == 2
    error, told = result.err.splitlines()
    assert error.startswith("error: ")
    return told.removeprefix("  hint: ")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (("ps",), "pusher status"),
        (("remove", "3"), "pusher cancel"),
        (("copy", "a", "b"), "pusher push"),
        (("db", "help", "upgrade"), "pusher db upgrade --help"),
        (("migrate",), "pusher db upgrade"),
        (("logs", "3"), "pusher log"),
        (("app:1.2",), "pusher push app:1.2"),
        (("pusj", "a"), "'push' or 'pause'"),
        (("db", "upgade"), "'upgrade'"),
        (("--to", "r.example/a", "a"), "pusher push IMAGE --to ..."),
        (("--limit-rate", "5M", "push", "a"), "pusher COMMAND --limit-rate"),
        (("push", "--tls-verify=false", "a"), "--insecure REGISTRY or --plain-http"),
        (("serve", "-q"), "--progress none"),
        (("enqueue", "-o", "json", "a"), "--json"),
        (("push", "-t", "1.2", "a"), "--tag TAG"),
        (("push", "--dest", "r.example/a:1", "a"), "--to WHERE"),
        (("run", "--jobs", "8"), "--parallel N"),
        (("push", "--src-creds", "bob:pw", "a"), "--src-authfile FILE"),
        (("status", "-w"), "--watch"),
        (("push", "--home", "/x", "a"), "the environment variable PUSHER_HOME"),
        (("push", "--too", "x", "a"), "'--to' or '--tag'"),
    ],
)
def test_the_right_guess(pusher: Pusher, typed: tuple[str, ...], meant: str) -> None:
    assert hint(pusher, *typed).startswith(f"did you mean {meant}? See also: pusher ")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (
            ("push", "--retry-times", "3", "a"),
            "push and run end after --give-up-after TIME",
        ),
        (("enqueue", "--retry=3", "a"), "pusher retries by itself"),
        (("push", "--format=oci", "a"), "a manifest keeps its format"),
        (("push", "--preserve-digests", "a"), "an image that has a manifest keeps its digest"),
        (("push", "--remove-signatures", "a"), "signatures that lie beside an image are not pushed"),
        (("push", "--sign-by", "me", "a"), "sign what was pushed by its digest"),
        (("push", "--disable-content-trust", "a"), "pusher does not use Docker Content Trust"),
    ],
)
def test_an_option_that_nothing_here_stands_for_is_explained(
    pusher: Pusher, typed: tuple[str, ...], told: str
) -> None:
    advice = hint(pusher, *typed)
    assert told in advice
    assert advice.endswith(f"; see also: pusher {typed[0]} --help")


@pytest.mark.parametrize("option", ["--creds", "--dest-creds", "--password", "-p"])
@pytest.mark.parametrize("with_equals", [True, False])
def test_a_password_that_was_typed_is_not_repeated(pusher: Pusher, option: str, with_equals: bool) -> None:
    typed = (f"{option}=bob:hunter2",) if with_equals and option != "-p" else (option, "bob:hunter2")
    result = pusher("push", *typed, "app:1")
    assert "did you mean --username USER --password-stdin?" in result.err
    assert result.err.endswith(" (others can read a password on the command line)\n")
    assert "hunter2" not in result.err


@pytest.mark.parametrize("command", ["push", "enqueue", "doctor"])
def test_an_image_and_its_destination_as_two_arguments(pusher: Pusher, command: str) -> None:
    told = hint(pusher, command, "my image.tar", "docker://r.example/app:1")
    assert told == f"give the destination with --to: pusher {command} 'my image.tar' --to r.example/app:1"


def test_an_option_without_its_value_names_the_help_of_the_command(pusher: Pusher) -> None:
    assert hint(pusher, "push", "a", "--to", "r.example/a", "--insecure") == "pusher push --help"


@pytest.mark.parametrize(
    "typed",
    [
        ("doctor", "a", "b", "c"),
        ("doctor", "a", "b", "--to", "c"),
        ("status", "1", "2"),
        ("serve", "--local", "--listen", "localhost:5055"),
    ],
)
def test_other_arguments_too_many(pusher: Pusher, typed: tuple[str, ...]) -> None:
    assert hint(pusher, *typed) == f"pusher {typed[0]} --help"


def run(*arguments: str | bytes, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "pusher", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd)


def test_an_argument_that_is_not_utf_8(home: Path) -> None:
    done = run("push", os.fsencode("app-") + b"\xff.tar")
    assert done.returncode == 2
    assert done.stderr.startswith("error: 'app-\\udcff.tar' is not UTF-8\n  hint: rename the file")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("push app.tar --to localhost:9/a:1", 7),
        ("push oci:./layout --to localhost:9/a:1", 2),
        ("status", 0),
        ("run", 0),
        ("config", 0),
        ("prune", 0),
    ],
)
def test_a_folder_that_was_deleted(home: Path, tmp_path: Path, command: str, code: int) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    shell = f"rmdir {gone}; exec {sys.executable} -P -m pusher {command}"
    done = subprocess.run(["sh", "-c", shell], cwd=gone, capture_output=True, text=True, timeout=60)
    assert "bug" not in done.stderr
    assert done.returncode == code, done.stderr
    if code == 2:
        assert done.stderr == ("error: the working folder was deleted\n  hint: go to another folder: cd\n")


@pytest.mark.parametrize("variable", ["PUSHER_CONFIG", "PUSHER_HOME", "DOCKER_CONFIG", "XDG_CONFIG_HOME"])
def test_a_home_folder_of_nobody(pusher: Pusher, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "~nouser-of-this-name/x")
    result = pusher("run")
    assert result.code == 2
    assert "~nouser-of-this-name/x', and there is no such user" in result.err
