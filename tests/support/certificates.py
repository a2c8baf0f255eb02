"""Certificate authorities and TLS servers' certificates of every good and bad kind."""

from __future__ import annotations

import ipaddress
import ssl
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

INSPECTION: Final = ("Cloudflare, Inc.", "Gateway CA - Cloudflare Managed G1 4d8aa21f")
NOW: Final = datetime.now(UTC)


def inspection_ca() -> trustme.CA:
    """What a VPN that inspects TLS issues its certificates with."""
    return trustme.CA(organization_name=INSPECTION[0], organization_unit_name=INSPECTION[1])


def write_ca(authority: trustme.CA, path: Path) -> Path:
    """Its certificate as a PEM file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    authority.cert_pem.write_to_path(str(path))
    return path


def write_pair(issued: trustme.LeafCert, certificate: Path, key: Path) -> None:
    certificate.parent.mkdir(parents=True, exist_ok=True)
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())


def server(
    authority: trustme.CA, *names: str, begins: timedelta | None = None, ends: timedelta | None = None
) -> ssl.SSLContext:
    """A server's context; its certificate is valid from and until so long from now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued = authority.issue_cert(
        *names, not_before=NOW + begins if begins else None, not_after=NOW + ends if ends else None
    )
    issued.configure_cert(context)
    return context


def demanding(
    authority: trustme.CA, name: str, clients: trustme.CA, version: ssl.TLSVersion
) -> ssl.SSLContext:
    """A server's context that wants a client certificate of ``clients``."""
    context = server(authority, name)
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    clients.configure_trust(context)
    return context


def outdated(authority: trustme.CA, name: str) -> ssl.SSLContext:
    """A server's context that speaks TLS 1.1 and nothing better."""
    context = server(authority, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def self_signed(folder: Path, name: str, *, address: str) -> tuple[ssl.SSLContext, Path]:
    """A server's context with a certificate that signs itself, and that certificate's PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "self-signed.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = folder / "self-signed.key"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    return context, pem
