"""Where a registry may send us. Locations, redirects and token realms are its words, not always its own host.

Two rules guard them, both as go-containerregistry has them (``pkg/v1/remote/write.go`` nextLocation,
``transport/bearer.go`` validateRealmURL): from https never to http, and from a registry of the internet never
to an address that is none of the internet: a hostile registry could have this machine send requests to
others of its network, or to a cloud's metadata service. Names are not looked up for it: the connection's own
address is judged as well (``Transport.send``), for what one look-up answers says nothing of the next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin, urlsplit

from urllib3.util import parse_url

from pusher.errors import LocationRefused, PlainHttpRefused, RegistryRefused
from pusher.reference import api_host
from pusher.registry.http.addresses import is_private
from pusher.registry.http.answer import Answer

_AUTHORITY: Final = re.compile(r"[a-z]+://[!-.0->@-\[\]-~]+(?:[/?#]|$)", re.IGNORECASE)
"""Scheme and host in printable ASCII without a backslash, about which parsers of addresses disagree."""

_LONGEST: Final = 16 * 1024
"""Characters of an address: storages sign some of 2,000."""


@dataclass(frozen=True)
class Origin:
    """The host that a registry is, by any URL there; and the judge of all others it names."""

    registry: str
    url: str

    def holds(self, url: str) -> bool:
        """Whether a URL is on this very host: the login goes there, and to no other."""
        return _parts(url) == _parts(self.url)

    def location(self, answer: Answer) -> str | None:
        """The absolute URL that an answer's Location means for an upload, its query as given, if it has one.

        Raises RegistryRefused, PlainHttpRefused, LocationRefused.
        """
        value = answer.headers.get("Location")
        if not value:
            return None
        url = self._with_port(self._resolve(answer.url, value))
        if self._leaves_tls(url):
            if _parts(url)[1] != _parts(self.url)[1]:
                raise PlainHttpRefused(
                    f"{self.registry} wants the upload to go to {_parts(url)[1]} over plain http",
                    hint="check the registry's configuration",
                )
            # a registry behind a TLS proxy that does not tell it so
            url = urlsplit(url)._replace(scheme="https", netloc=urlsplit(self.url).netloc).geturl()
        return self._admit(url, "the upload")

    def redirect(self, answer: Answer) -> str:
        """The target of a redirect. Raises RegistryRefused, PlainHttpRefused, LocationRefused."""
        url = self._resolve(answer.url, answer.headers.get("Location", ""))
        if self._leaves_tls(url):
            raise PlainHttpRefused(
                f"{self.registry} redirects from https to plain http",
                hint="check the registry's name and its front's configuration",
            )
        return self._admit(url, "a request")

    def realm(self, value: str) -> str:
        """The address of the token server. Raises RegistryRefused, LocationRefused."""
        url = self._resolve(self.url, value)
        if self._leaves_tls(url):
            raise LocationRefused(
                f"{self.registry} wants the login to go to {_parts(url)[1]} over plain http",
                hint="the registry's token server must be reached by https; tell the registry's owner",
            )
        return self._admit(url, "the login")

    def _resolve(self, base: str, value: str) -> str:
        """RFC 3986 5."""
        if len(value) > _LONGEST:
            raise RegistryRefused(
                f"{self.registry} gave a location of {len(value)} characters",
                hint="check the configuration of the registry and of the proxy in front of it",
            )
        try:
            url = urljoin(base, value)
            if _AUTHORITY.match(url) and _parts(url)[0] in ("http", "https"):
                return url
        except ValueError:  # brackets or a port that make no sense
            pass
        raise RegistryRefused(
            f"{self.registry} gave a location that is no http address",
            hint="check the configuration of the registry and of the proxy in front of it",
        )

    def _with_port(self, url: str) -> str:
        """With the port that a front lost on the way to the registry, by whose Host it writes its Locations
        (nginx: ``proxy_set_header Host $host`` in place of ``$http_host``)."""
        ours, given = urlsplit(self.url), urlsplit(url)
        lost = ours.port is not None and given.port is None
        if lost and (given.scheme, given.hostname) == (ours.scheme, ours.hostname):
            return given._replace(netloc=ours.netloc).geturl()
        return url

    def _leaves_tls(self, url: str) -> bool:
        return _parts(self.url)[0] == "https" and _parts(url)[0] != "https"

    def _admit(self, url: str, what: str) -> str:
        host = _parts(url)[1]
        if is_private(host) and not is_private(_parts(f"https://{api_host(self.registry)}")[1]):
            raise LocationRefused(
                f"{self.registry} wants {what} to go to {host}, which is an address of a private network",
                hint="push to a registry of that network by its own address; else tell the registry's owner, "
                "its configuration is wrong",
            )
        return url


def _parts(url: str) -> tuple[str, str, int | None]:
    """Scheme, host in lower case and port, read by the parser that the connection will go by."""
    parts = parse_url(url)
    scheme = parts.scheme or ""
    return scheme, parts.host or "", parts.port or {"http": 80, "https": 443}.get(scheme)
