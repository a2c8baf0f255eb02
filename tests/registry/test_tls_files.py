"""Certificate files that cannot be used: which one, why, and what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pusher.errors import CertificateFileUnusable
from pusher.registry.http.tls import Trust, tls_context
from tests.support.certificates import write_ca, write_pair

HOST = "r.example:5000"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "certs.d" / HOST
    folder.mkdir(parents=True)
    return folder


def failure(trust: Trust, host: str = HOST) -> CertificateFileUnusable:
    with pytest.raises(CertificateFileUnusable) as error:
        tls_context(trust, host)
    return error.value


def of_certs_d(site: Path) -> CertificateFileUnusable:
    return failure(Trust(certs_dirs=(site.parent,)))


# --- --ca-cert and the environment ------------------------------------------------------------------------


def test_missing(tmp_path: Path) -> None:
    assert failure(Trust(tmp_path / "ca.pem")).message == f"{tmp_path}/ca.pem does not exist"


def test_folder(tmp_path: Path) -> None:
    assert failure(Trust(tmp_path)).message == f"{tmp_path} is a folder, not a file"


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN PRIVATE KEY-----\nabc\n", b"\0" * 99])
def test_no_certificate_inside(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(content)
    error = failure(Trust(tmp_path / "ca.pem"))
    assert error.message == f"{tmp_path}/ca.pem contains no certificate"
    assert "-----BEGIN CERTIFICATE-----" in error.hint


def test_der(authority: trustme.CA, tmp_path: Path) -> None:
    certificate = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    (tmp_path / "ca.cer").write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    error = failure(Trust(tmp_path / "ca.cer"))
    assert error.message == f"{tmp_path}/ca.cer is a certificate in DER form, and PEM is needed"
    command = error.hint.removeprefix("convert it: ")
    subprocess.run(command.split(), check=True)
    tls_context(Trust(tmp_path / "ca.pem"), HOST)


@pytest.mark.parametrize("damage", [(40, b"!!!!"), (-40, b"")])
def test_damaged(authority: trustme.CA, damage: tuple[int, bytes], tmp_path: Path) -> None:
    pem, (place, with_what) = authority.cert_pem.bytes(), damage
    (tmp_path / "ca.pem").write_bytes(pem[:place] + with_what)
    error = failure(Trust(tmp_path / "ca.pem"))
    assert error.message.startswith(f"{tmp_path}/ca.pem contains a damaged certificate (")


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_variable_is_named(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "gone.pem"))
    assert failure(Trust()).message == f"{tmp_path}/gone.pem ({variable}) does not exist"
    tls_context(Trust(insecure=True), HOST)


def test_missing_ssl_cert_file_is_passed_over_as_openssl_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/gone.pem")
    tls_context(Trust(), HOST)


# --- certs.d ----------------------------------------------------------------------------------------------


def test_the_first_folder_of_the_host_counts(authority: trustme.CA, tmp_path: Path) -> None:
    (tmp_path / "a" / "other.example").mkdir(parents=True)
    write_ca(authority, tmp_path / "b" / HOST / "ca.crt")
    (tmp_path / "c" / HOST).mkdir(parents=True)
    (tmp_path / "c" / HOST / "ca.crt").write_text("broken")
    tls_context(Trust(certs_dirs=tuple(tmp_path / name for name in "zabc")), HOST)
    failure(Trust(certs_dirs=(tmp_path / "a", tmp_path / "c", tmp_path / "b")))


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_docker_hub_has_one_folder(host: str, tmp_path: Path) -> None:
    (tmp_path / "docker.io").mkdir()
    (tmp_path / "docker.io" / "ca.crt").write_text("broken")
    assert "docker.io/ca.crt" in failure(Trust(certs_dirs=(tmp_path,)), host).message


def test_other_files_are_left_alone(site: Path) -> None:
    for name in ("hosts.toml", "README", "ca.pem", "crt", "key"):
        (site / name).write_text("broken")
    tls_context(Trust(certs_dirs=(site.parent,)), HOST)
    tls_context(Trust(certs_dirs=(site.parent,)), "r.example")


def test_broken_authority(site: Path) -> None:
    (site / "ca.crt").write_text("broken")
    assert of_certs_d(site).message == f"{site}/ca.crt contains no certificate"


def test_certificate_without_key(authority: trustme.CA, site: Path) -> None:
    write_pair(authority.issue_cert("a@b.example"), site / "client.cert", site / "other.txt")
    error = of_certs_d(site)
    assert error.message == f"{site}/client.cert is a client certificate without its key client.key"
    assert "the certificate of a CA must end in .crt" in error.hint


def test_key_without_certificate(authority: trustme.CA, site: Path) -> None:
    write_pair(authority.issue_cert("a@b.example"), site / "client.crt", site / "client.key")
    assert (
        of_certs_d(site).message == f"{site}/client.key is a key without its client certificate client.cert"
    )


def test_pair_of_two_strangers(authority: trustme.CA, site: Path) -> None:
    write_pair(authority.issue_cert("a@b.example"), site / "client.cert", site / "x")
    write_pair(authority.issue_cert("a@b.example"), site / "y", site / "client.key")
    assert of_certs_d(site).message.endswith("and its key client.key do not belong together")


@pytest.mark.parametrize("broken", ["client.cert", "client.key"])
def test_broken_pair(authority: trustme.CA, broken: str, site: Path) -> None:
    write_pair(authority.issue_cert("a@b.example"), site / "client.cert", site / "client.key")
    (site / broken).write_text("broken")
    assert f"{site}/client.cert" in of_certs_d(site).message
    (site / broken).unlink()
    (site / broken).symlink_to(site / "gone")
    assert of_certs_d(site).message == f"{site}/{broken} does not exist"


def test_locked_key(authority: trustme.CA, site: Path) -> None:
    """OpenSSL would ask for the pass phrase on the terminal: in a process of its own, without one."""
    issued = authority.issue_cert("a@b.example")
    write_pair(issued, site / "client.cert", site / "client.key")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"s3cr3t"),
    )
    (site / "client.key").write_bytes(locked)
    error = of_certs_d(site)
    assert error.message == f"the key {site}/client.key is encrypted with a passphrase"
    code = (
        "from pathlib import Path; from pusher.registry.http.tls import Trust, tls_context\n"
        f"tls_context(Trust(certs_dirs=(Path({str(site.parent)!r}),)), {HOST!r})"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert "encrypted with a passphrase" in told.stderr
    assert "Enter PEM" not in told.stderr + told.stdout


def test_may_not_be_read(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run as root, who may read everything."""

    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    (site / "ca.crt").write_text("x")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert of_certs_d(site).message == f"{site}/ca.crt cannot be read by this user"
    monkeypatch.setattr(Path, "iterdir", refuse)
    error = of_certs_d(site)
    assert error.message == f"{site} cannot be read by this user"
    assert error.hint == f"check it: ls -l {site}"
