"""Logins from an htpasswd file."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import bcrypt
import pytest

from pusher.errors import InvalidOption
from pusher.serve import access, password_file
from pusher.serve.password_file import PasswordFile
from tests.cli.conftest import Pusher, home, pusher  # noqa: F401 - pytest finds fixtures by name
from tests.serve.served import Served, codes


def line(username: str, password: str) -> str:
    hashed = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    return f"{username}:{hashed.replace('$2b$', '$2y$')}\n"  # as htpasswd writes it


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "htpasswd"
    path.write_text("# the team\n\n" + line("alice", "secret phräse") + line("bob", "x" * 80))
    return path


def test_its_users_log_in(path: Path) -> None:
    users = PasswordFile(path)
    for _ in range(2):  # the second time from memory
        assert users.is_right("alice", "secret phräse")
        assert users.is_right("bob", "x" * 80)
        assert not users.is_right("alice", "secret")
        assert not users.is_right("bob", "secret phräse")
        assert not users.is_right("carol", "secret phräse")
        assert not users.is_right("alice", "")
        assert not users.is_right("alice", "nul\0")


def test_a_right_password_is_verified_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = PasswordFile(path)
    assert users.is_right("alice", "secret phräse")

    def fail(*_: object) -> bool:
        raise AssertionError("bcrypt was asked again")

    monkeypatch.setattr(password_file, "_verify", fail)
    assert users.is_right("alice", "secret phräse")


def test_a_file_that_changes_is_read_again(path: Path) -> None:
    users = PasswordFile(path)
    assert users.is_right("alice", "secret phräse")
    path.write_text(line("alice", "another") + line("dave", "d"))
    assert not users.is_right("alice", "secret phräse")
    assert users.is_right("dave", "d")
    path.write_text("broken")
    assert users.is_right("dave", "d"), "a file that is being written locks nobody out"
    path.unlink()
    assert users.is_right("alice", "another")


def test_clients_of_serve_log_in_with_it(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_WRONG_PASSWORD", 0.0)
    with Served(tmp_path / "registry", PasswordFile(path), is_local=False) as served:
        assert served.ask("GET", "/v2/", auth=("alice", "secret phräse".encode())).status_code == 200
        answer = served.ask("GET", "/v2/", auth=("alice", "wrong"))
        assert (answer.status_code, codes(answer)) == (401, ["UNAUTHORIZED"])
        assert served.ask("GET", "/v2/").status_code == 401
        threads = [
            threading.Thread(target=lambda: PasswordFile(path).is_right("bob", "x" * 80)) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        assert served.ask("GET", "/healthz").status_code == 200
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "alice:$apr1$mI7SilJz$CWwYJyYKbhVDNl26sdUSh/\n",
            "line 1: the password of 'alice' is not a bcrypt hash",
        ),
        ("bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "line 1: the password of 'bob' is not a bcrypt hash"),
        ("# x\nbob:secret\n", "line 2: the password of 'bob' is not a bcrypt hash"),
        ("nonsense\n", "line 1: the line is not a bcrypt hash"),
        ("# nobody\n", "has no users"),
    ],
)
def test_other_files_are_refused_with_the_command_to_write(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "htpasswd"
    path.write_text(text)
    with pytest.raises(InvalidOption) as caught:
        PasswordFile(path)
    assert message in caught.value.message
    assert "secret" not in caught.value.message
    assert "htpasswd -B" in (caught.value.hint or "")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="cannot be read: No such file"):
        PasswordFile(tmp_path / "none")
    (tmp_path / "binary").write_bytes(os.urandom(100) + b"\xff")
    with pytest.raises(InvalidOption, match="not an htpasswd file"):
        PasswordFile(tmp_path / "binary")


def test_it_is_instead_of_a_user(pusher: Pusher, path: Path) -> None:  # noqa: F811
    result = pusher("serve", "--htpasswd", str(path), "--username", "alice")
    assert result.code == 2
    assert "give one of the two" in result.err
