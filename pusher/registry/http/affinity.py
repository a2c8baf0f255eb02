"""Cookies by which a balancer finds the replica that holds an upload's session.

A cookie came with the answer that named the upload's address, and goes back with requests to that upload
alone, on the registry's own host. It is kept in memory by the upload's path. What certainly is no login stays
with the session over a restart: as the fragment of its address, which no request carries (RFC 9110 4.2.5).
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from typing import Final
from urllib.parse import quote, unquote

from pusher.registry.http.answer import Answer
from pusher.registry.http.redaction import SECRET_HEADER
from pusher.secret import note_secret

_COOKIE: Final = re.compile(
    r"""(?:^|,)\s*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64})=(?P<value>"[!#-~]*"|[!#-+\--:<-\[\]-~]*)\s*(?=[;,]|$)"""
)
"""The beginning of each Set-Cookie of several that were joined by commas (RFC 6265 4.1.1)."""
_OF_BALANCERS: Final = re.compile(
    r"AWSALB(?:TG)?(?:CORS)?|AWSELB(?:CORS)?|GCLB|GCILB|ARRAffinity(?:SameSite)?|__cflb|INGRESSCOOKIE|SERVERID"
    r"|SRV|SRVID|ROUTEID|route|sticky|stickounet|lb|BIGipServer.*|Coyote-2-[0-9a-f]+|X-Oracle-BMC-LBS-Route",
    re.IGNORECASE,
)
"""AWS, Google, Azure, Cloudflare, ingress-nginx, HAProxy, Apache, nginx, Traefik, F5, Oracle; their names by
default."""
_MOST_BYTES: Final = 4096
_MOST_COOKIES: Final = 8
_MOST_UPLOADS: Final = 256


class StickyCookies:
    """The cookies of one registry's uploads. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: OrderedDict[str, dict[str, str]] = OrderedDict()

    def header(self, url: str) -> str:
        """The Cookie for a request to an upload, as it is remembered or as ``url`` carries it; or nothing."""
        path, _, kept = url.partition("#")
        with self._lock:
            cookies = self._of.get(path.partition("?")[0])
        if cookies is None:
            cookies = _parsed(unquote(kept))
        return "; ".join(f"{name}={value}" for name, value in cookies.items())

    def learn(self, asked: str, answer: Answer, location: str, *, logged_in: bool) -> str:
        """``asked`` was answered so, and the upload is at ``location`` now. Returns that with the cookies
        that may be stored: a known balancer's, or any where nobody is logged in."""
        old = _parsed(self.header(asked).replace("; ", ","))
        new = _parsed(answer.headers.get("Set-Cookie", ""))
        cookies = {name: value for name, value in {**old, **new}.items() if value}
        cookies = dict(list(cookies.items())[:_MOST_COOKIES])
        if not cookies:
            return location
        for name, value in cookies.items():
            if not _OF_BALANCERS.fullmatch(name):
                note_secret(value, passing=True)
        with self._lock:
            self._of[location.partition("?")[0]] = cookies
            while len(self._of) > _MOST_UPLOADS:
                self._of.popitem(last=False)
        stored = {
            name: value
            for name, value in cookies.items()
            if _OF_BALANCERS.fullmatch(name) or not (logged_in or SECRET_HEADER.search(name))
        }
        kept = ",".join(f"{name}={value}" for name, value in stored.items())
        return f"{location}#{quote(kept, safe='=,')}" if kept else location


def _parsed(text: str) -> dict[str, str]:
    if len(text) > _MOST_BYTES:
        text = text[:_MOST_BYTES].rpartition(",")[0]
    return {found["name"]: found["value"] for found in _COOKIE.finditer(text)}
