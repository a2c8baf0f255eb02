"""Storing and removing a login in a file that Docker and Podman use too, and in helpers."""

from __future__ import annotations

import base64
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from pusher.config import Settings
from pusher.errors import CredentialHelperFailed, CredentialsUnreadable, CredentialsUnwritable, ExitCode
from pusher.registry.auth.credentials import find_credential, rewrite
from pusher.registry.auth.credentials.keep import LoginStore
from tests.store.privileges import like_any_user
from tests.support.credential_helper import HelperProgram, helper_on_path

HOST = "r.example"

# As Docker writes it: tabs, no line break at the end.
_EXISTING = """{
	"auths": {
		"https://index.docker.io/v1/": {
			"auth": "aHViOnB3"
		},
		"other.example": {
			"auth": "b3RoZXI6cHc=",
			"identitytoken": "tökén <&>"
		}
	},
	"HttpHeaders": {
		"User-Agent": "Docker-Client/19.03"
	},
	"detachKeys": "ctrl-e,e",
	"experimental": 1.0,
	"plugins": {}
}"""


def _auth(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def existing(path: Path) -> Path:
    path.parent.mkdir()
    path.write_text(_EXISTING)
    return path


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HelperProgram:
    return helper_on_path(tmp_path / "bin", monkeypatch)


def _settings(path: Path) -> Settings:
    return Settings(home=path.parent, database_url="", docker_config=path)


def _keeper(path: Path, registry: str = HOST) -> LoginStore:
    return LoginStore(registry, _settings(path))


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def _folder(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir()}


# --- the file ---------------------------------------------------------------------------------------------


def test_the_first_login_of_all(path: Path) -> None:
    assert _keeper(path).store("bob", "pä:ss") == str(path)
    assert (
        path.read_text()
        == f'{{\n\t"auths": {{\n\t\t"{HOST}": {{\n\t\t\t"auth": "{_auth("bob:pä:ss")}"\n\t\t}}\n\t}}\n}}'
    )
    assert (_mode(path), _mode(path.parent)) == (0o600, 0o700)
    found = find_credential(HOST, _settings(path))
    assert found is not None
    assert (found.username, found.password, found.source) == ("bob", "pä:ss", str(path))


def test_everything_else_stays_byte_for_byte(existing: Path) -> None:
    existing.chmod(0o644)
    _keeper(existing).store("bob", "pw")
    entry = f',\n\t\t"{HOST}": {{\n\t\t\t"auth": "{_auth("bob:pw")}"\n\t\t}}\n\t}},\n\t"HttpHeaders"'
    assert existing.read_text() == _EXISTING.replace('\n\t},\n\t"HttpHeaders"', entry)
    assert _mode(existing) == 0o600
    assert _keeper(existing).forget() == [str(existing)]
    assert existing.read_text() == _EXISTING
    assert _folder(existing) == {"config.json", "config.json.lock"}


def test_a_login_takes_the_place_of_the_one_before(existing: Path) -> None:
    _keeper(existing, "other.example").store("new", "pw")
    assert existing.read_text() == _EXISTING.replace(
        '"auth": "b3RoZXI6cHc=",\n\t\t\t"identitytoken": "tökén <&>"', f'"auth": "{_auth("new:pw")}"'
    )


def test_docker_hub_has_the_key_that_docker_uses(path: Path) -> None:
    _keeper(path, "docker.io").store("bob", "pw")
    assert list(json.loads(path.read_text())["auths"]) == ["https://index.docker.io/v1/"]


@pytest.mark.parametrize("text", ["", "\n", "{}", '{"auths": null}'])
def test_a_file_with_nothing_in_it(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    _keeper(path).store("bob", "pw")
    assert json.loads(path.read_text()) == {"auths": {HOST: {"auth": _auth("bob:pw")}}}


def test_every_spelling_of_the_registry_is_removed(path: Path) -> None:
    path.parent.mkdir()
    kept = {"other.example": {"auth": "x"}, f"{HOST}/team": {"auth": "y"}}
    gone: dict[str, Any] = {HOST: {"auth": "not even base64"}, f"https://{HOST}/v1/": {}, HOST.upper(): {}}
    path.write_text(json.dumps({"auths": {**kept, **gone}}))
    assert _keeper(path).forget() == [str(path)]
    assert json.loads(path.read_text()) == {"auths": kept}


def test_nothing_to_forget_changes_nothing(path: Path, existing: Path) -> None:
    before = existing.stat()
    assert _keeper(path).forget() == []
    assert existing.stat().st_mtime_ns == before.st_mtime_ns
    assert _folder(existing) == {"config.json"}
    existing.unlink()
    path.parent.rmdir()
    assert _keeper(path).forget() == []
    assert not path.parent.exists()


def test_a_symbolic_link_stays_one(existing: Path, tmp_path: Path) -> None:
    link = tmp_path / "home" / "config.json"
    link.parent.mkdir()
    link.symlink_to(Path("..") / "docker" / "config.json")
    assert _keeper(link).store("bob", "pw") == str(link)
    assert link.is_symlink()
    assert HOST in json.loads(existing.read_text())["auths"]
    assert _folder(link) == {"config.json"}


def test_a_symbolic_link_to_a_file_that_is_not_there_yet(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "config.json"
    link.symlink_to(path)
    _keeper(link).store("bob", "pw")
    assert link.is_symlink()
    assert _mode(path) == 0o600


def test_with_sudo_the_file_stays_its_owners(existing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "chown", lambda path, user, group: given.append((user, group)))
    _keeper(existing).store("bob", "pw")
    assert given == [(os.getuid(), os.getgid())]


# --- what must not go wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ['{"auths": {', "[]", '{"auths": []}'])
@pytest.mark.parametrize(
    "act", [lambda k: k.store("bob", "pw"), lambda k: k.forget()], ids=["login", "logout"]
)
def test_a_broken_file_is_never_overwritten(path: Path, text: str, act: Callable[[LoginStore], Any]) -> None:
    with pytest.raises(CredentialsUnreadable):
        act(_keeper_then_break(path, text))
    assert path.read_text() == text
    with pytest.raises(CredentialsUnreadable):
        _keeper(path)


def _keeper_then_break(path: Path, text: str) -> LoginStore:
    keeper = _keeper(path)
    path.parent.mkdir()
    path.write_text(text)
    return keeper


def _unwritable(path: Path, why: str) -> None:
    before = path.read_bytes() if path.exists() else None
    keeper = _keeper(path)
    with pytest.raises(CredentialsUnwritable) as caught:
        keeper.store("bob", "hunter2")
    assert caught.value.message == f"{path} cannot be written: {why}"
    assert caught.value.hint == (
        f"make sure that {path.parent} is writable and has free space, "
        "or use PUSHER_USERNAME and PUSHER_PASSWORD instead"
    )
    assert caught.value.exit_code is ExitCode.AUTH
    assert (path.read_bytes() if path.exists() else None) == before
    assert {name for name in _folder(path) if name.startswith(".")} == set()


@pytest.mark.parametrize("locked_before", [False, True])
def test_a_folder_that_cannot_be_written(existing: Path, locked_before: bool) -> None:
    if locked_before:
        Path(f"{existing}.lock").touch()
    existing.parent.chmod(0o500)
    with like_any_user():
        _unwritable(existing, "Permission denied")
    existing.parent.chmod(0o700)


@contextmanager
def _files_of_at_most(size: int) -> Iterator[None]:
    """A write beyond it fails; python ignores the signal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room(existing: Path) -> None:
    with _files_of_at_most(100):
        _unwritable(existing, "File too large")


def test_a_folder_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "docker").write_text("a file")
    with pytest.raises(CredentialsUnwritable) as caught:
        _keeper(tmp_path / "docker" / "config.json").store("bob", "pw")
    assert "cannot be written: " in caught.value.message


def test_a_crash_before_the_end_leaves_the_file(existing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        _keeper(existing).store("bob", "pw")
    assert existing.read_text() == _EXISTING
    assert _folder(existing) == {"config.json", "config.json.lock"}


def test_another_process_that_does_not_end(existing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrite, "_LOCK_TIMEOUT", 0.1)
    with FileLock(f"{existing}.lock"), pytest.raises(CredentialsUnwritable) as caught:
        _keeper(existing).store("bob", "pw")
    assert caught.value.message == f"another process keeps {existing} locked"
    assert caught.value.hint == f"try again once it is free; what uses it: lsof {existing}.lock"


_STORE_MANY = """
import sys
from pathlib import Path
from pusher.config import Settings
from pusher.registry.auth.credentials import rewrite
from pusher.registry.auth.credentials.keep import LoginStore
rewrite._LOCK_TIMEOUT = 60.0  # the lock is not fair
path = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(25):
    registry = f"{sys.argv[2]}{number}.example"
    LoginStore(registry, Settings(home=path.parent, database_url="", docker_config=path)).store("bob", "pw")
"""


def test_two_processes_lose_nothing(existing: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _STORE_MANY, str(existing), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    stored = set(json.loads(existing.read_text())["auths"])
    assert stored == {"https://index.docker.io/v1/", "other.example"} | {
        f"{name}{number}.example" for name in "ab" for number in range(25)
    }


def test_without_a_file() -> None:
    with pytest.raises(CredentialsUnwritable) as caught:
        LoginStore(HOST, Settings(home=Path(), database_url=""))
    assert caught.value.hint == "set DOCKER_CONFIG to a folder"


# --- helpers ----------------------------------------------------------------------------------------------


def _with_helper(path: Path, auths: dict[str, Any]) -> LoginStore:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"auths": auths, "credsStore": "test"}))
    return _keeper(path)


def test_a_helper_gets_the_login_and_the_file_notes_it(path: Path, program: HelperProgram) -> None:
    keeper = _with_helper(path, {HOST: {"auth": _auth("old:pw")}, "other.example": {}})
    assert not keeper.is_plain_text
    assert keeper.store("bob", "hunter2") == "docker-credential-test"
    assert program.logins == {HOST: ["bob", "hunter2"]}
    assert json.loads(path.read_text()) == {"auths": {HOST: {}, "other.example": {}}, "credsStore": "test"}
    assert keeper.forget() == ["docker-credential-test"]
    assert program.logins == {}
    assert json.loads(path.read_text()) == {"auths": {"other.example": {}}, "credsStore": "test"}
    assert keeper.forget() == []


def test_docker_hub_in_a_helper(path: Path, program: HelperProgram) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps({"credHelpers": {"docker.io": "test"}}))
    _keeper(path, "docker.io").store("bob", "pw")
    assert program.logins == {"https://index.docker.io/v1/": ["bob", "pw"]}


def test_a_login_in_the_file_from_before_there_was_a_helper(path: Path, program: HelperProgram) -> None:
    keeper = _with_helper(path, {HOST: {"auth": _auth("old:pw")}})
    program.keep(HOST, "bob", "pw")
    assert keeper.forget() == ["docker-credential-test", str(path)]


@pytest.mark.parametrize("outdated", [False, True])
def test_a_helper_and_a_file_that_cannot_be_written(
    path: Path, program: HelperProgram, outdated: bool
) -> None:
    """The note is for others and may be missing; an old password may not stay."""
    keeper = _with_helper(path, {HOST: {"auth": _auth("old:pw")}} if outdated else {})
    path.parent.chmod(0o500)
    with like_any_user():
        if outdated:
            with pytest.raises(CredentialsUnwritable):
                keeper.store("bob", "pw")
        else:
            assert keeper.store("bob", "pw") == "docker-credential-test"
    path.parent.chmod(0o700)
    assert program.logins == {HOST: ["bob", "pw"]}


def test_a_helper_that_refuses_leaves_the_file(path: Path, program: HelperProgram) -> None:
    keeper = _with_helper(path, {HOST: {"auth": _auth("old:pw")}})
    before = path.read_text()
    program.behave("echo 'the keychain is locked'; exit 1")
    for act in (lambda: keeper.store("bob", "pw"), keeper.forget):
        with pytest.raises(CredentialHelperFailed):
            act()
    assert path.read_text() == before


def test_a_helper_that_is_not_installed_is_told_at_once(path: Path) -> None:
    with pytest.raises(CredentialHelperFailed):
        _with_helper(path, {})
