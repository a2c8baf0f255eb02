"""Whom we believe to be a registry: the TLS context for a host, and a look at who answers there."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import truststore
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection, ProxyConfig
from urllib3.exceptions import ProxyError
from urllib3.util import parse_url

from pusher.config import Timeouts
from pusher.registry.http.certificates import add_authorities, add_certs_dir
from pusher.registry.http.dialing import Dialled
from pusher.registry.http.peer_certificate import TlsPeer, peer_of
from pusher.registry.http.proxies import BlamesProxy, Proxy

_HTTPS: Final = 443


@dataclass(frozen=True)
class Trust:
    """How the certificate of one host is verified."""

    ca_cert: Path | None = None
    """PEM file of authorities that are trusted besides the operating system's."""
    insecure: bool = False
    """The certificate is not verified at all."""
    certs_dirs: tuple[Path, ...] = ()
    """``certs.d`` folders of Docker and Podman."""


class _Connection(BlamesProxy, Dialled, HTTPSConnection):
    """Never used for a request."""


def context(trust: Trust, host: str) -> ssl.SSLContext:
    """The TLS context for connections to ``host`` (``host[:port]``).

    Raises CertificateFileUnusable.
    """
    made = _careless() if trust.insecure else _careful()
    if not trust.insecure:
        add_authorities(made, trust.ca_cert)
    add_certs_dir(made, trust.certs_dirs, host)
    return made


def inspect(host: str, port: int, trust: Trust, timeouts: Timeouts, proxy: Proxy | None = None) -> TlsPeer:
    """Shake hands with ``host`` (a name or an address, an IPv6 one without brackets) and send nothing.

    A certificate that cannot be verified is looked at in a second handshake, without a client certificate.
    Raises CertificateFileUnusable, and what urllib3, ssl and the operating system raise where no handshake
    comes about (``faults.explain`` knows them).
    """
    name = f"[{host}]" if ":" in host else host
    careful = context(trust, name if port == _HTTPS else f"{name}:{port}")
    of_proxy = context(replace(trust, insecure=False), proxy.host) if proxy else None
    try:
        with _handshake(host, port, careful, timeouts, proxy, of_proxy) as found:
            return peer_of(*found, host, verified=not trust.insecure)
    except ssl.SSLCertVerificationError as failure:
        error = failure
    try:
        with _handshake(host, port, _careless(), timeouts, proxy, of_proxy) as found:
            return peer_of(*found, host, verified=False, error=error)
    except ssl.SSLCertVerificationError as failure:
        raise ProxyError(str(failure), failure) from failure  # nothing else is verified by now
    except OSError:  # without a client certificate not even this one is let through
        return peer_of("", "", b"", host, verified=False, error=error)


def _careful() -> ssl.SSLContext:
    made = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    # as Docker does: an authority that somebody names need not be a root
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return made


def _careless() -> ssl.SSLContext:
    made = _careful()
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


@contextlib.contextmanager
def _handshake(
    host: str,
    port: int,
    using: ssl.SSLContext,
    timeouts: Timeouts,
    proxy: Proxy | None,
    of_proxy: ssl.SSLContext | None,
) -> Iterator[tuple[str, str, bytes]]:
    """Protocol, cipher, and the server's certificate (DER)."""
    if proxy is None:
        connection = _Connection(host, port, timeout=timeouts.connect, ssl_context=using)
    else:
        url = parse_url(proxy.url)
        connection = _Connection(
            url.host or "",
            url.port or (_HTTPS if url.scheme == "https" else 80),
            timeout=timeouts.connect,
            proxy=url,
            proxy_config=ProxyConfig(of_proxy, False, None, None),
            ssl_context=using,
        )
        connection.set_tunnel(host, port, HTTPAdapter().proxy_headers(proxy.url), scheme=url.scheme or "http")
    try:
        connection.connect()
        sock: Any = connection.sock  # urllib3's own class where TLS runs inside a proxy's TLS
        yield sock.version() or "", (sock.cipher() or ("",))[0], sock.getpeercert(binary_form=True) or b""
    finally:
        connection.close()
