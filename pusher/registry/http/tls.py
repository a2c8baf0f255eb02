"""Configure TLS: verify a host's certificate, and read a server's certificate in a handshake."""

from __future__ import annotations

import contextlib
import re
import ssl
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import truststore
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection, ProxyConfig
from urllib3.exceptions import ProxyError
from urllib3.util import parse_url

from pusher.config import Timeouts
from pusher.dataclass import dataclass
from pusher.registry.http.certificates import add_authorities, add_certs_dir
from pusher.registry.http.dialing import HappyEyeballsMixin
from pusher.registry.http.peer_certificate import TlsPeer, read_peer
from pusher.registry.http.proxies import Proxy, ProxyErrorMixin

_HTTPS: Final = 443
_HASHED: Final = re.compile(r"[0-9a-f]{8}\.[0-9]")
"""The name of a certificate in a folder of OpenSSL's."""


@dataclass(frozen=True)
class Trust:
    """How the certificate of one host is verified."""

    ca_cert: Path | None = None
    """PEM file of authorities that are trusted besides the operating system's."""
    insecure: bool = False
    """The certificate is not verified at all."""
    certs_dirs: tuple[Path, ...] = ()
    """``certs.d`` folders of Docker and Podman."""


class _Connection(ProxyErrorMixin, HappyEyeballsMixin, HTTPSConnection):
    """A connection for handshakes only."""


def tls_context(trust: Trust, host: str) -> ssl.SSLContext:
    """Return the TLS context for connections to ``host`` (``host[:port]``).

    Raises CertificateFileUnusable.
    """
    made = _unverified_context() if trust.insecure else _verifying_context()
    if not trust.insecure:
        add_authorities(made, trust.ca_cert)
    add_certs_dir(made, trust.certs_dirs, host)
    return made


def inspect_server(
    host: str, port: int, trust: Trust, timeouts: Timeouts, proxy: Proxy | None = None
) -> TlsPeer:
    """Shake hands with ``host`` (a name or an address, an IPv6 one without brackets) and send nothing.

    A certificate that cannot be verified is read in a second handshake, without a client certificate.
    Raises CertificateFileUnusable, and the errors of urllib3, ssl and the operating system if the handshake
    fails (``network_errors.explain`` handles them).
    """
    name = f"[{host}]" if ":" in host else host
    careful = tls_context(trust, name if port == _HTTPS else f"{name}:{port}")
    proxy_context = tls_context(replace(trust, insecure=False), proxy.host) if proxy else None
    try:
        with _handshake(host, port, careful, timeouts, proxy, proxy_context) as found:
            return read_peer(*found, host, verified=not trust.insecure)
    except ssl.SSLCertVerificationError as failure:
        error = failure
    try:
        with _handshake(host, port, _unverified_context(), timeouts, proxy, proxy_context) as found:
            return read_peer(*found, host, verified=False, error=error)
    except ssl.SSLCertVerificationError as failure:
        raise ProxyError(str(failure), failure) from failure  # only the proxy's certificate is verified here
    except OSError:  # the server requires a client certificate
        return read_peer("", "", b"", host, verified=False, error=error)


def _verifying_context() -> ssl.SSLContext:
    made = _system_context()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    # as Docker does: an authority that the user names need not be a root
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return made


def _system_context() -> ssl.SSLContext:
    """Return a context that trusts the authorities of the operating system.

    truststore loads them again for each connection, 40 ms each time, and one handshake waits for another.
    Where OpenSSL finds them, as truststore would let it, they are loaded once.
    """
    if sys.platform == "linux" and _has_openssl_authorities():
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.set_default_verify_paths()
        return made
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _has_openssl_authorities() -> bool:
    """Return whether there is a certificate where OpenSSL looks for authorities."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile is not None:
        return True
    if paths.capath is None:
        return False
    try:
        return any(_HASHED.fullmatch(path.name) for path in Path(paths.capath).iterdir())
    except OSError:
        return False


def _unverified_context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
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
    proxy_context: ssl.SSLContext | None,
) -> Iterator[tuple[str, str, bytes]]:
    """Yield protocol, cipher, and the server's certificate (DER)."""
    if proxy is None:
        connection = _Connection(host, port, timeout=timeouts.connect, ssl_context=using)
    else:
        url = parse_url(proxy.url)
        connection = _Connection(
            url.host or "",
            url.port or (_HTTPS if url.scheme == "https" else 80),
            timeout=timeouts.connect,
            proxy=url,
            proxy_config=ProxyConfig(proxy_context, False, None, None),
            ssl_context=using,
        )
        connection.set_tunnel(host, port, HTTPAdapter().proxy_headers(proxy.url), scheme=url.scheme or "http")
    try:
        connection.connect()
        sock: Any = connection.sock  # urllib3's own class where TLS runs inside a proxy's TLS
        yield sock.version() or "", (sock.cipher() or ("",))[0], sock.getpeercert(binary_form=True) or b""
    finally:
        connection.close()
