"""Keep cookies by which a load balancer finds the replica with an upload's session.

The cookies that come with an upload's location are sent back with requests to that upload only, on the
registry's own host. They are kept in memory by the path of the upload. A cookie that cannot be a login also
survives a restart: in the fragment of the location, which no request contains (RFC 9110 4.2.5).
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
"""The start of each Set-Cookie of several that are joined by commas (RFC 6265 4.1.1)."""
_BALANCER_COOKIES: Final = (
    r"(?i)AWSALB(?:TG)?(?:CORS)?|AWSELB(?:CORS)?|GCLB|GCILB|ARRAffinity(?:SameSite)?|__cflb|INGRESSCOOKIE|SERVERID"
    r"|SRV|SRVID|ROUTEID|route|sticky|stickounet|lb|BIGipServer.*|Coyote-2-[0-9a-f]+|X-Oracle-BMC-LBS-Route"
)
"""Default names of AWS, Google, Azure, Cloudflare, ingress-nginx, HAProxy, Apache, nginx, Traefik, F5,
Oracle."""
_MAX_BYTES: Final = 4096
_MAX_COOKIES: Final = 8
_MAX_UPLOADS: Final = 256


class StickyCookies:
    """The cookies of one registry's uploads. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_path: OrderedDict[str, dict[str, str]] = OrderedDict()

    def header(self, url: str) -> str:
        """Return the Cookie header for a request to an upload: recorded, or from the fragment of ``url``."""
        path, _, kept = url.partition("#")
        with self._lock:
            cookies = self._by_path.get(path.partition("?")[0])
        if cookies is None:
            cookies = _parse_cookies(unquote(kept))
        return "; ".join(f"{name}={value}" for name, value in cookies.items())

    def record(self, asked: str, answer: Answer, location: str, *, logged_in: bool) -> str:
        """Record the cookies of an answer to ``asked`` for the upload, which is now at ``location``. Return
        ``location`` with those that may be stored: a known load balancer's, or any without a login."""
        old = _parse_cookies(self.header(asked).replace("; ", ","))
        new = _parse_cookies(answer.headers.get("Set-Cookie", ""))
        cookies = {name: value for name, value in {**old, **new}.items() if value}
        cookies = dict(list(cookies.items())[:_MAX_COOKIES])
        if not cookies:
            return location
        for name, value in cookies.items():
            if not re.fullmatch(_BALANCER_COOKIES, name):
                note_secret(value, passing=True)
        with self._lock:
            self._by_path[location.partition("?")[0]] = cookies
            while len(self._by_path) > _MAX_UPLOADS:
                self._by_path.popitem(last=False)
        stored = {
            name: value
            for name, value in cookies.items()
            if re.fullmatch(_BALANCER_COOKIES, name) or not (logged_in or SECRET_HEADER.search(name))
        }
        kept = ",".join(f"{name}={value}" for name, value in stored.items())
        return f"{location}#{quote(kept, safe='=,')}" if kept else location


def _parse_cookies(text: str) -> dict[str, str]:
    if len(text) > _MAX_BYTES:
        text = text[:_MAX_BYTES].rpartition(",")[0]
    return {found["name"]: found["value"] for found in _COOKIE.finditer(text)}
