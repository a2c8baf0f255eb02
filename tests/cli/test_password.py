"""User names and passwords: real processes with pipes and terminals."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pusher.cli.password import with_password
from pusher.config import Settings, load
from pusher.errors import ExitCode, InvalidOption, PasswordMissing
from pusher.store.store import Store
from tests.cli.conftest import Pusher, add_job
from tests.support.dialogue import dialogue

_PROGRAM = """
import sys
from pusher.cli.password import with_password
from pusher.config import load
from pusher.errors import PusherError
try:
    settings = with_password(
        load({"username": sys.argv[1] or None}), ["r.example"], password_stdin="--password-stdin" in sys.argv
    )
except PusherError as error:
    print(error.message, error.hint, sep="|")
else:
    print(repr((settings.username, settings.password, settings.login_registry)))
"""


def _piped(data: bytes, *arguments: str, **environ: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments],
        input=data,
        capture_output=True,
        timeout=60,
        env={**os.environ, **environ},
    )
    return done.stdout.decode().strip(), done.stderr.decode()


@pytest.mark.parametrize(
    ("data", "password"),
    [
        (b"secret", "secret"),
        (b"secret\n", "secret"),
        (b"secret\r\n", "secret"),
        (b"secret\n\n", "secret\n"),
        (b"secret\r", "secret\r"),
        (b" two words \n", " two words "),
        ("pässwörd\n".encode(), "pässwörd"),
    ],
)
def test_a_piped_password_loses_one_line_break(data: bytes, password: str) -> None:
    assert _piped(data, "bob", "--password-stdin") == (repr(("bob", password, "r.example")), "")


def test_the_old_scripts_way() -> None:
    out, _ = _piped(b"secret\n", "", USERNAME_REGISTRY="hello")
    assert out == repr(("hello", "secret", "r.example"))


def test_both_from_the_environment() -> None:
    out, _ = _piped(b"not read", "", PUSHER_USERNAME="bob", PUSHER_PASSWORD="from-env")
    assert out == repr(("bob", "from-env", "r.example"))


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n"])
def test_an_empty_password(data: bytes) -> None:
    out, _ = _piped(data, "bob", "--password-stdin")
    assert out == (
        "the password for 'bob' at r.example on standard input is empty|"
        "check the command or variable that it comes from"
    )


def test_an_empty_variable() -> None:
    out, _ = _piped(b"", "bob", PUSHER_PASSWORD="")
    assert out == "PUSHER_PASSWORD is empty|check the command or variable that it comes from"


def test_a_password_that_is_no_text() -> None:
    out, _ = _piped(b"\xff\xfe", "bob", "--password-stdin")
    what = "the password for 'bob' at r.example on standard input is not UTF-8 text"
    assert out == f"{what}|pipe in the password alone"


def test_a_user_name_alone_does_not_read_a_pipe() -> None:
    out, _ = _piped(b"data for someone else\n", "bob")
    assert out == (
        "no password for 'bob' at r.example, and no terminal to ask for it|"
        "pipe it in with --password-stdin, or set PUSHER_PASSWORD"
    )


def test_nothing_waits_in_stalls() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, "bob", "--password-stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "Waiting for the password of 'bob' at r.example on standard input.\n"
    out, _ = process.communicate("secret\n", timeout=60)
    assert out.strip() == repr(("bob", "secret", "r.example"))


def _on_a_terminal(typed: bytes, *arguments: str) -> tuple[str, str]:
    """What the process printed on stdout, and what the terminal showed."""
    done = dialogue([sys.executable, "-c", _PROGRAM, *arguments], (": ", typed))
    return done.out.strip(), done.shown


@pytest.mark.parametrize("arguments", [["bob"], ["bob", "--password-stdin"]])
def test_a_terminal_is_asked_without_echo(arguments: list[str]) -> None:
    out, shown = _on_a_terminal(b"secret\n", *arguments)
    assert out == repr(("bob", "secret", "r.example"))
    assert shown.startswith("Password for bob at r.example: ")
    assert "secret" not in shown


def test_an_empty_line_on_a_terminal() -> None:
    out, _ = _on_a_terminal(b"\n", "bob")
    assert out.startswith("the password entered for 'bob' at r.example is empty|")


def _store(home: Path, username: str) -> None:
    auth = base64.b64encode(f"{username}:stored".encode()).decode()
    (home / ".docker").mkdir()
    (home / ".docker" / "config.json").write_text(json.dumps({"auths": {"r.example": {"auth": auth}}}))


def test_a_user_name_whose_login_is_stored_needs_no_password() -> None:
    _store(Path.home(), "bob")
    out, err = _piped(b"data for someone else\n", "bob")
    assert (out, err) == (repr((None, None, None)), "")
    out, _ = _piped(b"piped", "bob", "--password-stdin")
    assert out == repr(("bob", "piped", "r.example"))
    out, _ = _piped(b"piped", "", USERNAME_REGISTRY="bob")
    assert out == repr(("bob", "piped", "r.example"))


def test_the_stored_login_of_somebody_else_is_not_taken() -> None:
    _store(Path.home(), "alice")
    out, _ = _piped(b"", "bob")
    assert out.startswith("no password for 'bob' at r.example, ")


def test_a_broken_store_does_not_matter_to_who_types_the_password() -> None:
    _store(Path.home(), "bob")
    (Path.home() / ".docker" / "config.json").write_text("{")
    out, _ = _on_a_terminal(b"secret\n", "bob")
    assert out == repr(("bob", "secret", "r.example"))


# --- which registry ---------------------------------------------------------------------------------------


def _settings(**environ: str) -> Settings:
    return load({}, environ)


def test_no_user_name_changes_nothing() -> None:
    settings = _settings()
    assert with_password(settings, ["a.example", "b.example"], password_stdin=False) is settings


def test_a_user_name_is_for_one_registry() -> None:
    settings = _settings(PUSHER_USERNAME="bob", PUSHER_PASSWORD="secret")
    with pytest.raises(InvalidOption) as caught:
        with_password(settings, {"c.example", "a.example", "b.example"}, password_stdin=False)
    assert caught.value.message == (
        "PUSHER_USERNAME is for one registry, but the queue has jobs for a.example, b.example and c.example"
    )
    assert caught.value.hint == (
        "set PUSHER_REGISTRY to that registry; or log in to each registry with pusher login REGISTRY instead"
    )
    assert with_password(settings, ["a.example"], password_stdin=False).login_registry == "a.example"
    assert with_password(settings, [], password_stdin=False).login_registry is None


def test_a_user_name_for_whatever_comes_is_refused() -> None:
    settings = _settings(PUSHER_USERNAME="bob", PUSHER_PASSWORD="secret")
    with pytest.raises(InvalidOption) as caught:
        with_password(settings, [], password_stdin=False, more_to_come=True)
    assert caught.value.message == ("PUSHER_USERNAME is for one registry, but the queue is empty")


@pytest.mark.parametrize("destinations", [[], ["b.example"], ["a.example", "b.example"]])
def test_a_login_of_the_environment_is_for_the_registry_named_there(destinations: list[str]) -> None:
    settings = _settings(PUSHER_USERNAME="bob", PUSHER_PASSWORD="secret", PUSHER_REGISTRY="a.example/team")
    bound = with_password(settings, destinations, password_stdin=False, more_to_come=True)
    assert (bound.login_registry, bound.password) == ("a.example", "secret")


def test_a_login_of_the_command_line_is_for_its_destination() -> None:
    environ = {"PUSHER_REGISTRY": "a.example", "PUSHER_PASSWORD": "secret"}
    settings = load({"username": "bob"}, environ)
    assert with_password(settings, ["b.example"], password_stdin=False).login_registry == "b.example"


@pytest.mark.parametrize(
    ("environ", "password_stdin", "message"),
    [
        ({}, True, "--password-stdin needs a user name"),
        ({"PUSHER_PASSWORD": "secret"}, False, "PUSHER_PASSWORD needs a user name"),
    ],
)
def test_a_password_needs_a_user_name(environ: dict[str, str], password_stdin: bool, message: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        with_password(load({}, environ), ["r.example"], password_stdin=password_stdin)
    assert (caught.value.message, caught.value.hint) == (message, "add --username USER")


def test_a_process_without_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(PasswordMissing):
        with_password(_settings(PUSHER_USERNAME="bob"), [], password_stdin=True)


def test_run_asks_for_the_registry_of_its_jobs(
    pusher: Pusher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_job(store, registry="a.example")
    store.jobs.pause(add_job(store, registry="b.example").id)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    result = pusher("run", "--username", "bob")
    assert result.code == ExitCode.AUTH
    assert result.err.startswith("error: no password for 'bob' at a.example, and no terminal to ask for it\n")


def test_push_asks_before_it_looks_for_the_image(
    pusher: Pusher, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    result = pusher("push", "registry.example.com/app:1", "--username", "bob")
    assert result.code == ExitCode.AUTH
    assert "at registry.example.com" in result.err
    assert not home.exists()
