"""TLS and proxies, each with a server of its own."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from pusher.config import Timeouts
from pusher.errors import CertificateUntrusted, NotARegistry, RegistryUnreachable
from pusher.registry.transport import Transport
from tests.registry.sites import Site, transport_of
from tests.support.fakeregistry.wire import Reply

URL = "http://registry.invalid/v2/?_state=abc"


@pytest.fixture
def transport() -> Iterator[Transport]:
    with transport_of(Transport(Timeouts(5, 5, 5, 5))) as open_one:
        yield open_one


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def context_for(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def trust(authority: trustme.CA, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What installing a CA in the system's trust store does."""
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))


def fine(_: object) -> Reply:
    return Reply(200, {}, b"fine")


def test_unknown_authority(transport: Transport, authority: trustme.CA) -> None:
    with Site(fine, context_for(authority, "127.0.0.1")) as site:
        with pytest.raises(CertificateUntrusted) as error:
            transport.send("GET", site.url + "/v2/")
        assert site.address in error.value.message
        assert "CA certificate" in error.value.hint
        assert site.seen == []


def test_authority_of_the_system_s_trust_store(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(authority, tmp_path, monkeypatch)
    with (
        transport_of(Transport(Timeouts(5, 5, 5, 5))) as transport,
        Site(fine, context_for(authority, "127.0.0.1")) as site,
    ):
        assert transport.send("PUT", site.url, body=b"x" * 100_000).ok
        assert site.seen[0].body == b"x" * 100_000


def test_certificate_of_another_name(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(authority, tmp_path, monkeypatch)
    with (
        transport_of(Transport(Timeouts(5, 5, 5, 5))) as transport,
        Site(fine, context_for(authority, "other.example")) as site,
        pytest.raises(CertificateUntrusted),
    ):
        transport.send("GET", site.url)


def test_https_asked_of_a_server_without_tls(transport: Transport) -> None:
    with Site(fine) as site, pytest.raises(NotARegistry) as error:
        transport.send("GET", f"https://{site.address}/v2/")
    assert "--plain-http" in error.value.hint


# --- proxies ----------------------------------------------------------------------------------------------


def test_http_goes_through_the_proxy(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    with Site(fine) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        assert transport.send("PUT", URL, body=b"hello").body == b"fine"
        assert [(seen.target, seen.body) for seen in proxy.seen] == [(URL, b"hello")]


def test_no_proxy(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    with Site(fine) as proxy, Site(fine) as registry:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1,.internal")
        assert transport.send("GET", registry.url).ok
        assert (len(proxy.seen), len(registry.seen)) == (0, 1)


def test_https_goes_through_a_tunnel(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(authority, tmp_path, monkeypatch)
    with (
        Site(fine) as proxy,
        Site(fine, context_for(authority, "127.0.0.1")) as registry,
        transport_of(Transport(Timeouts(5, 5, 5, 5))) as transport,
    ):
        monkeypatch.setenv("https_proxy", proxy.url)
        answer = transport.send(
            "PUT", registry.url + "/v2/", headers={"Authorization": "Basic s3cr3t"}, body=b"x"
        )
        assert answer.body == b"fine"
        [connect] = proxy.seen
        assert (connect.method, connect.target) == ("CONNECT", registry.address)
        assert "authorization" not in connect.headers
        assert registry.seen[0].headers["authorization"] == "Basic s3cr3t"


def test_proxy_that_refuses(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    with Site(lambda _: Reply(403)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//ann:s3cr3t@"))
        with pytest.raises(RegistryUnreachable) as error:
            transport.send("GET", "https://registry.invalid/v2/")
        assert "HTTPS_PROXY" in error.value.hint
        assert "s3cr3t" not in error.value.message + error.value.hint
