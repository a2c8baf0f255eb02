"""Whom we trust: authorities from every place, host by host, and what is said where trust ends."""

from __future__ import annotations

import re
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from pusher.config import Timeouts
from pusher.errors import (
    CertificateUntrusted,
    ClientCertificateRefused,
    ConnectionBroken,
    NotARegistry,
    PusherError,
    TlsFailed,
)
from pusher.registry.http import transport as transport_module
from pusher.registry.http.peer_certificate import Flaw
from pusher.registry.http.tls import Trust, inspect_server, tls_context
from pusher.registry.http.transport import Transport
from pusher.registry.http.untrusted_certificate import find_inspector
from tests.registry.sites import PATIENT, Site, join_connecting, transport_of
from tests.support import certificates
from tests.support.certificates import INSPECTION, demanding, server, write_ca, write_pair
from tests.support.fakeregistry.wire import Reply
from tests.support.waiting import PATIENCE, wait_until

HERE = "127.0.0.1"
DAY = timedelta(days=1)
BOTH = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Example Ltd", organization_unit_name="Example Root")


@pytest.fixture(scope="module")
def gateway() -> trustme.CA:
    return certificates.inspection_ca()


def fine(_: object) -> Reply:
    return Reply(200, {}, b"fine")


@contextmanager
def reaching(trust: Trust | Mapping[str, Trust] = Trust()) -> Iterator[Transport]:  # noqa: B008 - frozen
    by_host = {} if isinstance(trust, Trust) else trust
    every = trust if isinstance(trust, Trust) else Trust()
    with transport_of(Transport(PATIENT, trust=lambda host: by_host.get(host, every))) as transport:
        yield transport


def failure(site: Site, trust: Trust = Trust(), kind: type[PusherError] = PusherError) -> PusherError:  # noqa: B008
    with reaching(trust) as transport, pytest.raises(kind) as error:
        transport.send(
            "GET", site.url + "/v2/?_state=s3cr3t-state", headers={"Authorization": "Basic s3cr3t"}
        )
    assert site.seen == [], "something was sent to who cannot be trusted"
    return error.value


def test_a_connection_opened_ahead_is_verified_and_used(authority: trustme.CA, tmp_path: Path) -> None:
    with Site(fine, server(authority, HERE)) as site:
        with reaching(Trust(write_ca(authority, tmp_path / "ca.pem"))) as transport:
            transport.connect_ahead(site.url + "/v2/")
            join_connecting()
            assert transport.send("GET", site.url + "/v2/").ok
            assert site.connections == 1
        with reaching() as transport:
            transport.connect_ahead(site.url + "/v2/")
            join_connecting()
            with pytest.raises(CertificateUntrusted):
                transport.send("GET", site.url + "/v2/")
        assert len(site.seen) == 1


def test_an_early_request_waits_for_the_connection_that_was_opened_ahead(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "_MAX_HANDSHAKE", PATIENCE)
    with (
        Site(fine, server(authority, HERE)) as site,
        reaching(Trust(write_ca(authority, tmp_path / "ca.pem"))) as transport,
    ):
        site.handshakes.clear()
        url = site.url + "/v2/"
        transport.connect_ahead(url, 2)
        wait_until(lambda: site.connections == 2)
        transport.connect_ahead(url)  # that is under way
        transport.send_early(url, {})
        site.handshakes.set()
        assert transport.send("GET", url).ok
        join_connecting()
        assert (site.connections, len(site.seen)) == (2, 1)


def test_connections_shake_hands_side_by_side(authority: trustme.CA, tmp_path: Path) -> None:
    with (
        Site(fine, server(authority, HERE)) as site,
        reaching(Trust(write_ca(authority, tmp_path / "ca.pem"))) as transport,
    ):
        site.handshakes.clear()
        transport.connect_ahead(site.url + "/v2/", 2)
        wait_until(lambda: len(site.begun_handshakes) == 2)
        site.handshakes.set()
        join_connecting()
        assert transport.send("GET", site.url + "/v2/").ok
        assert site.connections == 2


# --- certificates that cannot be verified -----------------------------------------------------------------


def test_unknown_authority(authority: trustme.CA) -> None:
    with Site(fine, server(authority, HERE)) as site:
        error = failure(site, kind=CertificateUntrusted)
    assert error.message == (
        f'the certificate of {site.address} was issued by "Example Root (Example Ltd)", '
        "which this machine does not trust"
    )
    assert "VPN or proxy such as Cloudflare WARP or Zscaler replaces certificates" in error.hint
    assert "--ca-cert FILE" in error.hint
    assert "--insecure" in error.hint


def test_inspection(gateway: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    with Site(fine, server(gateway, HERE)) as site:
        error = failure(site, kind=CertificateUntrusted)
    assert f'"{INSPECTION[1]} ({INSPECTION[0]})"' in error.message
    assert error.hint.startswith(
        "Cloudflare inspects TLS on this network and puts its own certificate in place"
    )
    assert "--ca-cert FILE" in error.hint
    assert "sudo cp FILE /usr/local/share/ca-certificates/" in error.hint
    assert "--insecure" not in error.hint


@pytest.mark.parametrize(("platform", "where"), [("darwin", "keychain"), ("linux", "update-ca-")])
def test_install_hint_of_other_systems(
    gateway: trustme.CA, platform: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Site(fine, server(gateway, HERE)) as site:
        monkeypatch.setattr("pusher.registry.http.untrusted_certificate.sys.platform", platform)
        assert where in failure(site).hint


def test_machine_without_authorities(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pusher.registry.http.untrusted_certificate._BUNDLES", (str(tmp_path / "gone.crt"),))
    nowhere = ssl.DefaultVerifyPaths("", str(tmp_path), "", "", "", "")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    with Site(fine, server(authority, HERE)) as site:
        assert "install the package ca-certificates" in failure(site).hint
        (tmp_path / "0a1b2c3d.0").write_text("")
        assert "ca-certificates;" not in failure(site).hint


@pytest.mark.parametrize(
    ("issuer", "maker"),
    [
        ("Zscaler Intermediate Root CA (zscaler.net)", "Zscaler"),
        ("FGVM01 (Fortinet)", "Fortinet"),
        ("certadmin.netskope.com (netSkope Inc)", "Netskope"),
        ("CloudFlare Origin SSL Certificate Authority (CloudFlare, Inc.)", ""),
        ("R11 (Let's Encrypt)", ""),
        ("", ""),
    ],
)
def test_inspector(issuer: str, maker: str) -> None:
    assert find_inspector(issuer) == maker


def test_expired(authority: trustme.CA, tmp_path: Path) -> None:
    ca = write_ca(authority, tmp_path / "ca.pem")
    with Site(fine, server(authority, HERE, begins=-9 * DAY, ends=-2 * DAY)) as site:
        error = failure(site, Trust(ca), CertificateUntrusted)
    date = f"{certificates.NOW - 2 * DAY:%Y-%m-%d %H:%M} UTC"
    assert f"expired on {date} (issued by " in error.message
    assert "clock, which says 20" in error.hint


def test_not_yet_valid(authority: trustme.CA, tmp_path: Path) -> None:
    ca = write_ca(authority, tmp_path / "ca.pem")
    with Site(fine, server(authority, HERE, begins=DAY, ends=2 * DAY)) as site:
        error = failure(site, Trust(ca), CertificateUntrusted)
    assert f"is not valid before {certificates.NOW + DAY:%Y-%m-%d}" in error.message
    assert "clock" in error.hint


def test_wrong_host(authority: trustme.CA, tmp_path: Path) -> None:
    ca = write_ca(authority, tmp_path / "ca.pem")
    names = [f"{letter}.example" for letter in "abcdef"]
    with Site(fine, server(authority, *names)) as site:
        error = failure(site, Trust(ca), CertificateUntrusted)
    assert f"is for a.example, b.example, c.example, d.example and 2 more, not for {HERE}" in error.message
    assert "name that the certificate is for" in error.hint


def test_self_signed(tmp_path: Path) -> None:
    tls, pem = certificates.self_signed(tmp_path, "registry.lan", address=HERE)
    with Site(fine, tls) as site:
        error = failure(site, kind=CertificateUntrusted)
        assert 'is self-signed by "registry.lan"' in error.message
        assert f"/etc/docker/certs.d/{site.address}/ca.crt" in error.hint
        with reaching(Trust(pem)) as transport:
            assert transport.send("GET", site.url).ok


def test_certificate_that_lies_in_its_names(tmp_path: Path) -> None:
    tls, _ = certificates.self_signed(tmp_path, "red\x1b[31m" + "x" * 50, address=HERE)
    with Site(fine, tls) as site:
        assert failure(site).message.isprintable()


def test_the_link_breaks_before_the_certificate_is_looked_at(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ConnectionResetError

    monkeypatch.setattr("pusher.registry.http.network_errors.inspect_server", broken)
    with Site(fine, server(authority, HERE)) as site:
        error = failure(site, kind=CertificateUntrusted)
    assert "cannot be verified: unable to get local issuer certificate" in error.message


# --- authorities that are trusted -------------------------------------------------------------------------


def by_ca_cert(ca: Path, _host: str, _environment: pytest.MonkeyPatch) -> Trust:
    return Trust(ca)


def by_certs_d(ca: Path, host: str, _environment: pytest.MonkeyPatch) -> Trust:
    (ca.parent / "etc" / host).mkdir(parents=True)
    ca.rename(ca.parent / "etc" / host / "gateway.crt")
    return Trust(certs_dirs=(ca.parent / "missing", ca.parent / "etc"))


def by_variable(name: str) -> Callable[[Path, str, pytest.MonkeyPatch], Trust]:
    def set_it(ca: Path, _host: str, environment: pytest.MonkeyPatch) -> Trust:
        environment.setenv(name, str(ca))
        return Trust()

    return set_it


@pytest.mark.parametrize(
    "way",
    [
        by_ca_cert,
        by_certs_d,
        by_variable("SSL_CERT_FILE"),
        by_variable("REQUESTS_CA_BUNDLE"),
        by_variable("CURL_CA_BUNDLE"),
    ],
    ids=["--ca-cert", "certs.d", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"],
)
def test_inspection_ca_is_trusted(
    gateway: trustme.CA,
    way: Callable[[Path, str, pytest.MonkeyPatch], Trust],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ca = write_ca(gateway, tmp_path / "ca.pem")
    with Site(fine, server(gateway, HERE)) as site:
        trust = way(ca, site.address, monkeypatch)
        with reaching(trust) as transport:
            assert transport.send("PUT", site.url, body=b"x" * 100_000).ok
        assert site.seen[0].body == b"x" * 100_000


def test_folder_of_authorities(gateway: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REQUESTS_CA_BUNDLE may name what ``c_rehash`` makes."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    with Site(fine, server(gateway, HERE)) as site:
        failure(site, kind=CertificateUntrusted)
        write_ca(gateway, tmp_path / f"{subject_hash(gateway):08x}.0")
        with reaching() as transport:
            assert transport.send("GET", site.url).ok


def subject_hash(authority: trustme.CA) -> int:
    """OpenSSL's X509_NAME_hash, as the ``openssl`` command gives it."""
    told = subprocess.run(
        ["openssl", "x509", "-noout", "-subject_hash"],
        input=authority.cert_pem.bytes(),
        capture_output=True,
        check=True,
    )
    return int(told.stdout, 16)


def test_intermediate_authority_is_enough(authority: trustme.CA, tmp_path: Path) -> None:
    """As with Docker, whose pool of roots takes any certificate."""
    child = authority.create_child_ca()
    with (
        Site(fine, server(child, HERE)) as site,
        reaching(Trust(write_ca(child, tmp_path / "ca.pem"))) as way,
    ):
        assert way.send("GET", site.url).ok


def test_trust_is_by_host(authority: trustme.CA, tmp_path: Path) -> None:
    ca = write_ca(authority, tmp_path / "ca.pem")
    with (
        Site(fine, server(authority, HERE)) as known,
        Site(fine, server(authority, HERE)) as careless,
        Site(fine, server(authority, HERE)) as other,
        reaching({known.address: Trust(ca), careless.address: Trust(insecure=True)}) as transport,
    ):
        for _ in range(2):
            assert transport.send("GET", known.url).ok
            assert transport.send("GET", careless.url).ok
            with pytest.raises(CertificateUntrusted):
                transport.send("GET", other.url)


def test_a_longer_name_is_another_host() -> None:
    asked: list[str] = []

    def trust(host: str) -> Trust:
        asked.append(host)
        return Trust()

    with transport_of(Transport(Timeouts(0.2, 1, 1), trust=trust)) as transport:
        session = transport._session
        for url in (
            "https://R.example/v2/",
            "https://r.example.net/",
            "https://ann:pw@r.example/x?y",
            "https://r.example:99/",
        ):
            session.get_adapter(url)
        session.get_adapter("https://registry-1.docker.io/v2/")
    assert asked == ["r.example", "r.example.net", "r.example:99", "docker.io"]


def test_insecure(authority: trustme.CA) -> None:
    tls = server(authority, "other.example", ends=-DAY, begins=-2 * DAY)
    with Site(fine, tls) as site, reaching(Trust(insecure=True)) as transport:
        assert transport.send("PUT", site.url, body=b"x").ok


def test_the_context_itself() -> None:
    made = tls_context(Trust(), "r.example")
    assert made.minimum_version is ssl.TLSVersion.TLSv1_2
    assert not made.verify_flags & ssl.VERIFY_X509_STRICT, "inspection CAs do not stand it (cpython#107361)"
    assert made.check_hostname
    assert made.verify_mode is ssl.CERT_REQUIRED


# --- client certificates ----------------------------------------------------------------------------------


@BOTH
def test_client_certificate(authority: trustme.CA, version: ssl.TLSVersion, tmp_path: Path) -> None:
    clients = trustme.CA()
    ca = write_ca(authority, tmp_path / "ca.pem")
    with Site(fine, demanding(authority, HERE, clients, version)) as site:
        folder = tmp_path / "certs.d" / site.address
        trust = Trust(ca, certs_dirs=(tmp_path / "certs.d",))

        missing = failure(site, trust, ClientCertificateRefused if version.name == "TLSv1_3" else TlsFailed)
        assert "client certificate" in missing.message + missing.hint
        assert f"{folder}/client.cert" in missing.hint

        write_pair(trustme.CA().issue_cert("ann@a.example"), folder / "client.cert", folder / "client.key")
        wrong = failure(site, trust, ClientCertificateRefused)
        assert "does not accept the client certificate" in wrong.message

        write_pair(clients.issue_cert("ann@a.example"), folder / "client.cert", folder / "client.key")
        with reaching(trust) as transport:
            assert transport.send("GET", site.url).ok


def test_certificates_that_are_added_while_a_worker_runs_are_used(
    authority: trustme.CA, tmp_path: Path
) -> None:
    """Client certificates may live for a day, and a CA is trusted once its error has been read."""
    clients = trustme.CA()
    with Site(fine, demanding(authority, HERE, clients, ssl.TLSVersion.TLSv1_2)) as site:
        folder = tmp_path / "certs.d" / site.address
        with reaching(Trust(certs_dirs=(tmp_path / "certs.d",))) as transport:
            with pytest.raises(CertificateUntrusted):
                transport.send("GET", site.url)
            folder.mkdir(parents=True)
            write_ca(authority, folder / "ca.crt")
            with pytest.raises((ClientCertificateRefused, TlsFailed)):
                transport.send("GET", site.url)
            write_pair(clients.issue_cert("ann@a.example"), folder / "client.cert", folder / "client.key")
            assert transport.send("GET", site.url).ok


def test_client_certificate_is_shown_to_no_other_host(authority: trustme.CA, tmp_path: Path) -> None:
    clients = trustme.CA()
    ca = write_ca(authority, tmp_path / "ca.pem")
    with Site(fine, demanding(authority, HERE, clients, ssl.TLSVersion.TLSv1_3)) as site:
        other = tmp_path / "certs.d" / "127.0.0.1:1"
        write_pair(clients.issue_cert("ann@a.example"), other / "client.cert", other / "client.key")
        failure(site, Trust(ca, certs_dirs=(tmp_path / "certs.d",)), ClientCertificateRefused)


# --- no TLS to speak of -----------------------------------------------------------------------------------


def test_outdated_server(authority: trustme.CA) -> None:
    with Site(fine, certificates.outdated(authority, HERE)) as site:
        error = failure(site, kind=TlsFailed)
    assert "too old" in error.message
    assert "TLS 1.2" in error.hint


def test_https_asked_of_a_server_without_tls() -> None:
    with Site(fine) as site, reaching() as transport, pytest.raises(NotARegistry) as error:
        transport.send("GET", f"https://{site.address}/v2/")
    assert "--plain-http" in error.value.hint


def test_server_that_hangs_up_in_the_handshake() -> None:
    """A link that breaks does so here too: that is no reason to give up."""
    with reaching() as transport, Site(fine) as site:
        site.hang_up = True
        with pytest.raises(ConnectionBroken):
            transport.send("GET", f"https://{site.address}/v2/")


# --- a look at who answers --------------------------------------------------------------------------------


def test_inspect(authority: trustme.CA, gateway: trustme.CA, tmp_path: Path) -> None:
    ca = write_ca(authority, tmp_path / "ca.pem")
    with Site(fine, server(authority, HERE, "r.example")) as site:
        peer = inspect_server(HERE, site.port, Trust(ca), PATIENT)
        assert (peer.protocol, peer.verified, peer.flaw, peer.problem) == ("TLSv1.3", True, None, "")
        assert peer.cipher.startswith("TLS_")
        assert (peer.issuer, set(peer.names)) == ("Example Root (Example Ltd)", {HERE, "r.example"})
        assert peer.not_before is not None
        assert peer.not_after is not None
        assert peer.not_before < certificates.NOW < peer.not_after
        careless = inspect_server(HERE, site.port, Trust(insecure=True), PATIENT)
        assert (careless.verified, careless.flaw) == (False, None)
        assert site.seen == []
    with Site(fine, server(gateway, HERE)) as site:
        peer = inspect_server(HERE, site.port, Trust(ca), PATIENT)
        assert (peer.verified, peer.flaw) == (False, Flaw.UNKNOWN_ISSUER)
        assert re.search(INSPECTION[1], peer.problem)


def test_inspect_where_even_a_look_wants_a_client_certificate(authority: trustme.CA) -> None:
    tls = demanding(authority, HERE, trustme.CA(), ssl.TLSVersion.TLSv1_2)
    with Site(fine, tls) as site:
        peer = inspect_server(HERE, site.port, Trust(), PATIENT)
    assert (peer.verified, peer.flaw, peer.issuer) == (False, Flaw.UNKNOWN_ISSUER, "")
    assert "cannot be verified" in peer.problem
