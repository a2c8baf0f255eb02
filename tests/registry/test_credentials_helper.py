"""Credential helpers: real programs, and what becomes of everything that they may say."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pusher.errors import CredentialHelperFailed, ExitCode
from pusher.registry.auth.credentials import Credential
from pusher.registry.auth.credentials import helper as module
from pusher.registry.auth.credentials.helper import CredentialHelper
from tests.support.credential_helper import HelperProgram, helper_on_path

FILE = "/home/bob/.docker/config.json"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HelperProgram:
    return helper_on_path(tmp_path / "bin", monkeypatch)


def _helper() -> CredentialHelper:
    return CredentialHelper("test", FILE, "r.example", "https://r.example/key")


def _failure() -> CredentialHelperFailed:
    with pytest.raises(CredentialHelperFailed) as caught:
        _helper().get()
    assert caught.value.exit_code is ExitCode.AUTH
    return caught.value


def test_a_login_it_keeps(program: HelperProgram) -> None:
    program.keep("https://r.example/key", "bob", "hunter2")
    assert _helper().get() == Credential("bob", "hunter2", "docker-credential-test")
    assert program.calls == [(["get"], "https://r.example/key")]


def test_a_login_it_does_not_keep(program: HelperProgram) -> None:
    assert _helper().get() is None


def test_an_identity_token(program: HelperProgram) -> None:
    program.keep("https://r.example/key", "<token>", "refresh")
    found = _helper().get()
    assert found is not None
    assert (found.identity_token, found.password) == ("refresh", "")
    assert "refresh" not in repr(found)


def test_storing_and_erasing_with_no_secret_among_the_arguments(program: HelperProgram) -> None:
    _helper().store("bob", 'hun"ter2 ä')
    assert program.logins == {"https://r.example/key": ["bob", 'hun"ter2 ä']}
    _helper().erase()
    assert program.logins == {}
    assert [arguments for arguments, _ in program.calls] == [["store"], ["erase"]]


@pytest.mark.parametrize(
    "script",
    [
        "echo 'credentials not found in native keychain'; exit 1",
        "printf 'credentials not found in native keychain'; exit 1",
        "printf 'credentials not found in native keychain\\r\\n'; exit 1",
        """echo '{"ServerURL":"","Username":"","Secret":""}'""",
        """echo '{"ServerURL":"x"}'""",
        "true",
        "echo",
        "echo 'Error: no credentials for r.example' >&2; exit 1",
        "echo 'No stored credentials found'; exit 1",
        "echo 'The specified item could not be found in the keychain.'; exit 1",
        "echo 'Credential not found'; exit 2",
        "echo 'cannot find any credentials'; exit 1",
        "echo 'credentials do not exist'; exit 1",
    ],
)
def test_how_it_says_that_there_is_none(program: HelperProgram, script: str) -> None:
    program.behave(script)
    assert _helper().get() is None


@pytest.mark.parametrize(
    "script",
    [
        r"""printf '{"Username":"bob","Secret":"pw"}\000\000'""",
        r"""printf '{"Username":"bob","Secret":"pw\\u0000\\u0000"}'""",
        r"""printf '{"Username":"bob","Secret":"pw"}' | sed 's/./&\x00/g'""",
        r"""printf '\357\273\277{"Username":"bob","Secret":"pw"}\r\n'""",
        """cat > /dev/null; echo '{"Username":"bob","Secret":"pw"}'; echo 'a warning' >&2""",
        """echo 'a new version is available'; echo '{"Username":"bob","Secret":"pw"}'""",
        """printf 'two lines\\n\\n  {\\n"Username":"bob",\\n"Secret":"pw"\\n}\\n'""",
    ],
)
def test_what_programs_of_windows_and_others_add(program: HelperProgram, script: str) -> None:
    program.behave(script)
    assert _helper().get() == Credential("bob", "pw", "docker-credential-test")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'pass store is uninitialized'; exit 1", "pass store is uninitialized"),
        ("echo 'gpg: no agent' >&2; exit 2", "gpg: no agent"),
        ("exit 3", "exit code 3"),
        ("printf 'a\\tb\\n\\033[31mred\\007\\n'; exit 1", "a b [31mred"),
        (
            "echo 'org.freedesktop.secrets was not provided'; exit 1",
            "org.freedesktop.secrets was not provided",
        ),
        ("""echo '{"Username":"bob","Secret":"hunter2"}'; exit 1""", "exit code 1"),
        ("printf %0300d 0; exit 1", "0" * 197 + "..."),
        ("kill -9 $$", "exit code -9"),
    ],
)
def test_its_own_words_are_passed_on(program: HelperProgram, script: str, words: str) -> None:
    program.behave(script)
    error = _failure()
    assert error.message == (
        f"the credential helper docker-credential-test cannot get the login for r.example: {words}"
    )
    assert error.hint == (
        "check whether this works: docker-credential-test list; "
        f"or remove it from {FILE} and run: pusher login r.example"
    )


def test_a_password_it_gives_back_is_not_shown(program: HelperProgram) -> None:
    program.behave('read given; echo "refused: $given"; exit 1')
    with pytest.raises(CredentialHelperFailed) as caught:
        _helper().store("bob", "hunter2")
    assert caught.value.message.endswith("cannot store the login for r.example: exit code 1")


@pytest.mark.parametrize(
    "script",
    [
        "echo hunter2",
        "echo '[\"hunter2\"]'",
        """echo '{"Username":["hunter2"],"Secret":"hunter2"}'""",
        """echo '{"Username":"bob","Secret":{"is":"hunter2"}}'""",
        "printf '\\377\\376hunter2'",
    ],
)
def test_garbage_is_not_quoted(program: HelperProgram, script: str) -> None:
    program.behave(script)
    error = _failure()
    assert error.message == (
        "the credential helper docker-credential-test returned something for r.example "
        "that is not a credential"
    )
    assert error.__cause__ is None


@pytest.mark.parametrize("script", ["exec sleep 60", "sleep 60 & wait", "sleep 60 & exit 0"])
def test_one_that_hangs_is_ended(
    program: HelperProgram, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "time_limit", 0.3)
    program.behave(script)
    start = time.monotonic()
    assert _failure().message == (
        "the credential helper docker-credential-test did not respond within 0.3 seconds"
    )
    assert time.monotonic() - start < 45


def test_one_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    error = _failure()
    assert error.message == (
        f"the credential helper docker-credential-test, which {FILE} names, is not installed"
    )
    assert error.hint == f"install it, or remove it from {FILE} and run: pusher login r.example"


def test_one_that_is_no_program(program: HelperProgram, tmp_path: Path) -> None:
    (tmp_path / "bin" / "docker-credential-test").write_bytes(b"\0\0MZ of another system")
    assert _failure().message == (
        "the credential helper docker-credential-test cannot be started: Exec format error"
    )


@pytest.mark.parametrize("name", ["../evil", "a/b", "a\\b", "", "a b", "a\nb"])
def test_a_name_is_only_a_name(name: str) -> None:
    with pytest.raises(CredentialHelperFailed) as caught:
        CredentialHelper(name, FILE, "r.example", "r.example")
    assert caught.value.message == (
        f"{FILE} names the credential helper {name!r}, which is not the name of a program"
    )
    assert os.sep not in caught.value.hint.replace(FILE, "")
