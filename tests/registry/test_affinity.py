"""Two replicas that do not know each other's uploads, and before them a balancer that goes by a cookie."""

from __future__ import annotations

import http.client
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pusher.registry.auth.authenticator import Authenticator
from pusher.registry.auth.credentials import Credential
from pusher.registry.client import RegistryClient
from pusher.registry.http.affinity import StickyCookies
from pusher.registry.http.answer import Answer
from pusher.registry.http.body import Body
from pusher.registry.http.redaction import redact
from pusher.registry.http.transport import Transport
from tests.registry.sites import PATIENT, Seen, Site, transport_of
from tests.support.fakeregistry import DISTRIBUTION_3, FakeRegistry
from tests.support.fakeregistry.wire import Reply
from tests.support.home import CHUNK, Home, pushed
from tests.support.images import make_image, write_archive

REPOSITORY = "team/app"
LOGIN = ("ann", "s3cr3t")


@dataclass
class Balancer:
    """Goes by the cookie ``name``, without it to the next replica by turns."""

    name: str = "AWSALB"
    replicas: list[FakeRegistry] = field(default_factory=list)
    _turns: Iterator[int] = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, seen: Seen) -> Reply:
        cookies = dict(pair.split("=", 1) for pair in seen.headers.get("cookie", "").split("; ") if pair)
        with self._lock:
            to = int(cookies[self.name][-1]) if self.name in cookies else next(self._turns) % 2
        there = http.client.HTTPConnection(self.replicas[to].address, timeout=60)
        try:
            sent = {**seen.headers, "connection": "close"}
            there.request(seen.method, seen.target, seen.body or None, sent)
            got = there.getresponse()
            headers = {n: v for n, v in got.getheaders() if n.lower() not in ("connection", "content-length")}
            headers["Set-Cookie"] = (
                f"{self.name}=replica-number-{to}; Expires=Wed, 21 Oct 2099 07:28:00 GMT; Path=/; HttpOnly"
            )
            if seen.method == "HEAD" and (length := got.getheader("Content-Length")):
                headers["Content-Length"] = length
            return Reply(got.status, headers, got.read())
        finally:
            there.close()


@contextmanager
def balanced(name: str = "AWSALB", login: tuple[str, str] | None = None) -> Iterator[tuple[Site, Balancer]]:
    balancer = Balancer(name)
    with (
        FakeRegistry(DISTRIBUTION_3, credentials=login) as one,
        FakeRegistry(DISTRIBUTION_3, credentials=login) as two,
        Site(balancer.answer) as site,
    ):
        two._store.blobs, two._store.manifests = one._store.blobs, one._store.manifests
        balancer.replicas = [one, two]
        yield site, balancer


@pytest.mark.parametrize("name", ["AWSALB", "node"])
@pytest.mark.parametrize("login", [None, LOGIN])
def test_a_push_stays_with_the_replica(tmp_path: Path, name: str, login: tuple[str, str] | None) -> None:
    image = make_image(5 * CHUNK, 3 * CHUNK, compressible=0)
    archive = write_archive(tmp_path / "image.tar", image)
    known = {"username": login[0], "password": login[1]} if login else {}
    with balanced(name, login) as (site, balancer), Home(tmp_path / "home", **known) as home:
        home.push(archive, f"{site.address}/{REPOSITORY}:1.0")
        pushed(balancer.replicas[0], REPOSITORY, "1.0", image)
        assert [kind for kind, _ in home.events(1) if kind == "session-lost"] == []
        uploads = [
            seen for seen in site.seen if seen.method in ("PATCH", "PUT") and "/uploads/" in seen.target
        ]
        assert len(uploads) > 8
        assert all("cookie" in seen.headers for seen in uploads)
        assert not any("cookie" in seen.headers for seen in site.seen if "/uploads/" not in seen.target)


@pytest.mark.parametrize(
    ("name", "login", "stays"),
    [("AWSALB", LOGIN, True), ("node", None, True), ("node", LOGIN, False), ("auth_token", None, False)],
)
def test_over_a_restart(
    blob_body: Callable[[], Body], name: str, login: tuple[str, str] | None, stays: bool
) -> None:
    """What may be a login is not stored; what is stored does not show in a log."""
    with balanced(name, login) as (site, _), transport_of(Transport(PATIENT)) as transport:

        def client() -> RegistryClient:
            known = Credential(*login, "a test") if login else None
            return RegistryClient(site.address, transport, Authenticator(site.address, known))

        first = client()
        location = first.open_upload(REPOSITORY).location
        assert location is not None
        assert ("#" in location) is stays
        assert "replica-number" not in redact(location)
        answer = first.send_chunk(REPOSITORY, location, blob_body(), 0)
        assert answer.status == 202
        location = first.location_of(answer, location)
        assert location is not None
        assert ("#" in location) is stays
        if stays:
            for _ in range(4):
                assert client().get_upload_status(REPOSITORY, location).ok
        assert "#" not in "".join(seen.target for seen in site.seen)


def test_to_another_host_no_cookie_goes() -> None:
    with Site(lambda _: Reply(202, {"Range": "0-9"})) as other:

        def answer(seen: Seen) -> Reply:
            if seen.method == "POST":
                return Reply(202, {"Location": f"{other.url}/up/1", "Set-Cookie": "AWSALB=1"})
            return Reply(200, {}, b"{}")

        with Site(answer) as site, transport_of(Transport(PATIENT)) as transport:
            client = RegistryClient(site.address, transport, Authenticator(site.address, None))
            location = client.open_upload(REPOSITORY).location
            assert location == f"{other.url}/up/1"
            client.get_upload_status(REPOSITORY, location)
            client.get_upload_status(REPOSITORY, f"{location}#AWSALB=1")
    assert len(other.seen) == 2
    assert not any("cookie" in seen.headers for seen in other.seen)


@pytest.mark.parametrize(
    ("header", "cookie"),
    [
        (
            "AWSALB=a+b/c==; Expires=Wed, 21 Oct 2099 07:28:00 GMT; Path=/, AWSALBCORS=d; Path=/",
            "AWSALB=a+b/c==; AWSALBCORS=d",
        ),
        ('route="x y"', ""),
        ("route=1.2|3, route=4", "route=4"),
        ("route=", ""),
        ("nonsense", ""),
        ("route=a\r\nX-Evil: 1", ""),
        ("route=" + "x" * 5000, ""),
        (", ".join(f"c{n}=v" for n in range(20)), "; ".join(f"c{n}=v" for n in range(8))),
    ],
)
def test_what_a_cookie_is(header: str, cookie: str) -> None:
    sticky = StickyCookies()
    answer = Answer("POST", "http://r/v2/a/blobs/uploads/", 202, {"Set-Cookie": header})
    location = sticky.record(answer.url, answer, "http://r/up/1?_state=x", logged_in=False)
    assert sticky.header("http://r/up/1?_state=other") == cookie
    assert StickyCookies().header(location) == cookie
    assert sticky.header("http://r/up/2") == ""
