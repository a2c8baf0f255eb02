"""Build the error for a certificate that cannot be verified, with a hint."""

from __future__ import annotations

import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pusher.errors import CertificateUntrusted
from pusher.registry.http.peer_certificate import Flaw, TlsPeer

_INSPECTORS: Final = (
    *(
        "Avast",
        "Barracuda",
        "Bitdefender",
        "Blue Coat",
        "Cato Networks",
        "Check Point",
        "Cisco",
        "Cloudflare",
    ),
    *("ESET", "Forcepoint", "FortiGate", "Fortinet", "iboss", "Kaspersky", "McAfee", "Menlo Security"),
    *("mitmproxy", "Netskope", "Palo Alto", "PortSwigger", "Skyhigh", "Sophos", "Squid", "Symantec"),
    *("Trend Micro", "WatchGuard", "Zscaler"),
)
"""Makers of TLS inspection, by the names of their CAs."""
_BUNDLES: Final = (
    *("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem"),
    *("/etc/pki/tls/cert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
)
"""Where truststore looks besides OpenSSL's paths."""


def certificate_error(host: str, peer: TlsPeer) -> CertificateUntrusted:
    """Return the error for a certificate of ``host`` with a flaw."""
    beside = peer.flaw in (Flaw.EXPIRED, Flaw.NOT_YET_VALID, Flaw.WRONG_HOST, Flaw.OTHER)
    issuer = (
        f' (issued by "{peer.issuer}")' if beside and peer.issuer and peer.issuer not in peer.problem else ""
    )
    return CertificateUntrusted(f"the certificate of {host} {peer.problem}{issuer}", hint=_hint(host, peer))


def find_inspector(issuer: str) -> str:
    """Return the maker of the TLS inspection that issued a certificate; "" if its name is not known."""
    name = issuer.lower()
    if "cloudflare origin" in name:  # a registry behind Cloudflare, reached directly
        return ""
    return next((maker for maker in _INSPECTORS if maker.lower() in name), "")


def _hint(host: str, peer: TlsPeer) -> str:
    if peer.flaw in (Flaw.EXPIRED, Flaw.NOT_YET_VALID):
        return (
            f"check this machine's clock, which says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; "
            "if it is right, the registry's administrator has to renew the certificate"
        )
    if peer.flaw is Flaw.WRONG_HOST:
        return (
            "use a name that the certificate is for; or open a web page first, if this network wants a login "
            "there before it lets anything through"
        )
    if maker := find_inspector(peer.issuer):
        return (
            f"{maker} inspects TLS on this network and puts its own certificate in place of the registry's:\n"
            f"{_how_to_trust('its CA certificate')}"
        )
    if peer.flaw is Flaw.UNKNOWN_ISSUER and not _has_roots():
        return "this machine has no trusted authorities at all: install the package ca-certificates"
    if peer.flaw is Flaw.SELF_SIGNED:
        return (
            "get the registry's certificate from its owner as a PEM file, then add --ca-cert FILE, or copy "
            f"it to /etc/docker/certs.d/{host}/ca.crt\n{_how_to_skip(host)}"
        )
    return (
        "if a VPN or proxy such as Cloudflare WARP or Zscaler replaces certificates here, or the registry "
        f"has a CA of its own:\n{_how_to_trust('the CA certificate')}\n{_how_to_skip(host)}"
    )


def _how_to_skip(host: str) -> str:
    return f"for a test registry only: --insecure {host} skips the check"


def _has_roots() -> bool:
    """Return whether there are trusted authorities; False in a container image without them."""
    if sys.platform == "darwin":
        return True
    paths = ssl.get_default_verify_paths()
    hashed = Path(paths.capath).iterdir() if paths.capath else iter(())
    return bool(paths.cafile) or any(Path(file).exists() for file in _BUNDLES) or any(hashed)


def _how_to_trust(what: str) -> str:
    if sys.platform == "darwin":
        install = "add it to the System keychain"
    elif Path("/etc/pki/ca-trust/source/anchors").is_dir():
        install = "sudo cp FILE /etc/pki/ca-trust/source/anchors/ && sudo update-ca-trust"
    else:
        install = "sudo cp FILE /usr/local/share/ca-certificates/my-ca.crt && sudo update-ca-certificates"
    return f"get {what} as a PEM file, then add --ca-cert FILE\nor install it for every program: {install}"
