"""HttpHeaders of Docker's config.json: to registries, and to nobody else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pusher.errors import CredentialsUnreadable
from pusher.registry.auth.authenticator import Authenticator
from pusher.registry.auth.credentials.headers import read_http_headers
from pusher.registry.client import RegistryClient
from pusher.registry.http.redaction import for_display
from pusher.registry.http.transport import Transport
from tests.registry.guarded import ANN
from tests.registry.sites import PATIENT, Seen, Site, transport_of
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry
from tests.support.fakeregistry.wire import Reply
from tests.support.home import Home, pushed
from tests.support.images import make_image, write_archive

HEADERS = {"X-Meta-Source": "ci", "Cookie": "front=l0ng-enough-s3cret"}


def _config(tmp_path: Path, headers: Any) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"HttpHeaders": headers}))
    return path


def test_every_request_of_a_push_has_them(tmp_path: Path) -> None:
    image = make_image(100)
    archive = write_archive(tmp_path / "image.tar", image)
    with (
        FakeRegistry(DISTRIBUTION_3) as registry,
        Home(tmp_path / "home", docker_config=_config(tmp_path, HEADERS)) as home,
    ):
        home.push(archive, f"{registry.address}/team/app:1.0")
        pushed(registry, "team/app", "1.0", image)
        assert len(registry.requests()) > 5
        for record in registry.requests():
            assert record.headers["x-meta-source"] == "ci"
            assert record.headers["cookie"] == "front=l0ng-enough-s3cret"


def test_no_other_host_gets_them() -> None:
    """A storage that a GET is sent on to, and a token server elsewhere; one at the same host gets them."""
    with Site(lambda _: Reply(200, {}, b'{"token": "t0ken"}')) as other:
        challenges = [f"{other.url}/token", "/token"]

        def answer(seen: Seen) -> Reply:
            if seen.target.startswith("/token"):
                return Reply(200, {}, b'{"token": "t0ken"}')
            if "authorization" not in seen.headers:
                return Reply(401, {"WWW-Authenticate": f'Bearer realm="{challenges[0]}",service="r"'})
            if "/blobs/" in seen.target:
                return Reply(307, {"Location": f"{other.url}/storage"})
            return Reply(200, {}, b"{}")

        for _ in range(2):
            with Site(answer) as site, transport_of(Transport(PATIENT)) as transport:
                auth = Authenticator(site.address, ANN, headers=HEADERS)
                client = RegistryClient(site.address, transport, auth)
                client.blob_exists("team/app", "sha256:" + "a" * 64)
            assert all(seen.headers["x-meta-source"] == "ci" for seen in site.seen)
            challenges.pop(0)
    assert {seen.target.partition("?")[0] for seen in other.seen} == {"/token", "/storage"}
    assert any(seen.target.startswith("/token") for seen in site.seen)
    for seen in other.seen:
        assert "x-meta-source" not in seen.headers
        assert "cookie" not in seen.headers


def test_what_a_request_has_by_itself_stays(tmp_path: Path) -> None:
    names = ("Authorization", "content-length", "Host", "USER-AGENT", "Transfer-Encoding", "Accept")
    given = {**dict.fromkeys(names, "x"), "X-Mine": "y"}
    assert read_http_headers(_config(tmp_path, given)) == {"X-Mine": "y"}


@pytest.mark.parametrize("headers", [None, {}, {"X-Empty": ""}])
def test_none(tmp_path: Path, headers: Any) -> None:
    assert dict(read_http_headers(_config(tmp_path, headers))) == (headers or {})
    assert read_http_headers(tmp_path / "missing.json") == {}
    assert read_http_headers(None) == {}


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        (["hunter2"], "HttpHeaders is not an object"),
        ({"a b": "hunter2"}, "'a b' in HttpHeaders is not the name of a header"),
        ({"": "hunter2"}, "'' in HttpHeaders is not the name of a header"),
        ({"X-A": "hunter2\r\nX-B: c"}, "the value of X-A in HttpHeaders cannot be sent"),
        ({"X-A": "hunter2€"}, "the value of X-A in HttpHeaders cannot be sent"),
        ({"X-A": "hunter2 "}, "the value of X-A in HttpHeaders cannot be sent"),
        ({"X-A": ["hunter2"]}, "the value of X-A in HttpHeaders cannot be sent"),
    ],
)
def test_what_cannot_be_sent(tmp_path: Path, headers: Any, why: str) -> None:
    with pytest.raises(CredentialsUnreadable) as error:
        read_http_headers(_config(tmp_path, headers))
    assert error.value.message == f"{why} ({tmp_path}/config.json)"
    assert "hunter2" not in f"{error.value.message} {error.value.hint}"


def test_a_push_goes_on_without_those_that_cannot_be_sent(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "image.tar", make_image(100))
    with (
        FakeRegistry(DISTRIBUTION_3) as registry,
        Home(tmp_path / "home", docker_config=_config(tmp_path, {"X-A": 5})) as home,
    ):
        home.push(archive, f"{registry.address}/team/app:1.0")
        home.progress.wait_for_note("the value of X-A in HttpHeaders cannot be sent")


def test_values_that_may_be_secret_are_not_shown(tmp_path: Path) -> None:
    read_http_headers(_config(tmp_path, {"X-Front-Token": "sh0rt", "X-Pass": "v3ry-long-v3ry-secret-indeed"}))
    assert for_display("you sent sh0rt and v3ry-long-v3ry-secret-indeed") == "you sent … and …"
