"""``--dest-tls-verify``, as skopeo has it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import trustme

from pusher.cli.tls_verify import with_tls_verify
from pusher.config import Settings
from tests.cli.conftest import Pusher
from tests.registry.sites import Site
from tests.support.certificates import server
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry
from tests.support.fakeregistry.wire import Reply
from tests.support.images import make_image, write_archive

HOST = "registry.test"


@pytest.fixture(autouse=True)
def _named(monkeypatch: pytest.MonkeyPatch) -> None:
    """``HOST`` is this machine by a name that does not show that."""
    look_up = socket.getaddrinfo

    def known(host: Any, *arguments: Any, **options: Any) -> Any:
        return look_up("127.0.0.1" if host == HOST else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", known)


def test_a_registry_without_tls(pusher: Pusher, tmp_path: Path) -> None:
    archive = str(write_archive(tmp_path / "app.tar", make_image(300, names=("app:1",))))
    with FakeRegistry(DISTRIBUTION_3) as registry:
        port = registry.address.rpartition(":")[2]
        push = ("push", archive, "--to", f"{HOST}:{port}/app:1")
        for verify in ((), ("--dest-tls-verify=true",)):
            result = pusher(*push, *verify)
            assert "does not speak TLS" in result.err
            assert result.code
        assert pusher(*push, "--dest-tls-verify=false").code == 0


def test_a_certificate_that_is_not_trusted(tmp_path: Path) -> None:
    tls = server(trustme.CA(), "hotel.example.com")
    with Site(lambda _: Reply(200, {}, b"{}"), tls) as site:
        registry = f"{HOST}:{site.address.rpartition(':')[2]}"
        found = with_tls_verify(Settings(home=tmp_path, database_url="sqlite://"), [registry]).at(registry)
    assert (bool(found.insecure), found.plain_http) == (True, False)


def test_a_registry_that_does_not_answer(tmp_path: Path) -> None:
    registry = f"{HOST}:1"
    found = with_tls_verify(Settings(home=tmp_path, database_url="sqlite://"), [registry]).at(registry)
    assert (bool(found.insecure), found.plain_http) == (True, False)
