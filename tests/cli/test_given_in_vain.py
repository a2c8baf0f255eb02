"""What was given and is not used, as the registry needs no login, or has plain http, is pointed out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Pusher
from tests.support.fakeregistry import FakeRegistry
from tests.support.images import make_image, write_archive


@pytest.fixture
def archive(tmp_path: Path) -> str:
    return str(write_archive(tmp_path / "app.tar", make_image(300, names=("team/app:1",))))


def test_a_login_that_nobody_asked_for(
    pusher: Pusher, registry: FakeRegistry, archive: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = ("--to", registry.address, "--plain-http")
    unused = f"{registry.address} asked for no login: that of alice (--username) was neither used nor checked"
    monkeypatch.setenv("PUSHER_PASSWORD", "wrong")
    assert unused in pusher("push", archive, *to, "--username", "alice").err
    monkeypatch.setenv("PUSHER_USERNAME", "alice")
    login = (
        f"{registry.address} requires no login: user alice from PUSHER_USERNAME is neither used nor checked"
    )
    assert login in pusher("doctor", registry.address, "--plain-http").out
    monkeypatch.delenv("PUSHER_USERNAME")
    monkeypatch.delenv("PUSHER_PASSWORD")
    assert "asked for no login" not in pusher("push", archive, *to).err


@pytest.mark.parametrize("command", ["push", "enqueue"])
def test_a_certificate_that_is_not_there(
    pusher: Pusher, archive: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (command, archive, "--to", "localhost:1", "--plain-http")
    given = pusher(*arguments, "--ca-cert", "/nowhere/ca.pem")
    assert (given.code, given.err.splitlines()[0]) == (2, "error: /nowhere/ca.pem does not exist")
    monkeypatch.setenv("PUSHER_CA_CERT", "/nowhere/ca.pem")
    assert pusher(*arguments).err.splitlines()[0] == "error: PUSHER_CA_CERT: /nowhere/ca.pem does not exist"
    monkeypatch.delenv("PUSHER_CA_CERT")
    file = tmp_path / "pusher.toml"
    file.write_text('[registries."other.example"]\nca_cert = "/nowhere/ca.pem"\n')
    monkeypatch.setenv("PUSHER_CONFIG", str(file))
    found = pusher(*arguments)
    assert (found.code, ": /nowhere/ca.pem does not exist" in found.err) == (2, True)
    assert f"line 2 of {file}" in found.err
    assert pusher("status").code == 0, "which asks no registry"
