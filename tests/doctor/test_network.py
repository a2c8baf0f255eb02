"""The doctor on the way to a registry: proxies, names, connections, certificates, and what answers there."""

from __future__ import annotations

import contextlib
import email.utils
import socket
import ssl
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from pusher.config import Timeouts
from pusher.errors import (
    CertificateUntrusted,
    ClockWrong,
    NotARegistry,
    ProxyFailed,
    ProxyUnusable,
    PusherError,
    RegistryFault,
    RegistryUnreachable,
)
from tests.doctor.diagnosis import PUSHING, Diagnosis, Registry, after, diagnose, settings_in, stay_here
from tests.registry.sites import Site
from tests.support.fakeregistry.wire import Reply
from tests.support.processes import free_port

NAME = "registry.test"
"""Beyond this machine, as far as pusher can tell."""
QUICK = Timeouts(connect=1.0, stall=30, answer=30, commit=30)
NO_IMAGE = ("image",)
PLAIN = ("image", "TLS")


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    stay_here(monkeypatch, registry_test="127.0.0.1", proxy_test="127.0.0.1")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Zscaler Inc.", organization_unit_name="Zscaler Root CA")


def tls(authority: trustme.CA, name: str = NAME, not_after: datetime | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, not_after=not_after).configure_cert(context)
    return context


@pytest.fixture
def ca_cert(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def of(site: Site, home: Path, **settings: object) -> Diagnosis:
    """Of a repository on a site that has a name of its own."""
    return diagnose(f"{NAME}:{site.port}/team/app", settings_in(home, **settings))


# --- names and connections --------------------------------------------------------------------------------


def test_a_name_that_cannot_be_resolved(tmp_path: Path) -> None:
    found = diagnose("nothing.invalid/team/app", settings_in(tmp_path))
    skipped = (*NO_IMAGE, *after("DNS"))
    check = found.assert_failed("DNS", RegistryUnreachable, "name nothing.invalid", skipped=skipped)
    assert check.exit_code == 5
    assert found["login"].message == "because the check DNS failed"
    assert check.registry == "nothing.invalid"


def test_a_resolver_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer.wait(20) and [])
    found = diagnose("registry.test/team/app", settings_in(tmp_path, timeouts=QUICK))
    answer.set()
    skipped = (*NO_IMAGE, *after("DNS"))
    found.assert_failed("DNS", RegistryUnreachable, "registry.test", "no answer within", skipped=skipped)


def test_nobody_listens(tmp_path: Path) -> None:
    port = free_port()
    found = diagnose(f"127.0.0.1:{port}/team/app", settings_in(tmp_path))
    skipped = (*NO_IMAGE, *after("TCP"))
    found.assert_failed("TCP", RegistryUnreachable, str(port), "connection refused", skipped=skipped)


def test_a_connection_that_does_not_come_about(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(full.getsockname())
        registry = f"127.0.0.1:{full.getsockname()[1]}"
        found = diagnose(f"{registry}/team/app", settings_in(tmp_path, timeouts=QUICK))
    skipped = (*NO_IMAGE, *after("TCP"))
    found.assert_failed("TCP", RegistryUnreachable, registry, "no answer within", skipped=skipped)


# --- proxies ----------------------------------------------------------------------------------------------


def test_a_proxy_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("HTTPS_PROXY", f"http://bob:s3cr3t@127.0.0.1:{port}")
    found = diagnose(f"{NAME}/team/app", settings_in(tmp_path))
    check = found.assert_failed(
        "proxy", ProxyFailed, f"127.0.0.1:{port}", "HTTPS_PROXY", skipped=(*NO_IMAGE, *after("proxy"))
    )
    assert "s3cr3t" not in f"{check}"


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (403, ProxyUnusable, ("HTTPS_PROXY", "refuses to connect", "403")),
        (407, ProxyUnusable, ("HTTPS_PROXY", "login")),
        (502, ProxyFailed, ("HTTPS_PROXY", "502")),
    ],
)
def test_a_proxy_that_lets_nothing_through(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    error: type[PusherError],
    words: tuple[str, ...],
) -> None:
    with Site(lambda _: Reply(status, {"Connection": "close"})) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        found = diagnose(f"{NAME}/team/app", settings_in(tmp_path))
        found.assert_failed("proxy", error, proxy.address, *words, skipped=(*NO_IMAGE, *after("proxy")))


def test_a_proxy_that_does_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA, ca_cert: Path
) -> None:
    registry = Registry()
    with Site(registry, tls(authority)) as site, Site(lambda _: Reply(200)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://bob:s3cr3t@{proxy.address}")
        found = of(site, tmp_path, ca_cert=ca_cert)
    found.assert_healthy(skipped=[*NO_IMAGE, "DNS", "TCP"])
    assert f"http://{proxy.address} (HTTPS_PROXY)" in found["proxy"].message
    assert {seen.method for seen in proxy.seen} == {"CONNECT"}
    assert "s3cr3t" not in f"{found}"
    assert registry.opened == 0


def test_what_lies_behind_a_proxy_is_not_the_proxys_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA
) -> None:
    with Site(Registry(), tls(authority)) as site, Site(lambda _: Reply(200)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        found = of(site, tmp_path)
    found.assert_failed(
        "TLS", CertificateUntrusted, "Zscaler", skipped=[*NO_IMAGE, "DNS", "TCP", *after("TLS")]
    )


# --- TLS --------------------------------------------------------------------------------------------------


def test_a_certificate_that_is_trusted(tmp_path: Path, authority: trustme.CA, ca_cert: Path) -> None:
    with Site(Registry(), tls(authority)) as site:
        found = of(site, tmp_path, ca_cert=ca_cert)
    found.assert_healthy(skipped=NO_IMAGE)
    assert "TLSv1.3" in found["TLS"].message
    assert "Zscaler" in found["TLS"].message
    assert found["TLS"].message.endswith("verified")
    assert "127.0.0.1" in found["DNS"].message
    assert f"port {site.port}" in found["TCP"].message


def test_an_inspection_that_is_not_trusted(tmp_path: Path, authority: trustme.CA) -> None:
    with Site(Registry(), tls(authority)) as site:
        found = of(site, tmp_path)
        assert site.seen == []
    skipped = (*NO_IMAGE, *after("TLS"))
    check = found.assert_failed("TLS", CertificateUntrusted, "Zscaler", "--ca-cert", skipped=skipped)
    assert "inspects TLS" in check.hint
    assert check.exit_code == 3


def test_an_unknown_authority(tmp_path: Path) -> None:
    unknown = trustme.CA(organization_name="Example Corp")
    with Site(Registry(), tls(unknown)) as site:
        found = of(site, tmp_path)
    skipped = (*NO_IMAGE, *after("TLS"))
    found.assert_failed("TLS", CertificateUntrusted, "Example Corp", "does not trust", skipped=skipped)


def test_a_certificate_that_has_expired(tmp_path: Path, authority: trustme.CA, ca_cert: Path) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    with Site(Registry(), tls(authority, not_after=yesterday)) as site:
        found = of(site, tmp_path, ca_cert=ca_cert)
    skipped = (*NO_IMAGE, *after("TLS"))
    found.assert_failed("TLS", CertificateUntrusted, "expired", "clock", skipped=skipped)


def test_a_certificate_of_another_host(tmp_path: Path, authority: trustme.CA, ca_cert: Path) -> None:
    with Site(Registry(), tls(authority, "other.test")) as site:
        found = of(site, tmp_path, ca_cert=ca_cert)
    skipped = (*NO_IMAGE, *after("TLS"))
    found.assert_failed("TLS", CertificateUntrusted, "other.test", NAME, skipped=skipped)


def test_insecure_passes_and_says_so(tmp_path: Path, authority: trustme.CA) -> None:
    with Site(Registry(), tls(authority)) as site:
        found = of(site, tmp_path, insecure=frozenset({f"{NAME}:{site.port}"}))
    found.assert_healthy(skipped=NO_IMAGE)
    assert "NOT verified" in found["TLS"].message


def test_a_registry_without_tls_is_spoken_to_with_tls(tmp_path: Path) -> None:
    with Site(Registry()) as site:
        found = of(site, tmp_path)
        skipped = (*NO_IMAGE, *after("TLS"))
        found.assert_failed("TLS", NotARegistry, "does not speak TLS", "--plain-http", skipped=skipped)
        of(site, tmp_path, plain_http=True).assert_healthy(skipped=PLAIN)


def test_a_registry_with_tls_on_this_machine(tmp_path: Path, authority: trustme.CA, ca_cert: Path) -> None:
    with Site(Registry(), tls(authority, "127.0.0.1")) as site:
        found = diagnose(f"{site.address}/team/app", settings_in(tmp_path, ca_cert=ca_cert))
    found.assert_healthy(skipped=NO_IMAGE)


# --- what answers there -----------------------------------------------------------------------------------


def on_this_machine(answer: Registry, home: Path) -> Diagnosis:
    with Site(answer) as site:
        return diagnose(f"{site.address}/team/app", settings_in(home))


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        (Reply(200, {"Content-Type": "text/html"}, b"<html>Welcome to our shop</html>"), "200"),
        (Reply(404, {"Content-Type": "text/plain"}, b"not found"), "404"),
    ],
    ids=["a page", "nothing"],
)
def test_something_else_answers(tmp_path: Path, reply: Reply, word: str) -> None:
    found = on_this_machine(Registry(PING=reply), tmp_path)
    found.assert_failed(
        "registry", NotARegistry, "not a container registry", word, skipped=[*PLAIN, *PUSHING]
    )


def test_a_registry_that_is_down(tmp_path: Path) -> None:
    reply = Reply(502, {"Content-Type": "text/html"}, b"<h1>Bad Gateway</h1>")
    found = on_this_machine(Registry(PING=reply), tmp_path)
    found.assert_failed("registry", RegistryFault, "502", "Bad Gateway", skipped=[*PLAIN, *PUSHING])


@pytest.mark.parametrize(("hours", "words"), [(2, "2h00m behind"), (-2, "2h00m ahead")])
def test_a_clock_that_is_two_hours_off(tmp_path: Path, hours: int, words: str) -> None:
    date = email.utils.formatdate(time.time() + hours * 3610, usegmt=True)
    found = on_this_machine(Registry(PING=Reply(200, {"Date": date}, b"{}")), tmp_path)
    found.assert_failed("clock", ClockWrong, words, "timedatectl", skipped=PLAIN)


def test_a_clock_that_is_a_minute_off(tmp_path: Path) -> None:
    date = email.utils.formatdate(time.time() - 60, usegmt=True)
    found = on_this_machine(Registry(PING=Reply(200, {"Date": date}, b"{}")), tmp_path)
    found.assert_healthy(skipped=PLAIN)
    assert "differ by 6" in found["clock"].message


def test_an_answer_without_a_usable_date(tmp_path: Path) -> None:
    found = on_this_machine(Registry(PING=Reply(200, {"Date": "yesterday"}, b"{}")), tmp_path)
    found.assert_healthy(skipped=[*PLAIN, "clock"])
    assert "has no date" in found["clock"].message
