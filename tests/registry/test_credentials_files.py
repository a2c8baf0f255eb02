"""What stands in Docker's and Podman's files, and how registries are named there."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pusher.config import Settings
from pusher.errors import CredentialsUnreadable, CredentialsUnwritable, ExitCode, PasswordMissing
from pusher.registry.auth.credentials import Credential, find_credential
from pusher.registry.auth.credentials.authfile import AuthFile
from pusher.registry.auth.credentials.rewrite import rewrite_auth_file
from tests.support.real import require


def _auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def _settings(tmp_path: Path, config: Any = None, **given: Any) -> Settings:
    path = tmp_path / "config.json"
    if config is not None:
        path.write_text(config if isinstance(config, str) else json.dumps(config))
    return Settings(home=tmp_path, database_url="", docker_config=path, **given)


def test_what_was_given_wins(tmp_path: Path) -> None:
    config = {"auths": {"r.example": _auth("file:file")}}
    settings = _settings(tmp_path, config, username="bob", password="secret", login_registry="r.example")
    assert find_credential("r.example", settings) == Credential("bob", "secret", "--username")


def test_what_was_given_for_one_registry_goes_to_no_other(tmp_path: Path) -> None:
    config = {"auths": {"other.example": _auth("file:pw")}}
    settings = _settings(tmp_path, config, username="bob", password="secret", login_registry="r.example")
    found = find_credential("r.example", settings)
    assert found is not None
    assert found.username == "bob"
    assert find_credential("other.example", settings) == Credential(
        "file", "pw", str(tmp_path / "config.json")
    )
    assert find_credential("third.example", settings) is None


def test_what_was_given_for_nobody_in_particular_goes_nowhere(tmp_path: Path) -> None:
    assert find_credential("r.example", _settings(tmp_path, username="bob", password="secret")) is None


@pytest.mark.parametrize("password", [None, ""])
def test_a_user_name_without_password(tmp_path: Path, password: str | None) -> None:
    with pytest.raises(PasswordMissing) as caught:
        find_credential(
            "r.example",
            _settings(tmp_path, username="bob", password=password, login_registry="r.example"),
        )
    assert caught.value.message == "there is no password for user 'bob' at r.example"
    assert caught.value.hint == "give it with --password-stdin or in PUSHER_PASSWORD"
    assert caught.value.exit_code is ExitCode.AUTH


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("r.example", "r.example"),
        ("R.example", "r.EXAMPLE"),
        ("https://r.example", "r.example"),
        ("https://r.example/v1/", "r.example"),
        ("http://r.example:5000/v2/", "r.example:5000"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("https://index.docker.io/v1/", "registry-1.docker.io"),
        ("docker.io", "index.docker.io"),
        ("index.docker.io/v1/", "docker.io"),
        ("r.example/v2/", "r.example"),
        ("r.example/", "r.example"),
        ("[::1]:5000", "[::1]:5000"),
    ],
)
def test_keys_of_the_docker_config(tmp_path: Path, key: str, registry: str) -> None:
    settings = _settings(tmp_path, {"auths": {"other.example": _auth("x:y"), key: _auth("bob:secret")}})
    assert find_credential(registry, settings) == Credential("bob", "secret", str(tmp_path / "config.json"))


def test_docker_hub_by_the_key_that_docker_writes(tmp_path: Path) -> None:
    auths = {"docker.io": _auth("a:a"), "https://index.docker.io/v1/": _auth("b:b")}
    for entries in (auths, dict(reversed(auths.items()))):
        found = find_credential("docker.io", _settings(tmp_path, {"auths": entries}))
        assert found is not None
        assert found.username == "b"


def test_the_plain_host_beats_an_old_url(tmp_path: Path) -> None:
    auths = {"https://r.example/v1/": _auth("old:old"), "r.example": _auth("new:new")}
    found = find_credential("r.example", _settings(tmp_path, {"auths": auths}))
    assert found is not None
    assert found.username == "new"


@pytest.mark.parametrize(
    ("text", "username", "password"),
    [
        ("bob:a:b:c", "bob", "a:b:c"),
        ("bob:secret\0\0", "bob", "secret"),
        ("bob:pässwörd", "bob", "pässwörd"),
        ("bob: secret\n", "bob", " secret\n"),
    ],
)
def test_how_an_entry_is_read(tmp_path: Path, text: str, username: str, password: str) -> None:
    found = find_credential("r.example", _settings(tmp_path, {"auths": {"r.example": _auth(text)}}))
    assert found is not None
    assert (found.username, found.password) == (username, password)


LONG = base64.b64encode(b"bob:" + b"p" * 80).decode()


@pytest.mark.parametrize(
    ("auth", "password"),
    [
        (f"{LONG[:76]}\n{LONG[76:]}\n", "p" * 80),  # as base64 prints it
        (f"{LONG[:76]}\r\n{LONG[76:]}\r\n", "p" * 80),
        ("Ym9iOnNlY3JldHM", "secrets"),
        ("Ym9iOnNlY3JldHM\n", "secrets"),
        ("Ym9iOnNlY3JldA", "secret"),
        ("Ym9iOnNlY3JldA==\n", "secret"),
        (base64.b64encode("bob:sécret".encode("latin-1")).decode(), "s\udce9cret"),
    ],
)
def test_base64_as_other_tools_write_it(tmp_path: Path, auth: str, password: str) -> None:
    """Docker, Podman and skopeo read those with line breaks and those that are no UTF-8; without padding
    Kubernetes and crane do."""
    found = find_credential("r.example", _settings(tmp_path, {"auths": {"r.example": {"auth": auth}}}))
    assert found is not None
    assert (found.username, found.password) == ("bob", password)


def test_half_of_a_surrogate_pair(tmp_path: Path) -> None:
    config = '{"auths": {"r.example": {"username": "b\\ud800b", "password": "s\\udc00"}}}'
    found = find_credential("r.example", _settings(tmp_path, config))
    assert found is not None
    assert (found.username, found.password) == ("b\ufffdb", "s\ufffd")


def test_an_entry_of_a_variable_is_mended_there(tmp_path: Path) -> None:
    settings = _settings(tmp_path, docker_auth_config='{"auths": {"r.example": {"auth": "YWxpY2U="}}}')
    with pytest.raises(CredentialsUnreadable) as caught:
        find_credential("r.example", settings)
    assert caught.value.hint == "put the output of `printf %s USER:PASSWORD | base64 -w0` there"


def test_an_entry_in_the_open(tmp_path: Path) -> None:
    config = {"auths": {"r.example": {"username": "bob", "password": "secret"}}}
    found = find_credential("r.example", _settings(tmp_path, config))
    assert found is not None
    assert (found.username, found.password) == ("bob", "secret")


@pytest.mark.parametrize(
    "config",
    [
        None,
        {},
        {"auths": {}},
        {"auths": None},
        {"auths": {"other.example": _auth("bob:secret")}},
        {"auths": {"r.example": {}}},
        {"auths": {"r.example": _auth("bob:")}},
        {"auths": {"not-r.example": _auth("bob:secret"), "r.example:443": _auth("bob:secret")}},
        {"auths": {"r.example/team": _auth("bob:secret")}},
        "",
        "\n",
    ],
)
def test_no_credential(tmp_path: Path, config: Any) -> None:
    assert find_credential("r.example", _settings(tmp_path, config)) is None


def test_no_file_is_looked_at_unless_one_is_set(tmp_path: Path) -> None:
    assert find_credential("r.example", Settings(home=tmp_path, database_url="")) is None


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ('{"auths": {"r.example": {"auth": "hunter2', "it is not JSON"),
        ("[]", "it is not a JSON object"),
        ('{"auths": ["hunter2"]}', "its 'auths' is not an object"),
        ('{"auths": {"r.example": "hunter2"}}', "its entry for r.example is not an object"),
        (
            '{"auths": {"r.example": {"auth": "hunter2!"}}}',
            "its entry for r.example is not base64 of user:password",
        ),
        (
            '{"auths": {"r.example": {"password": ["hunter2"]}}}',
            "the 'password' of its entry for r.example is not text",
        ),
        (
            '{"auths": {"r.example": {"identitytoken": 5}}}',
            "the 'identitytoken' of its entry for r.example is not text",
        ),
        ('{"credHelpers": ["hunter2"]}', "its 'credHelpers' is not an object"),
        ('{"credsStore": 5}', "the name of its credential helper for r.example is not text"),
        ("[" * 100_000, "it is nested more than 100 deep"),
        (" " * (16 << 20) + "{}", "it has 16777217 bytes, which is more than 16777216"),
        ('{"auths": {"r.example": {"auth": 5}}}', "its entry for r.example is not base64 of user:password"),
        (
            {"auths": {"r.example": _auth("hunter2")}},
            "its entry for r.example is not base64 of user:password",
        ),
        *(
            (
                {"auths": {"r.example": {"auth": auth}}},
                "its entry for r.example is not base64 of user:password",
            )
            for auth in (
                "/w==",
                "Ym9iOnB3Cg===",
                " Ym9iOnB3",
                "Ym9i OnB3",
                "Ym9iOn_-",
                "é",
            )
        ),
    ],
)
def test_a_broken_file_is_named_and_never_quoted(tmp_path: Path, config: Any, why: str) -> None:
    with pytest.raises(CredentialsUnreadable) as caught:
        find_credential("r.example", _settings(tmp_path, config))
    error = caught.value
    assert error.message == f"the credentials in {tmp_path}/config.json cannot be read: {why}"
    if "base64" in why:
        assert error.hint == "store the login again: pusher login r.example"
    else:
        assert error.hint == "fix or remove it, or push with --username and --password-stdin"
    assert error.exit_code is ExitCode.AUTH
    assert error.__cause__ is None


def test_a_broken_entry_of_another_registry_does_not_matter(tmp_path: Path) -> None:
    config = {"auths": {"other.example": "nonsense", "r.example": _auth("bob:secret")}}
    assert find_credential("r.example", _settings(tmp_path, config)) is not None


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(CredentialsUnreadable) as caught:
        find_credential("r.example", _settings(tmp_path))
    assert caught.value.message.endswith("config.json cannot be read: Is a directory")


def test_the_password_is_not_in_the_repr() -> None:
    assert repr(Credential("bob", "hunter2", "--username", "refresh", "bearer")) == (
        "Credential(username='bob', source='--username')"
    )


# --- tokens -----------------------------------------------------------------------------------------------


def test_tokens_in_place_of_a_password(tmp_path: Path) -> None:
    auths = {
        "identity.example": {**_auth("00000000-0000:"), "identitytoken": "refresh"},
        "registry.example": {"registrytoken": "bearer"},
    }
    settings, place = _settings(tmp_path, {"auths": auths}), str(tmp_path / "config.json")
    assert find_credential("identity.example", settings) == Credential(
        "00000000-0000", "", place, identity_token="refresh"
    )
    assert find_credential("registry.example", settings) == Credential("", "", place, registry_token="bearer")


# --- namespaces -------------------------------------------------------------------------------------------

_NAMESPACES = {
    "quay.io/team/app": _auth("app:pw"),
    "quay.io": _auth("host:pw"),
    "quay.io/team": _auth("team:pw"),
    "Docker.io/library": _auth("hub:pw"),
}


@pytest.mark.parametrize(
    ("registry", "repository", "username"),
    [
        ("quay.io", "team/app", "app"),
        ("quay.io", "team/app/sub", "app"),
        ("quay.io", "team/other", "team"),
        ("quay.io", "team/application", "team"),
        ("quay.io", "teams/app", "host"),
        ("quay.io", "", "host"),
        ("docker.io", "library/busybox", "hub"),
        ("docker.io", "bob/app", None),
        ("docker.io", "", None),
    ],
)
def test_the_longest_namespace_wins(
    tmp_path: Path, registry: str, repository: str, username: str | None
) -> None:
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": _NAMESPACES}))
    settings = Settings(home=tmp_path, database_url="", auth_files=(path,))
    found = find_credential(registry, settings, repository)
    assert (found.username if found else None) == username


def test_a_pipe_in_place_of_the_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(CredentialsUnreadable, match="it is a pipe, not a file"):
        AuthFile.read(tmp_path / "config.json")


def test_a_file_of_nothing_is_empty() -> None:
    assert AuthFile.read(Path(os.devnull)).content == {}


def test_another_users_link_is_not_followed(tmp_path: Path) -> None:
    require(root=True)
    victim = tmp_path / "victim"
    victim.write_text("{}")
    (tmp_path / "config.json").symlink_to(victim)
    with rewrite_auth_file(tmp_path / "config.json") as content:
        content["auths"] = {}
    os.chown(tmp_path / "config.json", 4242, 4242, follow_symlinks=False)
    with (
        pytest.raises(CredentialsUnwritable, match="another user's link"),
        rewrite_auth_file(tmp_path / "config.json"),
    ):
        pass
