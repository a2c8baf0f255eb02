"""Redact requests for display: remove passwords, tokens, cookies, and the secrets in Locations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from pusher.secret import SHORT, redact_secrets
from pusher.text import printable

_MAX_SHOWN: Final = 300
"""Characters of a foreign text that are shown."""
_MIN_SECRET: Final = 8
"""Characters; shorter values of a query are not secret."""
_PUBLIC: Final = frozenset({"digest", "from", "mount", "scope", "service"})
"""Parameters of a query whose values are not secret."""
_MAX_READ: Final = 16 * 1024
"""Characters of text that are scanned, in linear time."""
_RUN: Final = re.compile(r"[^\s\"'<>]+")
_JWT: Final = re.compile(r"\beyJ[\w-]{8,}[\w.-]*")
"""The start of every JSON web token."""
SECRET_HEADER: Final = re.compile(r"(?i)authorization|cookie|token|secret|signature|api-?key|credential")


def host_of(url: str) -> str:
    """Return ``host[:port]`` of a URL, without the login that a Location may have."""
    rest = url[found.end() :] if (found := re.match("[^/]*//", url)) else url
    return re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]


def redact(url: str) -> str:
    """Return the URL without its login, its fragment, and the long values of its query."""
    text = re.sub(r"//[^/?#]*@", "//", _without_secrets(url).partition("#")[0])
    path, mark, query = text.partition("?")
    shown = []
    for pair in query.split("&"):
        name, equals, value = pair.partition("=")
        if name not in _PUBLIC and len(value if equals else name) >= _MIN_SECRET:
            pair = f"{name}=…" if equals else "…"
        shown.append(pair)
    return _printable(path + mark + "&".join(shown))


def redact_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers for a log."""
    return {name: _redact_header(name, str(value)) for name, value in headers.items()}


def for_display(text: str, url: str = "") -> str:
    """Return a foreign answer to ``url`` as one short printable line, without the secrets that an echo of the
    request would reveal."""
    text = _without_secrets(text)
    for value in _long_values(url):
        text = text.replace(value, "…").replace(unquote(value), "…")
    text = re.sub(r"\b((?i:basic|bearer)) (?=\S{8})\S[a-z]*[^a-z\s]\S*", r"\1 …", text)
    text = _JWT.sub("…", _without_queries(text))
    return shorten(" ".join(_printable(text).split()), _MAX_SHOWN)


def one_line(text: str) -> str:
    """Return ``text`` on one printable line, without the secrets in use."""
    return _printable(_without_secrets(text))


def shorten(text: str, limit: int) -> str:
    """Return ``text``, cut at ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _redact_header(name: str, value: str) -> str:
    if name.lower() in ("www-authenticate", "proxy-authenticate"):  # it names a scheme, not a secret
        return shorten(_printable(_without_queries(_without_secrets(value))), _MAX_SHOWN)
    if SECRET_HEADER.search(name):
        scheme, space, _ = value.partition(" ")
        return f"{scheme} …" if space and "authorization" in name.lower() else "…"
    if "location" in name.lower():
        return redact(value)
    return for_display(value)


def _without_queries(text: str) -> str:
    """Return ``text`` without the logins and queries of its URLs."""
    return _RUN.sub(_without_query, re.sub(r"//[^/\s]*@", "//", text))


def _without_query(found: re.Match[str]) -> str:
    path, mark, query = found[0].partition("?")
    return f"{path}?…" if mark and "=" in query else found[0]


def _long_values(url: str) -> list[str]:
    """Return the values of a URL's query that may be secret."""
    pairs = [pair.partition("=") for pair in url.partition("#")[0].partition("?")[2].split("&")]
    return [value for name, _, value in pairs if name not in _PUBLIC and len(value) >= _MIN_SECRET]


def _without_secrets(text: str) -> str:
    """Return the start of ``text``, more than is shown, without the secrets in use."""
    if len(text) <= _MAX_READ:
        return redact_secrets(text)
    return redact_secrets(text[:_MAX_READ])[:-SHORT]  # half a secret may be at the cut


def _printable(text: str) -> str:
    return printable(" ".join(text.split()), 2000)
