"""Check the URLs to which a registry directs requests by locations, redirects and token realms.

There are two rules, as in go-containerregistry (``pkg/v1/remote/write.go`` nextLocation,
``transport/bearer.go`` validateRealmURL): never from https to http, and never from a public registry to a
private address. Otherwise a hostile registry could make this machine send requests to others of its network,
or to a cloud's metadata service. Names are not resolved here: ``Transport.send`` checks the address of the
connection itself, since a name may resolve to another address the next time.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import urljoin, urlsplit

from urllib3.util import parse_url

from pusher.dataclass import dataclass
from pusher.errors import LocationRefused, PlainHttpRefused, RegistryRefused
from pusher.reference import api_host
from pusher.registry.http.addresses import is_private
from pusher.registry.http.answer import Answer

_AUTHORITY: Final = r"(?i)[a-z]+://[!-.0->@-\[\]-~]+(?:[/?#]|$)"
"""Scheme and host in printable ASCII without a backslash, on which URL parsers disagree."""

_ORIGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\\/?#]*")
"""What of a URL names the host, as urllib3 splits it; the rest, which takes longer to parse, does not."""

_MAX_LENGTH: Final = 16 * 1024
"""Characters of a URL: storage backends sign some of 2,000."""


@dataclass(frozen=True)
class Origin:
    """The host of a registry, by any URL there. Checks the URLs that the registry names."""

    registry: str
    url: str

    def is_same_host(self, url: str) -> bool:
        """Return whether a URL is on this host. The login is sent to no other."""
        return _host_parts(url) == _host_parts(self.url)

    def resolve_location(self, answer: Answer) -> str | None:
        """Return the absolute URL of an upload's Location, its query unchanged; None without one.

        Raises RegistryRefused, PlainHttpRefused, LocationRefused.
        """
        value = answer.headers.get("Location")
        if not value:
            return None
        url = self._with_port(self._resolve(answer.url, value))
        if self._leaves_tls(url):
            if _host_parts(url)[1] != _host_parts(self.url)[1]:
                raise PlainHttpRefused(
                    f"{self.registry} redirects the upload to {_host_parts(url)[1]} over plain HTTP",
                    hint="check the registry's configuration",
                )
            # a registry that does not know of the TLS proxy in front of it
            url = urlsplit(url)._replace(scheme="https", netloc=urlsplit(self.url).netloc).geturl()
        return self._check_not_private(url, "the upload")

    def resolve_redirect(self, answer: Answer) -> str:
        """Return the target of a redirect. Raises RegistryRefused, PlainHttpRefused, LocationRefused."""
        url = self._resolve(answer.url, answer.headers.get("Location", ""))
        if self._leaves_tls(url):
            raise PlainHttpRefused(
                f"{self.registry} redirects from https to plain http",
                hint="check the registry's name and the configuration of the proxy in front of it",
            )
        return self._check_not_private(url, "a request")

    def resolve_realm(self, value: str) -> str:
        """Return the URL of the token server. Raises RegistryRefused, LocationRefused."""
        url = self._resolve(self.url, value)
        if self._leaves_tls(url):
            raise LocationRefused(
                f"{self.registry} redirects the login to {_host_parts(url)[1]} over plain HTTP",
                hint="the registry's token server must use https; report it to the registry's administrator",
            )
        return self._check_not_private(url, "the login")

    def _resolve(self, base: str, value: str) -> str:
        """Return the absolute URL of a reference (RFC 3986 5)."""
        if len(value) > _MAX_LENGTH:
            raise RegistryRefused(
                f"{self.registry} sent a location of {len(value)} characters",
                hint="check the configuration of the registry and of the proxy in front of it",
            )
        try:
            url = urljoin(base, value)
            if re.match(_AUTHORITY, url) and _host_parts(url)[0] in ("http", "https"):
                return url
        except ValueError:  # invalid brackets or port
            pass
        raise RegistryRefused(
            f"{self.registry} sent a location that is not an http URL",
            hint="check the configuration of the registry and of the proxy in front of it",
        )

    def _with_port(self, url: str) -> str:
        """Add the port that a proxy drops from the Host header, by which the registry writes its Locations
        (nginx: ``proxy_set_header Host $host`` instead of ``$http_host``)."""
        ours, given = urlsplit(self.url), urlsplit(url)
        lost = ours.port is not None and given.port is None
        if lost and (given.scheme, given.hostname) == (ours.scheme, ours.hostname):
            return given._replace(netloc=ours.netloc).geturl()
        return url

    def _leaves_tls(self, url: str) -> bool:
        return _host_parts(self.url)[0] == "https" and _host_parts(url)[0] != "https"

    def _check_not_private(self, url: str, what: str) -> str:
        host = _host_parts(url)[1]
        if is_private(host) and not is_private(_host_parts(f"https://{api_host(self.registry)}")[1]):
            raise LocationRefused(
                f"{self.registry} redirects {what} to {host}, which is an address of a private network",
                hint="push to a registry of that network by its own address; otherwise its configuration is "
                "wrong: report it to the registry's administrator",
            )
        return url


def _host_parts(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host in lower case and port, by the parser that the connection uses."""
    origin = _ORIGIN.match(url)
    return _parse_origin(url if origin is None else origin[0])


@lru_cache(maxsize=256)
def _parse_origin(url: str) -> tuple[str, str, int | None]:
    parts = parse_url(url)
    scheme = parts.scheme or ""
    return scheme, parts.host or "", parts.port or {"http": 80, "https": 443}.get(scheme)
