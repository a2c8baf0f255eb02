"""Find the proxy for a URL, by HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY."""

from __future__ import annotations

import ipaddress
import os
import urllib.request
from dataclasses import field
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote, urlsplit

from urllib3.exceptions import HTTPError, ProxyError

from pusher.dataclass import dataclass
from pusher.errors import ProxyUnusable
from pusher.reference import is_loopback
from pusher.registry.http.redaction import host_of
from pusher.secret import note_secret


@dataclass(frozen=True)
class Proxy:
    """An HTTP or HTTPS proxy; ``str()`` is its URL without the login."""

    url: str = field(repr=False)
    """May carry a login."""
    origin: str
    """The variable that names it, or "the system's settings"."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        note_secret(parts.password)
        note_secret(unquote(parts.password or ""), username=unquote(parts.username or ""))

    def __str__(self) -> str:
        return f"{urlsplit(self.url).scheme}://{host_of(self.url)}"

    @property
    def host(self) -> str:
        """Return ``host[:port]``."""
        return host_of(self.url)


class ProxyErrorMixin:
    """Makes urllib3's connections raise ProxyError for all errors until the tunnel is established.

    urllib3 itself often raises errors of the registry instead.
    """

    proxy: Any

    def _new_conn(self) -> Any:
        try:
            return super()._new_conn()  # type: ignore[misc]
        except HTTPError as error:
            if self.proxy is None:
                raise
            raise ProxyError(str(error), error) from error

    def _tunnel(self) -> None:
        try:
            super()._tunnel()  # type: ignore[misc]
        except (OSError, HTTPException) as error:
            raise ProxyError(str(error), error) from error


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy for ``url``; None: connect directly, as always to this machine.

    Raises ProxyUnusable if pusher cannot use the proxy that is set.
    """
    if is_loopback(host_of(url)) or _is_excepted(url):
        return None
    proxies = urllib.request.getproxies()
    for kind in (urlsplit(url).scheme, "all"):
        if value := proxies.get(kind, "").strip():
            return _parse_proxy(value, _variable_of(kind), host_of(url))
    return None


def _parse_proxy(value: str, origin: str, host: str) -> Proxy:
    url = value if "://" in value else f"http://{value}"
    scheme = url.partition(":")[0].lower()
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname and (parts.port is None or parts.port))
    except ValueError:
        usable = False
    if scheme in ("http", "https") and usable:
        return Proxy(url, origin)
    socks = usable and scheme.startswith("socks")
    what = f"a proxy that speaks {scheme.upper()}" if socks else "something that is not the URL of a proxy"
    raise ProxyUnusable(
        f"{origin} names {what}, so {host} cannot be reached",
        hint=f"set it to http://HOST:PORT of an HTTP proxy, or add {host} to NO_PROXY",
    )


def _variable_of(kind: str) -> str:
    names = (f"{kind}_proxy", f"{kind}_PROXY".upper())
    return next((name for name in names if os.environ.get(name)), "the system's proxy settings")


def _is_excepted(url: str) -> bool:
    """Return whether NO_PROXY lists the host: by names with or without ports, with or without a leading dot,
    ``*.name``, addresses, networks, ``*`` (golang.org/x/net/http/httpproxy; urllib supports neither networks
    nor ``*.``)."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    if urllib.request.proxy_bypass(f"{host}:{port}"):
        return True
    entries = urllib.request.getproxies_environment().get("no", "").split(",")
    return any(_matches(entry.strip().lower(), host) for entry in entries)


def _matches(entry: str, host: str) -> bool:
    if entry.startswith("*."):
        return host.endswith(entry[1:])
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return False
