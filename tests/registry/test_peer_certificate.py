"""Certificates that are not as RFC 5280 has them."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from pusher.registry.http.peer_certificate import Flaw, read_peer
from pusher.registry.http.untrusted_certificate import certificate_error


def _certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "r.example")])
    names = [x509.DNSName("r.example")]
    return (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.IssuerAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07"),  # its version
        (b"\x55\x1d\x12", b"\x55\x1d\x11"),  # two extensions of one kind
        (b"20200101", b"20209901"),  # its dates, or no certificate at all
        (b"200101000000Z", b"209901000000Z"),
        (b"\x30", b"\x31"),
    ],
)
def test_what_is_odd_is_told_as_a_certificate_that_cannot_be_verified(old: bytes, new: bytes) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    for der in (_certificate().replace(old, new), _certificate().replace(old, new)[:-40]):
        peer = read_peer("TLSv1.3", "c", der, "r.example", verified=False, error=error)
        assert peer.flaw in (Flaw.OTHER, Flaw.UNKNOWN_ISSUER)
        assert "cannot be verified" in peer.problem or "was issued by" in peer.problem
        assert "r.example" in certificate_error("r.example", peer).message
        assert read_peer("TLSv1.3", "c", der, "r.example", verified=True).flaw is None
