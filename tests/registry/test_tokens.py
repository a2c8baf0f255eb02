"""Asking a token server, and keeping what it gives."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qsl

import pytest

from pusher.config import Timeouts
from pusher.errors import (
    CredentialsMissing,
    CredentialsRejected,
    LocationRefused,
    PermissionDenied,
    PlainHttpRefused,
    PusherError,
    RegistryBusy,
    RegistryFault,
    RegistryRefused,
    RegistryUnreachable,
    Retry,
)
from pusher.registry.auth.challenge import Challenge
from pusher.registry.auth.credentials import Credential
from pusher.registry.auth.tokens import Scopes, TokenCache, TokenServer
from pusher.registry.http.answer import Answer
from pusher.registry.http.transport import Transport
from pusher.registry.locations import Origin
from tests.registry.sites import PATIENT, Seen, Site, transport_of
from tests.support.fakeregistry.wire import Reply
from tests.support.processes import free_port

PUSH: Scopes = ("repository:team/app:pull,push",)
BOTH: Scopes = (*PUSH, "repository:base:pull")
ANN = Credential("ann", "s3cr3t", "a test")
IDENTITY = Credential("<token>", "", "a helper", identity_token="1d3nt1ty")


@pytest.fixture
def transport() -> Iterator[Transport]:
    with transport_of(Transport(PATIENT)) as open_one:
        yield open_one


def server_at(
    realm: str,
    transport: Transport,
    credential: Credential | None = ANN,
    *,
    registry: str = "127.0.0.1:5000",
    url: str = "http://127.0.0.1:5000/v2/",
) -> TokenServer:
    challenge = Challenge("bearer", {"realm": realm, "service": "r & co"})
    return TokenServer(Origin(registry, url), challenge, transport, credential)


def given(**reply: object) -> Reply:
    return Reply(200, {}, json.dumps(reply).encode())


# --- the question -----------------------------------------------------------------------------------------


def test_get_with_a_password(transport: Transport) -> None:
    with Site(lambda _: given(token="t0k", expires_in=300)) as site:
        assert server_at(site.url + "/auth?tenant=a%2Fb", transport).fetch(BOTH) == ("t0k", 300)
        [seen] = site.seen
    assert seen.method == "GET"
    assert seen.target == (
        "/auth?tenant=a%2Fb&service=r+%26+co&scope=repository:team/app:pull,push&scope=repository:base:pull"
        "&account=ann"
    )
    assert seen.headers["authorization"] == "Basic YW5uOnMzY3IzdA=="


def test_get_without_a_login(transport: Transport) -> None:
    with Site(lambda _: given(access_token="t0k")) as site:
        assert server_at(site.url, transport, None).fetch(()) == ("t0k", 60)
        [seen] = site.seen
    assert "authorization" not in seen.headers
    assert seen.target == "/?service=r+%26+co"


@pytest.mark.parametrize(
    ("told", "life"),
    [
        (None, 60),
        (3, 3),
        (0.5, 0.5),
        ("90", 90),
        (0, 60),
        (-5, 60),
        ("soon", 60),
        ([1], 60),
        (float("nan"), 60),
        (1e12, 86400),
    ],
)
def test_life_of_a_token(transport: Transport, told: object, life: float) -> None:
    """The server's own times (issued_at) are not looked at."""
    reply = given(token="t0k", expires_in=told, issued_at="1999-01-01T00:00:00Z")
    with Site(lambda _: reply) as site:
        assert server_at(site.url, transport).fetch(PUSH) == ("t0k", life)


def test_post_with_an_identity_token(transport: Transport) -> None:
    """distribution, docs/content/spec/auth/oauth.md; a new one is used from then on."""
    replies = [given(access_token="a", refresh_token="n3xt", expires_in=5), given(access_token="b")]
    with Site(lambda _: replies.pop(0)) as site:
        server = server_at(site.url + "/oauth2/token", transport, IDENTITY)
        assert server.fetch(BOTH) == ("a", 5)
        assert server.fetch(PUSH) == ("b", 60)
        first, second = site.seen
    assert (first.method, first.target) == ("POST", "/oauth2/token")
    assert first.headers["content-type"] == "application/x-www-form-urlencoded"
    assert first.body == (
        b"grant_type=refresh_token&service=r+%26+co&client_id=pusher"
        b"&scope=repository%3Ateam%2Fapp%3Apull%2Cpush+repository%3Abase%3Apull&refresh_token=1d3nt1ty"
    )
    assert second.body.endswith(b"&refresh_token=n3xt")
    assert "authorization" not in first.headers


@pytest.mark.parametrize("status", [404, 405])
def test_get_where_there_is_no_oauth2(transport: Transport, status: int) -> None:
    def answer(seen: Seen) -> Reply:
        return Reply(status) if seen.method == "POST" else given(token="t0k")

    with Site(answer) as site:
        assert server_at(site.url, transport, IDENTITY).fetch(PUSH)[0] == "t0k"
        assert site.seen[1].headers["authorization"] == "Basic PHRva2VuPjoxZDNudDF0eQ=="  # <token>:1d3nt1ty


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "credential", "error", "words"),
    [
        (Reply(401), ANN, CredentialsRejected, "rejects the credential for user ann (a test) (401)"),
        (Reply(401), None, CredentialsMissing, "issues no token for repository:team/app:pull,push without"),
        (Reply(403), None, CredentialsMissing, "no credential is known (403)"),
        (
            Reply(403, {}, b'{"errors":[{"code":"DENIED","message":"not yours"}]}'),
            ANN,
            PermissionDenied,
            "refuses a token for repository:team/app:pull,push for user ann (a test) (403: not yours)",
        ),
        (
            Reply(400, {}, b'{"error": "invalid_grant"}'),
            IDENTITY,
            CredentialsRejected,
            "rejects the credential (a helper) (400: invalid_grant)",
        ),
        (Reply(401), IDENTITY, CredentialsRejected, "rejects the credential (a helper) (401)"),
        (Reply(400), ANN, RegistryRefused, "answered 400 while asking for a token of 127.0.0.1:5000"),
        (Reply(404), ANN, RegistryRefused, "answered 404 while asking for a token"),
        (Reply(500), ANN, RegistryFault, "answered 500 while asking for a token"),
        (Reply(503, {"Retry-After": "7"}), ANN, RegistryBusy, "answered 503"),
        (Reply(429), ANN, RegistryBusy, "answered 429"),
        (Reply(200, {}, b"<html>Welcome to the hotel</html>"), ANN, RegistryRefused, "without a token"),
        (Reply(200, {}, b"[" * 50_000), ANN, RegistryRefused, "without a token"),
        (Reply(200, {}, b'["token"]'), ANN, RegistryRefused, "without a token"),
        (given(token=""), ANN, RegistryRefused, "without a token"),
        (given(token=7), ANN, RegistryRefused, "without a token"),
        (given(token="a\r\nHost: evil"), ANN, RegistryRefused, "without a token"),
        (Reply(302, {"Location": "/login"}), IDENTITY, RegistryRefused, "answered 302"),
    ],
)
def test_refused(
    transport: Transport,
    reply: Reply,
    credential: Credential | None,
    error: type[PusherError],
    words: str,
) -> None:
    with Site(lambda _: reply) as site, pytest.raises(error) as raised:
        server_at(site.url, transport, credential).fetch(PUSH)
    assert type(raised.value) is error
    assert words in raised.value.message
    assert site.address in raised.value.message
    assert raised.value.hint
    for secret in ("s3cr3t", "1d3nt1ty", "YW5u"):
        assert secret not in raised.value.message + raised.value.hint


def test_form_that_is_quoted_back_is_not_shown(transport: Transport) -> None:
    identity = Credential("<token>", "", "a helper", identity_token="1d/3nt1ty")

    def answer(seen: Seen) -> Reply:
        return Reply(401, {}, b"no: " + seen.body + b" 1d/3nt1ty " + str(seen.headers).encode())

    with Site(answer) as site, pytest.raises(CredentialsRejected) as error:
        server_at(site.url, transport, identity).fetch(PUSH)
    assert "grant_type=refresh_token" in error.value.message
    assert "3nt1ty" not in error.value.message


def test_login_is_named_as_the_way_out(transport: Transport) -> None:
    for credential, status in ((None, 401), (ANN, 401), (ANN, 403)):
        with Site(lambda _, status=status: Reply(status)) as site, pytest.raises(PusherError) as error:  # type: ignore[misc]
            server_at(site.url, transport, credential).fetch(PUSH)
        assert "pusher login 127.0.0.1:5000" in error.value.hint


def test_nobody_there(transport: Transport) -> None:
    with pytest.raises(RegistryUnreachable) as error:
        server_at(f"http://127.0.0.1:{free_port()}", transport).fetch(PUSH)
    assert error.value.message.startswith("no token for 127.0.0.1:5000: ")


def test_a_broken_connection_is_not_that_of_an_upload() -> None:
    """By ConnectionBroken an upload would judge what its link carries."""
    stop = threading.Event()

    def answer(_: Seen) -> Reply:
        stop.wait(30)
        return Reply(200)

    with Site(answer) as site, transport_of(Transport(Timeouts(30, 0.3, 0.3))) as transport:
        with pytest.raises(RegistryFault) as error:
            server_at(site.url, transport).fetch(PUSH)
        stop.set()
    assert error.value.retry is Retry.BACKOFF


# --- where it is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("registry", "url", "realm", "error"),
    [
        ("r.example", "https://r.example/v2/", "http://auth.example/token", LocationRefused),
        ("r.example", "https://r.example/v2/", "https://10.1.2.3/token", LocationRefused),
        ("r.example", "https://r.example/v2/", "https://169.254.169.254/latest", LocationRefused),
        ("r.example", "https://r.example/v2/", "https://localhost/token", LocationRefused),
        ("r.example", "http://r.example/v2/", "http://[fd00:ec2::254]/", LocationRefused),
        ("r.example", "https://r.example/v2/", "ftp://auth.example/", RegistryRefused),
        ("r.example", "https://r.example/v2/", "https://auth.example/token", None),
        ("r.example", "http://r.example/v2/", "http://auth.example/token", None),
        ("10.1.2.3:5000", "http://10.1.2.3:5000/v2/", "http://10.1.2.4/token", None),
        ("localhost:5000", "http://localhost:5000/v2/", "http://127.0.0.1:5001/token", None),
    ],
)
def test_realms(
    transport: Transport, registry: str, url: str, realm: str, error: type[PusherError] | None
) -> None:
    if error is None:
        server_at(realm, transport, registry=registry, url=url)
        return
    with pytest.raises(error) as raised:
        server_at(realm, transport, registry=registry, url=url)
    assert registry in raised.value.message


def test_redirect_of_a_token_server_takes_no_login_along(transport: Transport) -> None:
    with Site(lambda _: given(token="t0k")) as other:

        def answer(seen: Seen) -> Reply:
            target = other.url + "/b" if seen.target == "/a" else "/a"
            return Reply(307, {"Location": target})

        with Site(answer) as site:
            assert server_at(site.url, transport).fetch(PUSH)[0] == "t0k"
            assert ["authorization" in seen.headers for seen in site.seen] == [True, True]
        [seen] = other.seen
        assert "authorization" not in seen.headers


@pytest.mark.parametrize(
    ("target", "error"),
    [("http://auth.example/t", PlainHttpRefused), ("https://127.0.0.1/t", LocationRefused)],
)
def test_redirect_of_a_token_server_is_guarded(target: str, error: type[PusherError]) -> None:
    class Redirecting(Transport):
        def __init__(self) -> None:
            pass

        def send(self, method: str, url: str, **_: object) -> Answer:
            return Answer(method, url, 302, {"Location": target})

    server = server_at(
        "https://auth.example/", Redirecting(), registry="r.example", url="https://r.example/v2/"
    )
    with pytest.raises(error):
        server.fetch(PUSH)


# --- the cache --------------------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("life", "until"), [(3, 1.5), (10, 5), (59, 29.5), (60, 30), (61, 31), (300, 270), (3600, 3570)]
)
def test_a_token_is_renewed_before_its_end(life: float, until: float) -> None:
    clock, values = Clock(), iter("abc")
    cache = TokenCache(lambda _: (next(values), life), clock)
    assert cache.get(PUSH).value == "a"
    clock.now += until - 0.1
    assert cache.get(PUSH).value == "a"
    clock.now += 0.1
    assert cache.get(PUSH).value == "b"


def test_time_on_the_way_counts_as_lived() -> None:
    clock = Clock()

    def fetch(_: Scopes) -> tuple[str, float]:
        clock.now += 2
        return str(clock.now), 3

    cache = TokenCache(fetch, clock)
    token = cache.get(PUSH)
    assert token.expires_at == 1003
    assert cache.get(PUSH) is not token, "too little is left of it, and it was used all the same"


def test_scopes_have_tokens_of_their_own() -> None:
    asked: list[Scopes] = []

    def fetch(scopes: Scopes) -> tuple[str, float]:
        asked.append(scopes)
        return str(len(asked)), 60

    cache = TokenCache(fetch)
    assert [cache.get(scopes).value for scopes in (PUSH, BOTH, PUSH, BOTH)] == ["1", "2", "1", "2"]
    cache.discard(PUSH, cache.get(PUSH))
    assert [cache.get(scopes).value for scopes in (PUSH, BOTH)] == ["3", "2"]


def test_a_newer_token_is_not_discarded_for_an_older() -> None:
    values = iter("abc")
    cache = TokenCache(lambda _: (next(values), 60))
    old = cache.get(PUSH)
    cache.discard(PUSH, old)
    cache.get(PUSH)
    cache.discard(PUSH, old)
    assert cache.get(PUSH).value == "b"


def test_many_threads_ask_once() -> None:
    everybody, asked = threading.Barrier(16), []

    def fetch(scopes: Scopes) -> tuple[str, float]:
        asked.append(scopes)
        waiting.wait(30)
        return "t0k", 60

    waiting = threading.Event()
    cache = TokenCache(fetch)

    def need(_: int) -> str:
        if everybody.wait(30) == 0:
            threading.Timer(0.05, waiting.set).start()
        return cache.get(PUSH).value

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(need, range(16))) == {"t0k"}
    assert len(asked) == 1


def test_a_failure_is_everybodys_and_is_not_kept() -> None:
    replies: list[object] = [RegistryFault("no"), ("t0k", 60.0)]

    def fetch(_: Scopes) -> tuple[str, float]:
        reply = replies.pop(0)
        if isinstance(reply, PusherError):
            raise reply
        return reply  # type: ignore[return-value]

    cache = TokenCache(fetch)
    with pytest.raises(RegistryFault):
        cache.get(PUSH)
    assert cache.get(PUSH).value == "t0k"


def test_no_secret_shows() -> None:
    token = TokenCache(lambda _: ("s3cr3t-token", 60)).get(PUSH)
    assert "s3cr3t" not in repr(token)
    assert "s3cr3t" not in repr(ANN) + repr(IDENTITY)
    assert "1d3nt1ty" not in repr(IDENTITY)


def test_a_server_that_takes_post_alone(transport: Transport) -> None:
    """OAuth2's password grant (distribution, docs/content/spec/auth/oauth.md), as containerd asks."""
    forms: list[dict[str, str]] = []

    def answer(seen: Seen) -> Reply:
        if seen.method != "POST":
            return Reply(405, {"Allow": "POST"})
        forms.append(dict(parse_qsl(seen.body.decode("latin-1"), encoding="latin-1")))
        assert "authorization" not in seen.headers
        return given(access_token="t0ken", expires_in=100)

    with Site(answer) as site:
        credential = Credential("ann", "s3cr\udce9t", "a test")
        assert server_at(f"{site.url}/token", transport, credential).fetch(PUSH) == ("t0ken", 100)
    assert forms == [
        {
            "grant_type": "password",
            "service": "r & co",
            "client_id": "pusher",
            "scope": PUSH[0],
            "username": "ann",
            "password": "s3cr\xe9t",
        }
    ]


def test_a_server_that_takes_post_alone_and_no_login(transport: Transport) -> None:
    with Site(lambda _: Reply(405)) as site, pytest.raises(PusherError) as error:
        server_at(f"{site.url}/token", transport, None).fetch(PUSH)
    assert "405" in error.value.message
    assert [seen.method for seen in site.seen] == ["GET"]


@pytest.mark.parametrize("token", ["t\ud800ken", "töken", "töken€", "to\nken", "to ken", "", 5, None, ["x"]])
def test_a_token_that_no_header_can_carry(transport: Transport, token: object) -> None:
    with Site(lambda _: given(token=token)) as site, pytest.raises(RegistryRefused) as error:
        server_at(f"{site.url}/token", transport).fetch(PUSH)
    assert "sent an answer without a token" in error.value.message


def test_names_that_are_no_text(transport: Transport) -> None:
    with Site(lambda _: given(token="t0ken")) as site:
        server_at(f"{site.url}/token", transport, Credential("\udce9nn", "pw", "a test")).fetch(PUSH)
        identity = Credential("<token>", "", "a helper", identity_token="1d\udce9")
        server_at(f"{site.url}/token", transport, identity).fetch(PUSH)
    assert "account=%E9nn" in site.seen[0].target
    assert b"refresh_token=1d%E9" in site.seen[1].body
