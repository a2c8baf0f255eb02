"""Proxies: which address goes through which, and what is said when one lets nothing through."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
import urllib3

from pusher.config import Timeouts
from pusher.errors import (
    CertificateUntrusted,
    ProxyFailed,
    ProxyUnusable,
    PusherError,
    RegistryStalled,
    Retry,
)
from pusher.registry.http.network_errors import explain
from pusher.registry.http.peer_certificate import Flaw
from pusher.registry.http.proxies import proxy_for
from pusher.registry.http.tls import Trust, inspect_server
from pusher.registry.http.transport import Transport
from tests.registry.sites import PATIENT, Seen, Site, transport_of
from tests.support import certificates
from tests.support.certificates import INSPECTION, server, write_ca
from tests.support.fakeregistry.wire import Reply

NAME = "registry.invalid"
PASSWORD = "p@ss:w/rd"
LOGIN = "ann:p%40ss%3Aw%2Frd"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def transport(authority: trustme.CA, tmp_path: Path) -> Iterator[Transport]:
    trust = Trust(write_ca(authority, tmp_path / "ca.pem"))
    with transport_of(Transport(PATIENT, trust=lambda _: trust)) as open_one:
        yield open_one


def fine(_: Seen) -> Reply:
    return Reply(200, {}, b"fine")


def with_login(seen: Seen) -> Reply:
    expected = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
    right = seen.headers.get("proxy-authorization") == f"Basic {expected}"
    return Reply(200) if right else Reply(407, {"Proxy-Authenticate": "Basic realm=x"})


def failure(transport: Transport, url: str, kind: type[PusherError] = PusherError) -> PusherError:
    with pytest.raises(kind) as error:
        transport.send("PUT", url, body=b"x", headers={"Authorization": "Basic s3cr3t"})
    assert type(error.value) is kind
    for secret in (PASSWORD, LOGIN, "s3cr3t"):
        assert secret not in error.value.message + error.value.hint
    return error.value


# --- which address goes through which ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "url", "used"),
    [
        ({}, "https://r.example/", None),
        ({"HTTPS_PROXY": "http://p:3128"}, "https://r.example/", "http://p:3128 HTTPS_PROXY"),
        ({"https_proxy": "http://p:3128"}, "https://r.example/", "http://p:3128 https_proxy"),
        (
            {"https_proxy": "http://a", "HTTPS_PROXY": "http://b"},
            "https://r.example/",
            "http://a https_proxy",
        ),
        ({"HTTPS_PROXY": "http://p:3128"}, "http://r.example/", None),
        ({"HTTP_PROXY": "http://p:3128"}, "http://r.example/", "http://p:3128 HTTP_PROXY"),
        ({"ALL_PROXY": "http://p"}, "https://r.example/", "http://p ALL_PROXY"),
        ({"ALL_PROXY": "http://p", "HTTPS_PROXY": "http://q"}, "https://r.example/", "http://q HTTPS_PROXY"),
        ({"HTTPS_PROXY": "p:3128"}, "https://r.example/", "http://p:3128 HTTPS_PROXY"),
        ({"HTTPS_PROXY": "https://p"}, "https://r.example/", "https://p HTTPS_PROXY"),
        ({"HTTPS_PROXY": ""}, "https://r.example/", None),
        ({"HTTPS_PROXY": f"http://{LOGIN}@p:1"}, "https://r.example/", "http://p:1 HTTPS_PROXY"),
    ],
)
def test_proxy_for(
    environment: dict[str, str], url: str, used: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_for(url)
    assert (proxy and f"{proxy} {proxy.origin}") == used
    assert LOGIN not in repr(proxy)


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("r.example", "https://r.example/", True),
        ("r.example", "https://sub.r.example/", True),
        ("r.example", "https://other.example/", False),
        ("r.example", "https://bar.example/", False),
        (".example", "https://r.example/", True),
        ("*.r.example", "https://a.r.example/", True),
        ("*.r.example", "https://ar.example/", False),
        (" a.example , R.Example ", "https://r.example/", True),
        ("r.example:5000", "https://r.example:5000/", True),
        ("r.example:5000", "https://r.example/", False),
        ("r.example:443", "https://r.example/", True),
        ("10.1.2.3", "https://10.1.2.3:5000/", True),
        ("10.1.2.3:5000", "https://10.1.2.3:5000/", True),
        ("10.0.0.0/8", "https://10.1.2.3:5000/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("10.0.0.0/8,nonsense/99", "https://r.example/", False),
        ("fd00::/8", "https://[fd00::1]:5000/", True),
        ("fd00::1", "https://[fd00::1]:5000/", True),
        ("*", "https://r.example/", True),
        ("", "https://127.0.0.1:5000/", True),
        ("", "https://127.9.9.9/", True),
        ("", "https://[::1]:5000/", True),
        ("", "http://localhost:5000/", True),
        ("", "https://r.example/", False),
    ],
)
def test_no_proxy(no_proxy: str, url: str, direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://p:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (proxy_for(url) is None) == direct


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("socks5://ann:s3cr3t@p:1080", "names a proxy that speaks SOCKS5"),
        ("SOCKS5h://p:1080", "names a proxy that speaks SOCKS5H"),
        ("ftp://p", "names something that is not the URL of a proxy"),
        ("http://", "names something that is not the URL of a proxy"),
        ("http://p:99999", "names something that is not the URL of a proxy"),
        ("http://[p", "names something that is not the URL of a proxy"),
    ],
)
def test_proxy_that_is_none(
    value: str, words: str, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", value)
    error = failure(transport, f"https://{NAME}/", ProxyUnusable)
    assert error.message == f"ALL_PROXY {words}, so {NAME} cannot be reached"
    assert f"add {NAME} to NO_PROXY" in error.hint


# --- through one ------------------------------------------------------------------------------------------


def test_http_goes_through_the_proxy(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://{NAME}/v2/?_state=abc"
    with Site(fine) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert transport.send("PUT", url, body=b"hello").body == b"fine"
        assert [(seen.target, seen.body) for seen in proxy.seen] == [(url, b"hello")]


def test_this_machine_is_reached_without(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    with Site(fine) as proxy, Site(fine) as registry:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert transport.send("GET", registry.url).ok
        assert (len(proxy.seen), len(registry.seen)) == (0, 1)


@pytest.mark.parametrize("login", ["", f"{LOGIN}@"])
def test_https_goes_through_a_tunnel(
    login: str, authority: trustme.CA, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Site(with_login if login else fine) as proxy, Site(fine, server(authority, NAME)) as registry:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", f"//{login}"))
        url = f"https://{NAME}:{registry.port}/v2/"
        for _ in range(2):
            answer = transport.send(
                "PUT", url, headers={"Authorization": "Basic s3cr3t"}, body=b"x" * 100_000
            )
            assert answer.body == b"fine"
        [connect] = proxy.seen
        assert (connect.method, connect.target) == ("CONNECT", f"{NAME}:{registry.port}")
        assert "authorization" not in connect.headers
        for seen in registry.seen:
            assert seen.headers["authorization"] == "Basic s3cr3t"
            assert "proxy-authorization" not in seen.headers


def test_proxy_that_speaks_tls(
    authority: trustme.CA, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Site(with_login, server(authority, "127.0.0.1")) as proxy,
        Site(fine, server(authority, NAME)) as registry,
    ):
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", f"//{LOGIN}@"))
        url = f"https://{NAME}:{registry.port}/v2/"
        assert transport.send("PUT", url, body=b"x" * 100_000).body == b"fine"
        assert registry.seen[0].body == b"x" * 100_000


def test_certificate_seen_through_a_tunnel(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look at the certificate takes the way that the request took."""
    gateway = certificates.inspection_ca()
    with Site(with_login) as proxy, Site(fine, server(gateway, NAME)) as registry:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", f"//{LOGIN}@"))
        error = failure(transport, f"https://{NAME}:{registry.port}/v2/", CertificateUntrusted)
        assert INSPECTION[1] in error.message
        assert error.hint.startswith("Cloudflare inspects TLS")
        assert {seen.method for seen in proxy.seen} == {"CONNECT"}
        assert registry.seen == []
        peer = inspect_server(NAME, registry.port, Trust(), PATIENT, proxy_for(f"https://{NAME}"))
        assert (peer.flaw, peer.names) == (Flaw.UNKNOWN_ISSUER, (NAME,))


def test_certificate_of_the_proxy_itself(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    with Site(fine, server(trustme.CA(), "127.0.0.1")) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        error = failure(transport, f"https://{NAME}/", CertificateUntrusted)
        assert error.message.startswith(f"the certificate of {proxy.address} was issued by ")


# --- what a proxy refuses ---------------------------------------------------------------------------------


def answering(status: int) -> Callable[[Seen], Reply]:
    return lambda _: Reply(status)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_login_wanted(scheme: str, transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    with Site(with_login) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        error = failure(transport, f"{scheme}://{NAME}/", ProxyUnusable)
        assert error.message.startswith(f"the proxy {proxy.url} (ALL_PROXY) requires a login")
        assert f"ALL_PROXY=http://USER:PASSWORD@{proxy.address}" in error.hint
        monkeypatch.setenv("ALL_PROXY", proxy.url.replace("//", "//ann:s3cr3t@"))
        error = failure(transport, f"{scheme}://{NAME}/", ProxyUnusable)
        assert "does not accept the login" in error.message
        assert error.retry is Retry.NEVER


def test_target_refused(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    with Site(answering(403)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        error = failure(transport, f"https://{NAME}:5000/", ProxyUnusable)
    assert error.message == f"the proxy {proxy.url} (HTTPS_PROXY) refuses to connect to {NAME}:5000 (403)"
    assert error.hint == (
        f"ask its owner to allow {NAME}:5000; "
        f"if {NAME}:5000 can be reached without it, add {NAME} to NO_PROXY"
    )


def test_target_out_of_reach(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    with Site(answering(502)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        error = failure(transport, f"https://{NAME}/", ProxyFailed)
    assert error.message.endswith(f"cannot connect to {NAME} (502)")
    assert error.retry is Retry.OFFLINE


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_that_is_not_there(scheme: str, transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ALL_PROXY", f"http://{LOGIN}@127.0.0.1:{bound.getsockname()[1]}")
        error = failure(transport, f"{scheme}://{NAME}/", ProxyFailed)
    assert error.message.endswith(" (ALL_PROXY) refuses the connection")


def test_name_that_is_not_found(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    error = failure(transport, f"https://{NAME}/", ProxyFailed)
    assert error.message == "the name of the proxy http://proxy.invalid:3128 (HTTPS_PROXY) cannot be resolved"


def test_proxy_that_hangs_up(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    with Site(fine) as proxy:
        proxy.hang_up = True
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert "breaks the connection" in failure(transport, f"https://{NAME}/", ProxyFailed).message


def test_https_where_the_proxy_speaks_http(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    with Site(fine) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"https://{proxy.address}")
        error = failure(transport, f"https://{NAME}/", ProxyUnusable)
    assert error.message.endswith("does not speak TLS")
    assert error.hint == f"set HTTPS_PROXY=http://{proxy.address}, with http"


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [(407, ProxyUnusable, "requires a"), (403, ProxyUnusable, "refuses"), (None, ProxyFailed, "breaks")],
)
def test_inspect_through_a_proxy_that_lets_nothing_through(
    status: int | None, kind: type[PusherError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Site(answering(status or 200)) as way:
        way.hang_up = status is None
        monkeypatch.setenv("HTTPS_PROXY", way.url)
        proxy = proxy_for(f"https://{NAME}")
        with pytest.raises(urllib3.exceptions.ProxyError) as error:
            inspect_server(NAME, 443, Trust(), PATIENT, proxy)
        told = explain(
            error.value, f"https://{NAME}/", trust=lambda _: Trust(), timeouts=PATIENT, proxy=proxy
        )
    assert type(told) is kind
    assert words in told.message


def test_inspect_through_a_proxy_with_an_unknown_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    with Site(fine, server(trustme.CA(), "127.0.0.1")) as way:
        monkeypatch.setenv("HTTPS_PROXY", way.url)
        proxy = proxy_for(f"https://{NAME}")
        with pytest.raises(urllib3.exceptions.ProxyError) as error:
            inspect_server(NAME, 443, Trust(), PATIENT, proxy)
        told = explain(
            error.value, f"https://{NAME}/", trust=lambda _: Trust(), timeouts=PATIENT, proxy=proxy
        )
        assert told.message.startswith(f"the certificate of {way.address} was issued by ")


# --- time-outs --------------------------------------------------------------------------------------------


def test_proxy_that_does_not_answer_costs_the_connect_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with transport_of(Transport(Timeouts(connect=1.0, stall=60, answer=60))) as transport:
            error = failure(transport, f"https://{NAME}/", ProxyFailed)
    assert error.message.endswith("does not respond")


def test_answer_time_out_behind_a_tunnel(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = Trust(write_ca(authority, tmp_path / "ca.pem"))
    timeouts = Timeouts(connect=30, stall=60, answer=0.2)
    with Site(fine) as proxy, Site(fine, server(authority, NAME)) as registry:
        registry.silent = True
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with transport_of(Transport(timeouts, trust=lambda _: trust)) as transport:
            failure(transport, f"https://{NAME}:{registry.port}/", RegistryStalled)
