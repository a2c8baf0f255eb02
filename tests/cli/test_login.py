"""``pusher login`` and ``logout``: checked before it is stored, through the real command."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from pusher.errors import ExitCode
from tests.cli.conftest import Pusher, Result
from tests.registry.sites import Seen, Site
from tests.support.credential_helper import HelperProgram, helper_on_path
from tests.support.dialogue import dialogue
from tests.support.fakeregistry import FakeRegistry
from tests.support.fakeregistry.wire import Reply
from tests.support.tokens import TokenServer, demand

PASSWORD = "correct horse"
Type = Callable[[bytes], None]


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(credentials=("bob", PASSWORD)) as registry:
        yield registry


@pytest.fixture
def config() -> Path:
    """Docker's file; nothing is there at first."""
    return Path.home() / ".docker" / "config.json"


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Type]:
    """Put this on standard input."""
    opened = []

    def put(data: bytes) -> None:
        reader, writer = os.pipe()
        os.write(writer, data)
        os.close(writer)
        opened.append(os.fdopen(reader))
        monkeypatch.setattr(sys, "stdin", opened[-1])

    put(b"")
    yield put
    for file in opened:
        file.close()


@pytest.fixture
def login(pusher: Pusher, pipe: Type) -> Callable[..., Result]:
    """Log in with a password on standard input."""

    def run(registry: str, *options: str, user: str = "bob", password: str = PASSWORD) -> Result:
        pipe(f"{password}\n".encode())
        return pusher("login", registry, "--username", user, "--password-stdin", *options)

    return run


def _auths(config: Path) -> dict[str, Any]:
    auths: dict[str, Any] = json.loads(config.read_text())["auths"]
    return auths


def _entry(user: str = "bob", password: str = PASSWORD) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


# --- login ------------------------------------------------------------------------------------------------


def test_a_login_is_stored_where_docker_would(
    registry: FakeRegistry, login: Callable[..., Result], config: Path, home: Path
) -> None:
    result = login(registry.address)
    assert result == Result(
        ExitCode.DONE,
        f"Logged in to {registry.address} as bob; the login is stored in {config}, not encrypted.\n",
        "",
    )
    assert _auths(config) == {registry.address: _entry()}
    assert [record.status for record in registry.requests()] == [401, 200]
    assert not home.exists()


def test_a_wrong_password_stores_nothing(
    registry: FakeRegistry, login: Callable[..., Result], config: Path
) -> None:
    result = login(registry.address, password="hunter2")
    assert (result.code, result.out) == (ExitCode.AUTH, "")
    assert result.err.startswith(
        f"error: {registry.address} rejects the credential for user bob (--username)"
    )
    assert result.err.endswith(
        ": authentication required; nothing was stored\n"
        "  hint: check the user name and the password; many registries require an access token from their "
        "website "
        "in place of the password\n"
    )
    assert not config.parent.exists()


def test_a_wrong_password_leaves_the_one_before(
    registry: FakeRegistry, login: Callable[..., Result], config: Path
) -> None:
    login(registry.address)
    before = config.stat()
    assert login(registry.address, password="hunter2").code == ExitCode.AUTH
    assert (config.stat().st_ino, config.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_registry_that_is_not_there_stores_nothing(
    registry: FakeRegistry, login: Callable[..., Result], config: Path
) -> None:
    registry.stop()
    result = login(registry.address)
    assert result.code == ExitCode.UNFINISHED
    assert result.err.startswith(f"error: {registry.address} refuses the connection; nothing was stored\n")
    assert not config.parent.exists()


def test_a_registry_that_asks_nobody(login: Callable[..., Result], config: Path) -> None:
    with FakeRegistry() as registry:
        result = login(registry.address)
    assert result.code == ExitCode.DONE
    assert result.err == f"{registry.address} does not require a login, so this one could not be checked.\n"
    assert result.out == f"The login of bob for {registry.address} is stored in {config}, not encrypted.\n"
    assert registry.address in _auths(config)


def test_a_registry_with_a_token_server(login: Callable[..., Result], config: Path) -> None:
    with TokenServer(login=("bob", PASSWORD)) as tokens, FakeRegistry() as registry:
        registry.faults.add(demand(tokens))
        wrong = login(registry.address, password="hunter2")
        assert wrong.code == ExitCode.AUTH
        assert (
            "; nothing was stored\n  hint: check the user name and the password; many registries" in wrong.err
        )
        assert not config.exists()
        assert login(registry.address).err == ""
    assert _auths(config) == {registry.address: _entry()}
    assert [asked.login for asked in tokens.asked][-1] == ("bob", PASSWORD)


def test_the_certificate_is_verified_as_for_a_push(
    login: Callable[..., Result], config: Path, tmp_path: Path
) -> None:
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    right = f"Basic {_entry()['auth']}"

    def answer(seen: Seen) -> Reply:
        if seen.headers.get("authorization") == right:
            return Reply(200, {}, b"{}")
        return Reply(401, {"WWW-Authenticate": 'Basic realm="a test"'})

    with Site(answer, context) as site:
        unknown = login(site.address)
        assert unknown.code == ExitCode.FAILED
        assert "; nothing was stored\n" in unknown.err
        assert not config.exists()
        assert login(site.address, "--ca-cert", str(tmp_path / "ca.pem")).code == ExitCode.DONE
        assert login(site.address, "--insecure", site.address).code == ExitCode.DONE
    assert _auths(config) == {site.address: _entry()}


def test_in_a_helper(
    registry: FakeRegistry,
    login: Callable[..., Result],
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = _with_helper(config, tmp_path, monkeypatch)
    assert login(registry.address, password="hunter2").code == ExitCode.AUTH
    assert program.calls == []
    result = login(registry.address)
    assert result.out == (
        f"Logged in to {registry.address} as bob; the login is stored in docker-credential-test.\n"
    )
    assert program.logins == {registry.address: ["bob", PASSWORD]}
    assert [arguments for arguments, _ in program.calls] == [["store"]]
    assert _auths(config) == {registry.address: {}}


def _with_helper(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HelperProgram:
    config.parent.mkdir()
    config.write_text('{"credsStore": "test"}')
    return helper_on_path(tmp_path / "bin", monkeypatch)


@pytest.mark.parametrize(
    ("text", "why", "hint"),
    [
        ('{"auths": {"hunter2', "cannot be read: it is not JSON", "fix or remove it, or push with"),
        ('{"credsStore": "missing"}', "is not installed", "install it, or remove it from"),
    ],
)
def test_a_place_that_cannot_be_used_is_told_before_anything_is_asked(
    pusher: Pusher, registry: FakeRegistry, config: Path, text: str, why: str, hint: str
) -> None:
    config.parent.mkdir()
    config.write_text(text)
    result = pusher("login", registry.address)
    assert result.code == ExitCode.AUTH
    assert why in result.err
    assert f"  hint: {hint}" in result.err
    assert str(config) in result.err
    assert registry.requests() == []
    assert config.read_text() == text


def test_another_place_that_comes_first_is_named(
    registry: FakeRegistry, login: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({"auths": {registry.address: _entry("env")}}))
    result = login(registry.address)
    assert result.code == ExitCode.DONE
    assert result.err == (
        f"DOCKER_AUTH_CONFIG has a login for {registry.address} too, and takes precedence.\n"
    )


def test_by_variables(
    pusher: Pusher, pipe: Type, registry: FakeRegistry, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSHER_USERNAME", "bob")
    monkeypatch.setenv("PUSHER_PASSWORD", PASSWORD)
    assert pusher("login", registry.address).code == ExitCode.DONE
    assert _auths(config) == {registry.address: _entry()}


@pytest.mark.parametrize("options", [[], ["--password-stdin"]])
def test_no_user_name_and_no_terminal(
    pusher: Pusher, pipe: Type, registry: FakeRegistry, options: list[str]
) -> None:
    result = pusher("login", registry.address, *options)
    assert result.code == ExitCode.USAGE
    assert result.err == (
        f"error: no user name for {registry.address}, and no terminal to ask for it\n"
        f"  hint: pusher login {registry.address} --username USER --password-stdin\n"
    )


def test_a_user_name_with_a_colon(login: Callable[..., Result], registry: FakeRegistry) -> None:
    result = login(registry.address, user="bob:secret")
    assert result.code == ExitCode.USAGE
    assert "contains a colon" in result.err
    assert registry.requests() == []


# --- which registry ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["http://{}", "http://{}/", "http://{}/v2/", "{}/", "HTTP://{}"])
def test_a_registry_written_as_a_url(
    login: Callable[..., Result], registry: FakeRegistry, config: Path, form: str
) -> None:
    assert login(form.format(registry.address)).code == ExitCode.DONE
    assert list(_auths(config)) == [registry.address]


def test_the_default_registry(
    login: Callable[..., Result],
    pusher: Pusher,
    pipe: Type,
    registry: FakeRegistry,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PUSHER_REGISTRY", f"{registry.address}/team")
    pipe(PASSWORD.encode())
    assert pusher("login", "--username", "bob", "--password-stdin").code == ExitCode.DONE
    assert list(_auths(config)) == [registry.address]
    assert pusher("logout").out == f"Removed the login for {registry.address} from {config}.\n"


@pytest.mark.parametrize("command", ["login", "logout"])
@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            [],
            "no registry given",
            "pusher {} registry.example.com, or pusher {} docker.io for Docker Hub",
        ),
        (
            ["r.example/team"],
            "'r.example/team' is not a registry, and a login is for a whole registry",
            "pusher {} r.example",
        ),
        (
            ["https://bob:hunter2@r.example/"],
            "give the host of the registry without user name and password",
            "pusher {} r.example/",
        ),
        (
            ["myhost"],
            "'myhost' is not a registry: its first part 'myhost' is not a host: it has neither a dot nor a port",  # noqa: E501
            "write it like registry.example.com, localhost:5000 or registry.example.com/team",
        ),
    ],
)
def test_what_is_no_registry(
    pusher: Pusher, command: str, arguments: list[str], message: str, hint: str
) -> None:
    result = pusher(command, *arguments)
    assert result.code == ExitCode.USAGE
    assert f"error: {message}\n  hint: {hint.format(command, command)}" in result.err
    assert "hunter2" not in result.err


def test_no_password_goes_over_plain_http_unasked(login: Callable[..., Result]) -> None:
    result = login("http://r.example")
    assert result.code == ExitCode.USAGE
    assert result.err == (
        "error: 'http://r.example' would send the password unencrypted, over plain HTTP\n"
        "  hint: use: pusher login r.example (with --plain-http if you trust the network)\n"
    )


# --- in a terminal ----------------------------------------------------------------------------------------


def test_a_terminal_is_asked_for_both(registry: FakeRegistry, config: Path) -> None:
    done = dialogue(
        [sys.executable, "-m", "pusher", "login", registry.address],
        (f"Username for {registry.address}: ", b"bob\n"),
        (f"Password for bob at {registry.address}: ", PASSWORD.encode() + b"\n"),
    )
    assert done.code == ExitCode.DONE
    assert done.out.startswith(f"Logged in to {registry.address} as bob; ")
    assert PASSWORD not in done.shown
    assert _auths(config) == {registry.address: _entry()}


def test_nothing_typed_for_the_user_name(registry: FakeRegistry) -> None:
    done = dialogue([sys.executable, "-m", "pusher", "login", registry.address], ("Username", b"\n"))
    assert done.code == ExitCode.USAGE
    assert f"error: no user name was entered for {registry.address}" in done.shown


def test_a_wrong_password_in_a_terminal(registry: FakeRegistry, config: Path) -> None:
    done = dialogue(
        [sys.executable, "-m", "pusher", "login", registry.address],
        ("Username", b"bob\n"),
        ("Password", b"hunter2\n"),
    )
    assert done.code == ExitCode.AUTH
    assert "rejects the credential for user bob (typed in)" in done.shown
    assert "hunter2" not in done.shown
    assert not config.exists()


def test_nothing_waits_in_stalls(registry: FakeRegistry) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pusher", "login", registry.address, "--username", "bob", "--password-stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    what = f"Waiting for the password of 'bob' at {registry.address} on standard input.\n"
    assert process.stderr.readline() == what
    out, _ = process.communicate(PASSWORD + "\n", timeout=60)
    assert process.returncode == ExitCode.DONE
    assert out.startswith("Logged in to ")


# --- logout -----------------------------------------------------------------------------------------------


def test_logout(login: Callable[..., Result], pusher: Pusher, registry: FakeRegistry, config: Path) -> None:
    login(registry.address)
    assert pusher("logout", registry.address) == Result(
        ExitCode.DONE, f"Removed the login for {registry.address} from {config}.\n", ""
    )
    assert _auths(config) == {}
    assert pusher("logout", registry.address) == Result(
        ExitCode.DONE, f"Not logged in to {registry.address}.\n", ""
    )


def test_logout_from_a_helper(
    pusher: Pusher, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = _with_helper(config, tmp_path, monkeypatch)
    program.keep("https://index.docker.io/v1/", "bob", "pw")
    assert pusher("logout", "docker.io").out == (
        "Removed the login for docker.io from docker-credential-test.\n"
    )
    assert program.logins == {}


def test_logout_names_what_is_left(pusher: Pusher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    podman = tmp_path / "auth.json"
    podman.write_text(json.dumps({"auths": {"r.example": _entry()}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(podman))
    result = pusher("logout", "r.example")
    assert (result.code, result.out) == (ExitCode.DONE, "Not logged in to r.example.\n")
    assert result.err == f"{podman} still has a login for r.example, which is used now.\n"
    monkeypatch.setenv("PUSHER_USERNAME", "bob")
    monkeypatch.setenv("PUSHER_PASSWORD", "pw")
    assert pusher("logout", "r.example").err == (
        "PUSHER_USERNAME still has a login for r.example, which is used now.\n"
    )
