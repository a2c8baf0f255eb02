"""The order of the places where a credential may be, and the helpers among them."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pusher.config import Settings, load
from pusher.errors import CredentialHelperFailed, CredentialsUnreadable, PusherError
from pusher.registry.auth.credentials import Credential, find_credential
from tests.support.credential_helper import HelperProgram, helper_on_path

HOST = "r.example"


def _auths(username: str, key: str = HOST) -> dict[str, Any]:
    return {"auths": {key: {"auth": base64.b64encode(f"{username}:pw".encode()).decode()}}}


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HelperProgram:
    return helper_on_path(tmp_path / "bin", monkeypatch)


def _write(path: Path, config: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(config))
    return path


def _docker(tmp_path: Path, config: Any, **given: Any) -> Settings:
    path = _write(tmp_path / "docker" / "config.json", config)
    return Settings(home=tmp_path, database_url="", docker_config=path, **given)


def _user(settings: Settings, registry: str = HOST, repository: str = "") -> str | None:
    found = find_credential(registry, settings, repository)
    return found.username if found else None


def test_each_place_counts_where_those_before_it_have_nothing(
    tmp_path: Path, program: HelperProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every place has a login at first, and loses it after it was used; by the real environment."""
    docker, runtime, user = (
        tmp_path / "docker",
        tmp_path / "run" / "containers",
        tmp_path / "conf" / "containers",
    )
    podman = helper_on_path(tmp_path / "podman-bin", monkeypatch, "podman")
    for folder in (runtime.parent, user.parent):
        folder.mkdir()
    program.keep(HOST, "helper", "pw")
    podman.keep(HOST, "podman-helper", "pw")
    _write(docker / "config.json", {**_auths("file"), "credsStore": "test"})
    _write(runtime / "auth.json", {**_auths("runtime"), "credHelpers": {HOST: "podman"}})
    _write(user / "auth.json", _auths("user"))
    environ = {
        "HOME": str(tmp_path),
        "PUSHER_USERNAME": "variable",
        "PUSHER_PASSWORD": "pw",
        "DOCKER_AUTH_CONFIG": json.dumps(_auths("env")),
        "DOCKER_CONFIG": str(docker),
        "XDG_RUNTIME_DIR": str(runtime.parent),
        "XDG_CONFIG_HOME": str(user.parent),
    }

    def found(flags: dict[str, object] | None = None) -> tuple[str, str] | None:
        settings = replace(load(flags or {}, environ), login_registry=HOST)
        credential = find_credential(HOST, settings, "team/app")
        return (credential.username, credential.source) if credential else None

    assert found({"username": "flag"}) == ("flag", "--username")
    assert found() == ("variable", "PUSHER_USERNAME")
    del environ["PUSHER_USERNAME"], environ["PUSHER_PASSWORD"]
    assert found() == ("env", "DOCKER_AUTH_CONFIG")
    del environ["DOCKER_AUTH_CONFIG"]
    assert found() == ("helper", "docker-credential-test")
    program.behave("echo 'credentials not found in native keychain'; exit 1")
    assert found() == ("file", str(docker / "config.json"))
    _write(docker / "config.json", {"auths": {HOST: {}}, "credsStore": "test"})
    assert found() == ("podman-helper", "docker-credential-podman")
    podman.behave("echo 'credentials not found in native keychain'; exit 1")
    assert found() == ("runtime", str(runtime / "auth.json"))
    (runtime / "auth.json").unlink()
    assert found() == ("user", str(user / "auth.json"))
    environ["REGISTRY_AUTH_FILE"] = str(_write(tmp_path / "named.json", _auths("named")))
    assert found() == ("named", str(tmp_path / "named.json"))
    (tmp_path / "named.json").unlink()
    assert found() is None


# --- helpers of Docker's file -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("registry", "server"),
    [
        ("r.example:5000", "r.example:5000"),
        ("docker.io", "https://index.docker.io/v1/"),
        ("registry-1.docker.io", "https://index.docker.io/v1/"),
    ],
)
def test_a_helper_is_asked_by_the_name_that_docker_uses(
    tmp_path: Path, program: HelperProgram, registry: str, server: str
) -> None:
    program.keep(server, "bob", "pw")
    assert _user(_docker(tmp_path, {"credsStore": "test"}), registry) == "bob"
    assert program.calls == [(["get"], server)]


@pytest.mark.parametrize("key", ["docker.io", "index.docker.io", "https://index.docker.io/v1/"])
def test_a_helper_of_docker_hub(tmp_path: Path, program: HelperProgram, key: str) -> None:
    program.keep("https://index.docker.io/v1/", "bob", "pw")
    assert _user(_docker(tmp_path, {"credHelpers": {key: "test"}}), "docker.io") == "bob"


def test_a_helper_for_one_registry_comes_before_the_one_for_all(
    tmp_path: Path, program: HelperProgram
) -> None:
    program.keep(HOST, "bob", "pw")
    settings = _docker(tmp_path, {"credHelpers": {HOST: "test"}, "credsStore": "missing"})
    assert _user(settings) == "bob"
    with pytest.raises(CredentialHelperFailed) as caught:
        find_credential("other.example", settings)
    assert "docker-credential-missing" in caught.value.message
    assert str(tmp_path / "docker" / "config.json") in caught.value.message


def test_an_empty_name_is_no_helper(tmp_path: Path) -> None:
    config = {**_auths("file"), "credHelpers": {HOST: ""}, "credsStore": "missing"}
    assert _user(_docker(tmp_path, config)) == "file"


def test_a_helper_that_fails_is_not_passed_over(tmp_path: Path, program: HelperProgram) -> None:
    """The file may have an old login of another user."""
    program.behave("echo 'the keychain is locked'; exit 1")
    with pytest.raises(CredentialHelperFailed) as caught:
        find_credential(HOST, _docker(tmp_path, {**_auths("file"), "credsStore": "test"}))
    assert caught.value.message.endswith("the keychain is locked")


def test_a_helper_is_not_asked_in_vain(tmp_path: Path, program: HelperProgram) -> None:
    settings = _docker(tmp_path, {"credsStore": "test"}, docker_auth_config=json.dumps(_auths("env")))
    assert _user(settings) == "env"
    assert program.calls == []


def test_a_login_of_a_helper_can_be_had_again(tmp_path: Path, program: HelperProgram) -> None:
    settings = _docker(tmp_path, {"credsStore": "test"})
    program.keep(HOST, "bob", "first")
    assert find_credential(HOST, settings) == Credential("bob", "first", "docker-credential-test")
    program.keep(HOST, "bob", "second")
    again = find_credential(HOST, settings)
    assert again is not None
    assert again.password == "second"


# --- Podman's files, and the variable ---------------------------------------------------------------------


def test_a_helper_of_podman_is_asked_by_the_registrys_name(tmp_path: Path, program: HelperProgram) -> None:
    program.keep("docker.io", "bob", "pw")
    path = _write(tmp_path / "auth.json", {"credHelpers": {"docker.io": "test"}, "credsStore": "missing"})
    settings = Settings(home=tmp_path, database_url="", auth_files=(path,))
    assert _user(settings, "docker.io", "library/app") == "bob"
    assert program.calls == [(["get"], "docker.io")]
    assert _user(settings, HOST) is None


def test_podmans_files_in_their_order(tmp_path: Path) -> None:
    paths = [tmp_path / "missing.json", tmp_path / "one.json", tmp_path / "two.json"]
    _write(paths[1], _auths("one", f"{HOST}/team"))
    _write(paths[2], _auths("two"))
    settings = Settings(home=tmp_path, database_url="", auth_files=tuple(paths))
    assert _user(settings, repository="team/app") == "one"
    assert _user(settings, repository="other/app") == "two"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hunter2", "it is not JSON"),
        ('["hunter2"]', "it is not a JSON object"),
        (
            '{"auths": {"r.example": {"auth": "hunter2"}}}',
            "its entry for r.example is not base64 of user:password",
        ),
    ],
)
def test_a_broken_variable_is_named_and_never_quoted(tmp_path: Path, text: str, why: str) -> None:
    settings = _docker(tmp_path, _auths("file"), docker_auth_config=text)
    assert "hunter2" not in repr(settings)
    with pytest.raises(CredentialsUnreadable) as caught:
        find_credential(HOST, settings)
    assert caught.value.message == f"the credentials in DOCKER_AUTH_CONFIG cannot be read: {why}"


def test_the_variable_of_another_registry(tmp_path: Path) -> None:
    text = json.dumps({**_auths("env", "other.example"), "credsStore": "missing"})
    assert _user(_docker(tmp_path, _auths("file"), docker_auth_config=text)) == "file"
    assert _user(_docker(tmp_path, _auths("file"), docker_auth_config=text), "other.example") == "env"


@pytest.mark.parametrize(
    ("config", "script", "problem"),
    [
        ({"credsStore": "gone"}, "", "docker-credential-gone, which"),
        ({"credHelpers": {HOST: "gone"}}, "", "docker-credential-gone, which"),
        ({"credHelpers": {HOST: "a/b"}}, "", "which is not the name of a program"),
        ({"credsStore": "test"}, "echo 'the keychain is locked' >&2; exit 1", "the keychain is locked"),
        ({"credsStore": "test"}, "echo no JSON", "returned something for r.example that is not a credential"),
        ({"credsStore": 5}, "", "is not text"),
    ],
)
def test_the_search_goes_on_past_what_cannot_be_used(
    tmp_path: Path, program: HelperProgram, config: dict[str, Any], script: str, problem: str
) -> None:
    program.behave(script)
    podman = _write(tmp_path / "podman" / "auth.json", _auths("podman"))
    for more, user in ((_auths("file"), "file"), ({}, "podman")):
        settings = _docker(tmp_path, {**config, **more}, auth_files=(podman,))
        problems: list[PusherError] = []
        found = find_credential(HOST, settings, on_problem=problems.append)
        assert found is not None
        assert found.username == user
        assert len(problems) == 1
        assert problem in problems[0].message
        assert "pusher login" in problems[0].hint or "fix" in problems[0].hint


def test_a_broken_file_is_told_of_once(tmp_path: Path) -> None:
    problems: list[PusherError] = []
    settings = _docker(tmp_path, {})
    (tmp_path / "docker" / "config.json").write_text("{")
    assert find_credential(HOST, settings, on_problem=problems.append) is None
    assert [type(problem) for problem in problems] == [CredentialsUnreadable]
