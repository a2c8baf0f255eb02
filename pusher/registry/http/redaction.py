"""What may be shown of a request: never a password, a token, a cookie, or what a Location carries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from pusher.secret import SHORT, without_secrets
from pusher.text import printable

_WORDS: Final = 300
"""Characters of somebody else's text that are shown."""
_LEAST_SECRET: Final = 8
"""Characters; shorter values of a query are none."""
_PUBLIC: Final = frozenset({"digest", "from", "mount", "scope", "service"})
"""Names in a query whose values are known beforehand."""
_LOOKED_AT: Final = 16 * 1024
"""Characters of a text that are looked at, by scanners that take time in proportion to them."""
_RUN: Final = re.compile(r"[^\s\"'<>]+")
_JWT: Final = re.compile(r"\beyJ[\w-]{8,}[\w.-]*")
"""What every JSON web token begins with, ours or not."""
SECRET_HEADER: Final = re.compile(r"(?i)authorization|cookie|token|secret|signature|api-?key|credential")


def host_of(url: str) -> str:
    """``host[:port]`` as it may be shown: a Location may carry a login before it."""
    rest = url[found.end() :] if (found := re.match("[^/]*//", url)) else url
    return re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]


def redacted(url: str) -> str:
    """The URL without its login, its fragment, and the long values of its query."""
    text = re.sub(r"//[^/?#]*@", "//", _bare(url).partition("#")[0])
    path, mark, query = text.partition("?")
    shown = []
    for pair in query.split("&"):
        name, equals, value = pair.partition("=")
        if name not in _PUBLIC and len(value if equals else name) >= _LEAST_SECRET:
            pair = f"{name}=…" if equals else "…"
        shown.append(pair)
    return _printable(path + mark + "&".join(shown))


def redacted_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers for a log."""
    return {name: _header(name, str(value)) for name, value in headers.items()}


def for_people(text: str, url: str = "") -> str:
    """One short printable line of what somebody answered to ``url``, without what an echo of the request
    would give away."""
    text = _bare(text)
    for value in _long_values(url):
        text = text.replace(value, "…").replace(unquote(value), "…")
    text = re.sub(r"\b((?i:basic|bearer)) (?=\S{8})\S[a-z]*[^a-z\s]\S*", r"\1 …", text)
    text = _JWT.sub("…", _without_queries(text))
    return shortened(" ".join(_printable(text).split()), _WORDS)


def one_line(text: str) -> str:
    """``text`` on one printable line, without the secrets in use."""
    return _printable(_bare(text))


def shortened(text: str, limit: int) -> str:
    """``text``, cut at ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _header(name: str, value: str) -> str:
    if name.lower() in ("www-authenticate", "proxy-authenticate"):  # tells what is wanted, not what we have
        return shortened(_printable(_without_queries(_bare(value))), _WORDS)
    if SECRET_HEADER.search(name):
        scheme, space, _ = value.partition(" ")
        return f"{scheme} …" if space and "authorization" in name.lower() else "…"
    if "location" in name.lower():
        return redacted(value)
    return for_people(value)


def _without_queries(text: str) -> str:
    """Without the logins and queries of the URLs in it."""
    return _RUN.sub(_without_query, re.sub(r"//[^/\s]*@", "//", text))


def _without_query(found: re.Match[str]) -> str:
    path, mark, query = found[0].partition("?")
    return f"{path}?…" if mark and "=" in query else found[0]


def _long_values(url: str) -> list[str]:
    """The values of a URL's query that may be secret."""
    pairs = [pair.partition("=") for pair in url.partition("#")[0].partition("?")[2].split("&")]
    return [value for name, _, value in pairs if name not in _PUBLIC and len(value) >= _LEAST_SECRET]


def _bare(text: str) -> str:
    """The beginning of ``text``, which is more than is shown, without the secrets in use."""
    if len(text) <= _LOOKED_AT:
        return without_secrets(text)
    return without_secrets(text[:_LOOKED_AT])[:-SHORT]  # where half a secret may stand


def _printable(text: str) -> str:
    return printable(" ".join(text.split()), 2000)
