"""Translate errors of requests, urllib3, ssl and the system to PusherErrors, by cause, not by class."""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3

from pusher.config import Timeouts
from pusher.errors import (
    ClientCertificateRefused,
    ConnectionBroken,
    LocationRefused,
    NotARegistry,
    ProxyFailed,
    ProxyUnusable,
    PusherError,
    RegistryStalled,
    RegistryUnreachable,
    TlsFailed,
)
from pusher.reference import is_loopback
from pusher.registry.http.answer import Answer
from pusher.registry.http.error_pages import page_text
from pusher.registry.http.happy_eyeballs import AddressForbidden, LookupTimeout
from pusher.registry.http.peer_certificate import read_peer
from pusher.registry.http.proxies import Proxy
from pusher.registry.http.redaction import for_display, host_of, shorten
from pusher.registry.http.tls import Trust, inspect_server
from pusher.registry.http.untrusted_certificate import certificate_error

_TLS_STATUSES: Final = frozenset({400, 495, 496, 497})
"""Statuses of refusals because of TLS; nginx logs the last three and sends 400 for them."""
_Kind = TypeVar("_Kind", bound=BaseException)
_INVALID_URL: Final = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    urllib3.exceptions.LocationValueError,
)
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
_TOO_OLD: Final = ("UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "VERSION_TOO_LOW", "WRONG_SSL_VERSION")
_HANDSHAKE_REFUSED: Final = ("HANDSHAKE_FAILURE", "INSUFFICIENT_SECURITY", "UNRECOGNIZED_NAME")
_CLIENT_CERTIFICATE: Final = (
    *("BAD_CERTIFICATE", "UNSUPPORTED_CERTIFICATE", "CERTIFICATE_REVOKED", "CERTIFICATE_EXPIRED"),
    *("CERTIFICATE_UNKNOWN", "UNKNOWN_CA", "ACCESS_DENIED"),
)
"""Parts of OpenSSL's names for the alerts (RFC 8446 6.2) by which a server refuses a client certificate; the
lists above are those by which it refuses the handshake itself."""


class _Causes(list[BaseException]):
    def find(self, *kinds: type[_Kind]) -> _Kind | None:
        return next((cause for cause in self if isinstance(cause, kinds)), None)


def root_cause(error: Exception) -> BaseException | None:
    """Return the operating system's own error; those that wrap it quote the URL with its query."""
    own = (cause for cause in _causes(error) if not isinstance(cause, requests.RequestException))
    return next((cause for cause in own if isinstance(cause, OSError)), None)


def explain(
    error: Exception,
    url: str,
    *,
    trust: Callable[[str], Trust],
    timeouts: Timeouts,
    proxy: Proxy | None = None,
    answered: bool = False,
) -> PusherError:
    """Return the PusherError for the error with which a request to ``url`` ended.

    ``answered``: this host has answered with HTTP before, so the error may be temporary.
    A certificate that cannot be verified is read in another handshake.
    """
    host, causes = host_of(url), _Causes(_causes(error))
    if proxy and causes.find(requests.exceptions.ProxyError, urllib3.exceptions.ProxyError):
        return _proxy_error(causes, proxy, host, trust, timeouts)
    if unverified := causes.find(ssl.SSLCertVerificationError):
        return _certificate_error(unverified, url, trust, timeouts, proxy)
    if (broken := causes.find(ssl.SSLError)) and (found := _tls_error(broken, host, trust(host), answered)):
        return found
    if unreachable := _unreachable_error(causes, host, timeouts):
        return unreachable
    if causes.find(*_INVALID_URL):
        return NotARegistry(f"{host} is not a valid address", hint="check the registry's name")
    if causes.find(requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError):
        return RegistryStalled(f"{host} stopped responding")
    return _http_error(causes, host, answered) or ConnectionBroken(f"the connection to {host} broke")


def _unreachable_error(causes: _Causes, host: str, timeouts: Timeouts) -> PusherError | None:
    """Return the error if no connection was established."""
    if causes.find(AddressForbidden):
        return LocationRefused(
            f"the registry redirects to {host}, which has an address of a private network",
            hint="push to a registry of that network by its own address; otherwise its configuration is "
            "wrong: report it to the registry's administrator",
        )
    if causes.find(LookupTimeout):
        return RegistryUnreachable(
            f"the name of {host} was not resolved within {timeouts.connect:g} s",
            hint="check the network and its name servers",
        )
    if causes.find(urllib3.exceptions.NameResolutionError):
        return RegistryUnreachable(
            f"the name of {host} cannot be resolved",
            hint="check the network and the spelling of the registry's name",
        )
    if causes.find(urllib3.exceptions.NewConnectionError):  # for urllib3 it is a ConnectTimeoutError as well
        refused = causes.find(ConnectionRefusedError)
        return RegistryUnreachable(
            f"{host} {'refuses the connection' if refused else 'cannot be reached'}",
            hint="check the network, the registry's name and its port",
        )
    if causes.find(requests.exceptions.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError):
        return RegistryUnreachable(f"{host} does not respond (timed out)", hint="check the network")
    return None


def tls_refusal(answer: Answer, trust: Trust) -> PusherError | None:
    """Return the error for an answer that refuses a request because of TLS; None for any other."""
    if answer.status not in _TLS_STATUSES:
        return None
    host, text = host_of(answer.url), page_text(answer.body).lower()
    if answer.status == 496 or "no required ssl certificate" in text or "requires client certificate" in text:
        return ClientCertificateRefused(
            f"{host} requires a client certificate, and none is set for it",
            hint=_client_certificate_hint(host, trust),
        )
    if answer.status == 495 or "ssl certificate error" in text:
        return ClientCertificateRefused(
            f"{host} does not accept the client certificate", hint=_client_certificate_hint(host, trust)
        )
    if (
        answer.status == 497 or "http request was sent to https" in text or "http request to an https" in text
    ) and (
        not is_loopback(host)  # https is tried next there
    ):
        return NotARegistry(
            f"{host} speaks TLS, and the request was plain http", hint="leave out --plain-http"
        )
    return None


def _http_error(causes: _Causes, host: str, answered: bool) -> PusherError | None:
    """Return the error for an answer that is not HTTP."""
    if cut := causes.find(http.client.IncompleteRead):
        got = len(cut.partial) if isinstance(cut.partial, bytes) else int(cut.partial)
        total = f" of {got + cut.expected}" if isinstance(cut.expected, int) else ""
        return ConnectionBroken(f"{host} ended its answer after {got}{total} bytes")
    if causes.find(http.client.RemoteDisconnected):
        return None
    line = causes.find(http.client.BadStatusLine)
    if line is None and not causes.find(http.client.HTTPException):
        return None
    said = for_display(str(line.args[0]).strip("'\"")) if line and line.args else ""
    what = f"does not speak HTTP{f' ({_describe_protocol(said)})' if said else ''}"
    if answered:
        return ConnectionBroken(f"{host} {what}, in the middle of a connection")
    return NotARegistry(f"{host} {what}", hint="check the registry's name and its port")


def _describe_protocol(line: str) -> str:
    """Describe the protocol of a server that sends a greeting."""
    if line.startswith("SSH-"):
        return f"it is an SSH server: {shorten(line, 40)}"
    if "mysql" in line.lower() or "mariadb" in line.lower():
        return "it is a MySQL server"
    return shorten(line, 80)


def proxy_login_error(proxy: Proxy, host: str) -> ProxyUnusable:
    """Return the error for a proxy that answers 407."""
    parts = urlsplit(proxy.url)
    what = "does not accept the login that is set for it" if parts.username else "requires a login"
    return ProxyUnusable(
        f"the proxy {proxy} ({proxy.origin}) {what}, so {host} cannot be reached",
        hint=f"set {proxy.origin}={parts.scheme}://USER:PASSWORD@{proxy.host} (special characters as %XX)",
    )


def _certificate_error(
    error: ssl.SSLCertVerificationError,
    url: str,
    trust: Callable[[str], Trust],
    timeouts: Timeouts,
    proxy: Proxy | None,
) -> PusherError:
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        peer = inspect_server(host, parts.port or 443, trust(host_of(url)), timeouts, proxy)
    except (OSError, urllib3.exceptions.HTTPError):
        peer = None
    if peer is None or peer.flaw is None:  # the connection broke, or another server answered
        peer = read_peer("", "", b"", host, verified=False, error=error)
    return certificate_error(host_of(url), peer)


def _client_certificate_hint(host: str, trust: Trust) -> str:
    folder = (trust.certs_dirs[0] if trust.certs_dirs else Path("/etc/docker/certs.d")) / host
    return f"put the certificate and its key there: {folder}/client.cert and client.key"


def _tls_error(error: ssl.SSLError, host: str, trust: Trust, answered: bool) -> PusherError | None:
    """Return the error of a TLS handshake; None if any broken connection can cause it."""
    reason = error.reason or ""
    place = _client_certificate_hint(host, trust)
    if any(name in reason for name in _NOT_TLS):
        return NotARegistry(
            f"{host} does not speak TLS", hint="if it is a registry without TLS, add --plain-http"
        )
    if any(name in reason for name in _TOO_OLD):
        return TlsFailed(f"{host} speaks only versions of TLS that are too old to be safe")
    if "CERTIFICATE_REQUIRED" in reason:
        return ClientCertificateRefused(
            f"{host} requires a client certificate, and none is set for it", hint=place
        )
    why = re.sub(r"^.*ALERT_", "", reason).replace("_", " ").lower()
    if "ALERT" in reason and any(name in reason for name in _CLIENT_CERTIFICATE):
        return ClientCertificateRefused(
            f"{host} does not accept the client certificate, or requires one ({why})", hint=place
        )
    if "ALERT" in reason and any(name in reason for name in _HANDSHAKE_REFUSED):
        return TlsFailed(
            f"{host} refuses the TLS handshake ({why})", hint=f"if it requires a client certificate, {place}"
        )
    if "ALERT" in reason and not answered:
        return TlsFailed(
            f"{host} aborted the TLS handshake ({why})",
            hint="check the registry's name and its port; see the server's log for the reason",
        )
    return None


def _proxy_error(
    causes: _Causes, proxy: Proxy, host: str, trust: Callable[[str], Trust], timeouts: Timeouts
) -> PusherError:
    who = f"the proxy {proxy} ({proxy.origin})"
    past_it = f"if {host} can be reached without it, add {host.partition(':')[0]} to NO_PROXY"
    tunnel = (re.search(r"Tunnel connection failed: (\d{3})", str(cause)) for cause in causes)
    if status := next((int(found[1]) for found in tunnel if found), None):
        if status == 407:
            return proxy_login_error(proxy, host)
        if status < 500:
            return ProxyUnusable(
                f"{who} refuses to connect to {host} ({status})",
                hint=f"ask its owner to allow {host}; {past_it}",
            )
        return ProxyFailed(
            f"{who} cannot connect to {host} ({status})", hint=f"check the registry's name; {past_it}"
        )
    if unverified := causes.find(ssl.SSLCertVerificationError):
        return _certificate_error(unverified, proxy.url, trust, timeouts, None)
    if (broken := causes.find(ssl.SSLError)) and any(name in (broken.reason or "") for name in _NOT_TLS):
        return ProxyUnusable(
            f"{who} does not speak TLS", hint=f"set {proxy.origin}=http://{proxy.host}, with http"
        )
    if causes.find(urllib3.exceptions.NameResolutionError):
        return ProxyFailed(f"the name of {who} cannot be resolved", hint=past_it)
    if causes.find(ConnectionRefusedError):
        return ProxyFailed(f"{who} refuses the connection", hint=f"check its port; {past_it}")
    if causes.find(requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError):
        return ProxyFailed(f"{who} does not respond", hint=past_it)
    return ProxyFailed(f"{who} cannot be reached, or breaks the connection", hint=past_it)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    pending: list[object] = [error]
    while pending:
        current = pending.pop(0)
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        pending += [getattr(current, "reason", None), current.__cause__, current.__context__, *current.args]
