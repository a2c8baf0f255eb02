"""Begin to connect to a registry while the command is still being loaded: on a far link that saves the time
of a response."""

from __future__ import annotations

import os
import sys
from typing import Final
from urllib.parse import urlsplit

from pusher.reference import api_host, api_schemes, is_loopback
from pusher.registry.http.happy_eyeballs import dial_early

_CONNECTIONS: Final = 2
"""For the first request, and for ``RegistryEndpoint.connect_ahead``."""
_PORTS: Final = {"http": 80, "https": 443}


def connect_early(registry: str, timeout: float, *, plain_http: bool) -> None:
    """Begin to connect to ``registry``, unless a proxy may be set for it."""
    if not is_loopback(registry) and _may_have_proxy():
        return
    scheme = api_schemes(registry, plain_http=plain_http)[0]
    parts = urlsplit(f"{scheme}://{api_host(registry)}")
    if parts.hostname:
        dial_early(parts.hostname, parts.port or _PORTS[scheme], timeout, _CONNECTIONS)


def _may_have_proxy() -> bool:
    """Return whether ``proxies`` may find a proxy. That module takes longer to load than a response comes."""
    is_set = any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") for name in os.environ)
    return is_set or sys.platform in ("darwin", "win32")  # have system settings
