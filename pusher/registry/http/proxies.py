"""The proxy on the way to an address, as HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY name it."""

from __future__ import annotations

import ipaddress
import os
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote, urlsplit

from urllib3.exceptions import HTTPError, ProxyError

from pusher.errors import ProxyUnusable
from pusher.reference import is_loopback
from pusher.registry.http.redaction import host_of
from pusher.secret import note_secret


@dataclass(frozen=True)
class Proxy:
    """An HTTP or HTTPS proxy; ``str()`` is its address without the login."""

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
        """``host[:port]``."""
        return host_of(self.url)


class BlamesProxy:
    """Mixed into urllib3's connections: until the tunnel stands, whatever goes wrong is the proxy's doing.

    Raises urllib3's ProxyError for it; urllib3 itself often blames the registry.
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
    """The proxy to use for ``url``; None: go there directly. This machine is never reached through one.

    Raises ProxyUnusable if what is named is none that pusher can use.
    """
    if is_loopback(host_of(url)) or _excepted(url):
        return None
    proxies = urllib.request.getproxies()
    for kind in (urlsplit(url).scheme, "all"):
        if value := proxies.get(kind, "").strip():
            return _checked(value, _origin(kind), host_of(url))
    return None


def _checked(value: str, origin: str, host: str) -> Proxy:
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
    what = f"a proxy that speaks {scheme.upper()}" if socks else "no address of a proxy"
    raise ProxyUnusable(
        f"{origin} names {what}, so there is no way to {host}",
        hint=f"set it to http://HOST:PORT of an HTTP proxy, or add {host} to NO_PROXY",
    )


def _origin(kind: str) -> str:
    names = (f"{kind}_proxy", f"{kind}_PROXY".upper())
    return next((name for name in names if os.environ.get(name)), "the system's proxy settings")


def _excepted(url: str) -> bool:
    """NO_PROXY: names with or without ports, with or without a leading dot, ``*.name``, addresses, networks,
    ``*`` (golang.org/x/net/http/httpproxy; urllib knows neither networks nor ``*.``)."""
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
