"""Read the certificate of a TLS server, and determine why it cannot be verified."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from pusher.dataclass import dataclass
from pusher.registry.http.redaction import for_display, shorten

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, Name

_LONGEST_NAME: Final = 80
_MAX_NAMES: Final = 4


class Flaw(Enum):
    """Why a certificate cannot be verified."""

    UNKNOWN_ISSUER = auto()
    SELF_SIGNED = auto()
    EXPIRED = auto()
    NOT_YET_VALID = auto()
    WRONG_HOST = auto()
    OTHER = auto()


_OPENSSL: Final = {
    2: Flaw.UNKNOWN_ISSUER,
    9: Flaw.NOT_YET_VALID,
    10: Flaw.EXPIRED,
    18: Flaw.SELF_SIGNED,
    19: Flaw.UNKNOWN_ISSUER,
    20: Flaw.UNKNOWN_ISSUER,
    21: Flaw.UNKNOWN_ISSUER,
    62: Flaw.WRONG_HOST,
    64: Flaw.WRONG_HOST,
}
"""X509_V_ERR_* of openssl/x509_vfy.h."""


@dataclass(frozen=True)
class TlsPeer:
    """A TLS server and its certificate; fields that cannot be read are empty."""

    protocol: str
    """``TLSv1.3``."""
    cipher: str
    issuer: str
    """Its common name and organisation."""
    subject: str
    names: tuple[str, ...]
    """Host names and addresses of the certificate."""
    not_before: datetime | None
    not_after: datetime | None
    verified: bool
    flaw: Flaw | None = None
    """None: the certificate was verified, or verification is off."""
    problem: str = ""
    """The flaw with names and dates, after "the certificate of HOST "; empty without a flaw."""


def read_peer(
    protocol: str,
    cipher: str,
    der: bytes,
    host: str,
    *,
    verified: bool,
    error: ssl.SSLCertVerificationError | None = None,
) -> TlsPeer:
    """Read a certificate (DER). ``error`` is that of its verification for ``host``."""
    from cryptography import x509  # imported here: that takes 50 ms

    try:
        certificate = x509.load_der_x509_certificate(der)
        issuer, subject = _name(certificate.issuer), _name(certificate.subject)
        names = tuple(shorten(name, _LONGEST_NAME) for name in _names(certificate))
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except _parse_errors():  # cryptography is strict
        return TlsPeer(protocol, cipher, "", "", (), None, None, verified, *_flaw_without_certificate(error))
    peer = TlsPeer(protocol, cipher, issuer, subject, names, begin, end, verified)
    if error is None:
        return peer
    flaw = _flaw(error, peer, self_issued=certificate.issuer == certificate.subject)
    return replace(peer, flaw=flaw, problem=_problem(flaw, peer, host, error))


def _parse_errors() -> tuple[type[Exception], ...]:
    """Return the errors of cryptography for certificates that break RFC 5280."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    return (
        *(ValueError, OverflowError, TypeError),
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        UnsupportedAlgorithm,
    )


def _flaw(error: ssl.SSLCertVerificationError, peer: TlsPeer, *, self_issued: bool) -> Flaw:
    """Return the flaw by OpenSSL's code, or without one (other systems' verifiers) by the certificate."""
    now = datetime.now(UTC)
    if known := _OPENSSL.get(getattr(error, "verify_code", 0)):
        return known
    if peer.not_after and peer.not_after < now:
        return Flaw.EXPIRED
    if peer.not_before and peer.not_before > now:
        return Flaw.NOT_YET_VALID
    if "host" in _message_of(error).lower():
        return Flaw.WRONG_HOST
    if "trusted" in _message_of(error).lower():
        return Flaw.SELF_SIGNED if self_issued else Flaw.UNKNOWN_ISSUER
    return Flaw.OTHER


def _problem(flaw: Flaw, peer: TlsPeer, host: str, error: ssl.SSLCertVerificationError) -> str:
    now = datetime.now(UTC)
    if flaw is Flaw.UNKNOWN_ISSUER:
        return f'was issued by "{peer.issuer}", which this machine does not trust'
    if flaw is Flaw.SELF_SIGNED:
        return f'is self-signed by "{peer.subject}"'
    if flaw is Flaw.EXPIRED:
        if peer.not_after and peer.not_after < now:
            return f"expired on {_date(peer.not_after)}"
        return f'was issued by "{peer.issuer}", and a certificate above it has expired'
    if flaw is Flaw.NOT_YET_VALID and peer.not_before and peer.not_before > now:
        return f"is not valid before {_date(peer.not_before)}"
    if flaw is Flaw.WRONG_HOST:
        names = ", ".join(peer.names[:_MAX_NAMES]) or f'"{peer.subject}"'
        more = len(peer.names) - _MAX_NAMES
        return f"is for {names}{f' and {more} more' if more > 0 else ''}, not for {host}"
    return f"cannot be verified: {_message_of(error)}"


def _flaw_without_certificate(error: ssl.SSLCertVerificationError | None) -> tuple[Flaw | None, str]:
    if error is None:
        return None, ""
    return _OPENSSL.get(
        getattr(error, "verify_code", 0), Flaw.OTHER
    ), f"cannot be verified: {_message_of(error)}"


def _message_of(error: ssl.SSLCertVerificationError) -> str:
    return for_display(getattr(error, "verify_message", "") or str(error))


def _date(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _name(name: Name) -> str:
    """Return ``Common name (Organisation)``, or the part that the name has."""
    from cryptography.x509.oid import NameOID

    def of(oid: object) -> str:
        return next((str(part.value) for part in name if part.oid == oid), "")

    common = of(NameOID.COMMON_NAME) or of(NameOID.ORGANIZATIONAL_UNIT_NAME)
    organisation = of(NameOID.ORGANIZATION_NAME)
    both = f"{common} ({organisation})" if common and organisation else common or organisation
    return shorten(for_display(both or name.rfc4514_string()), _LONGEST_NAME)


def _names(certificate: Certificate) -> Iterable[str]:
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    hosts = found.get_values_for_type(x509.DNSName)
    return [for_display(host) for host in hosts] + [
        str(ip) for ip in found.get_values_for_type(x509.IPAddress)
    ]
