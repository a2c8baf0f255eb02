"""The connections of requests as a registry needs them: time-outs of three kinds, and trust host by host.

Connect, stall and answer time-outs are three things, and requests knows two: while a body is sent it applies
the connect time-out to each block as a whole (https://github.com/psf/requests/issues/3099). The connection
classes here apply the stall time-out instead, anew whenever bytes move.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from pusher.config import Timeouts
from pusher.registry.http.addresses import is_private
from pusher.registry.http.body import BLOCK
from pusher.registry.http.dialing import Dialled
from pusher.registry.http.happy_eyeballs import AddressForbidden
from pusher.registry.http.proxies import BlamesProxy
from pusher.registry.http.redaction import host_of
from pusher.registry.http.tls import Trust, context
from pusher.registry.http.watchdog import Wait, current
from pusher.system import unacknowledged

# its lines for debugging quote Locations with all that they carry; ours are in transport.py
logging.getLogger("urllib3").setLevel(logging.WARNING)

_GRACE: Final = 1.0
"""Seconds after an answer's time-out in which the socket's own must have ended it."""
_WHOLE_ANSWER: Final = 5
"""Stall time-outs in which the body of an answer that is kept in memory must have come."""
_MOST_INTERIM: Final = 100
_UNSENT: Final = 2 * BLOCK
"""Bytes that wait in the kernel to be sent, at most: else megabytes count as sent that a slow link has yet to
carry, and the answer is due long before they are there."""
_SOCKETS: Final[dict[str, Any]] = {
    "blocksize": BLOCK,
    "socket_options": [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        *(
            [(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)]
            if hasattr(socket, "TCP_NOTSENT_LOWAT")
            else []
        ),
    ],
}


class _Response(http.client.HTTPResponse):
    """Skips every interim answer (RFC 9110 15.2), not 100 alone; so many as no server has reason to send."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MOST_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == http.client.SWITCHING_PROTOCOLS:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise EndlessAnswer(f"more than {_MOST_INTERIM} interim answers")


class EndlessAnswer(http.client.HTTPException):
    """Interim answers, and never one that counts."""


class _StallTimeout:
    """Mixed into urllib3's connections: nothing may stand still for longer than the stall time-out."""

    stall_timeout = 60.0
    sock: Any
    proxy: Any
    response_class = _Response
    _served = 0
    _stands = False
    _last_request = False

    def connect(self) -> None:
        """Until it returns, a proxy's answer and the TLS handshake included, the connect time-out holds."""
        self._stands, self._served = False, 0
        super().connect()  # type: ignore[misc]
        self._stands = True
        if wait := current():
            wait.begin(self.sock)
            self._note_peer(wait)

    def _note_peer(self, wait: Wait) -> None:
        if self.proxy is None:
            with contextlib.suppress(OSError):  # it is gone already: what it said last is still to be read
                wait.peer = str(self.sock.getpeername()[0])

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        self._last_request = False
        if wait := current():
            wait.reused = self.sock is not None and self._served > 0
            if self.sock is not None and self.proxy is None:
                self._note_peer(wait)
                if wait.only_public and is_private(wait.peer or "localhost"):
                    raise AddressForbidden(errno.EACCES, os.strerror(errno.EACCES))
        super().putrequest(*args, **kwargs)  # type: ignore[misc]

    def putheader(self, header: str, *values: str) -> None:
        self._last_request |= header == "Connection" and "close" in values
        super().putheader(header, *values)  # type: ignore[misc]

    def getresponse(self) -> Any:
        """After "Connection: close" nothing more may be sent (RFC 9112 9.6); urllib3 goes by the answer."""
        sock = self.sock  # which http.client forgets where the answer is the connection's last
        wait, timeout = current(), None if sock is None else sock.gettimeout()
        if wait:
            wait.begin(sock, within=timeout and timeout + _GRACE)
        try:
            response = super().getresponse()  # type: ignore[misc]
        except (OSError, http.client.HTTPException):
            _note_unacknowledged(wait, sock)
            raise
        self._served += 1
        if wait:
            wait.begin(sock, within=_WHOLE_ANSWER * self.stall_timeout)
        if sock is not None:
            sock.settimeout(self.stall_timeout)  # the answer has begun; its body may take as long as it moves
        if self._last_request and self.sock is not None:
            self.sock.close()  # the answer keeps it open until it is read
            self.sock = None
        return response

    def send(self, data: bytes) -> None:
        if self.sock is None:
            self.connect()
        if self._stands:
            self.sock.settimeout(self.stall_timeout)
        left, wait = memoryview(data), current()
        try:
            while left:  # not sendall(): its time-out is for everything, however well it moves
                left = left[self.sock.send(left) :]
                if wait:
                    wait.begin(self.sock)
        except OSError as error:
            _note_unacknowledged(wait, self.sock, unsent=len(left))
            if not isinstance(error, ssl.SSLEOFError):
                raise
            raise BrokenPipeError from error  # as without TLS: what was said last is still to be read


def _note_unacknowledged(wait: Wait | None, sock: Any, *, unsent: int = 0) -> None:
    """Record the most that was seen: a system forgets it once it has reported that a connection is reset."""
    if wait and sock is not None:
        wait.unacknowledged = max(wait.unacknowledged, unsent + unacknowledged(sock.fileno()))


class _Adapter(HTTPAdapter):
    """The connections to one https host, or to all plain http ones (``tls`` None)."""

    def __init__(
        self, timeouts: Timeouts, pool: int, tls: ssl.SSLContext | None, trust: Callable[[str], Trust]
    ) -> None:
        self._stall = timeouts.stall
        self._tls = tls
        self._trust = trust
        super().__init__(pool_connections=4, pool_maxsize=pool, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **{"ssl_context": self._tls, **_SOCKETS, **kwargs})
        self.poolmanager.pool_classes_by_scheme = _pool_classes(self._stall)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if proxy not in self.proxy_manager:
            host = host_of(proxy)
            if proxy.lower().startswith("https:"):
                kwargs["proxy_ssl_context"] = context(self._trust(host), host)
            manager = super().proxy_manager_for(proxy, ssl_context=self._tls, **_SOCKETS, **kwargs)
            manager.pool_classes_by_scheme = _pool_classes(self._stall)
        return self.proxy_manager[proxy]

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:
        """How a certificate is verified stands in the context; requests would set it again."""
        return super().build_connection_pool_key_attributes(*args, **kwargs)[0], {}

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Not certifi's authorities as well: requests would add them to the context's."""


def _pool_classes(stall: float) -> dict[str, Any]:
    http = type("_Http", (_StallTimeout, BlamesProxy, Dialled, HTTPConnection), {"stall_timeout": stall})
    https = type("_Https", (_StallTimeout, BlamesProxy, Dialled, HTTPSConnection), {"stall_timeout": stall})
    return {
        "http": type("_HttpPool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": http}),
        "https": type("_HttpsPool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": https}),
    }


def _no_login(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """requests would take a login from the URL; ours come from one place only."""
    return request


class Session(requests.Session):
    """Takes nothing from the environment, and trusts each https host as ``trust`` says."""

    def __init__(self, timeouts: Timeouts, trust: Callable[[str], Trust], connections: int) -> None:
        super().__init__()
        self.trust_env = False
        self.auth = _no_login
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._timeouts = timeouts
        self._trust = trust
        self._connections = connections
        self._lock = threading.Lock()
        self._hosts: dict[str, _Adapter] = {}
        self.adapters.clear()
        self.mount("http://", _Adapter(timeouts, connections, None, trust))

    def get_adapter(self, url: str | bytes) -> Any:
        """By the whole host: by a prefix, as requests does, r.example would be r.example.net as well.

        Raises CertificateFileUnusable.
        """
        text = str(url)
        if not text.lower().startswith("https://"):
            return super().get_adapter(text)
        host = host_of(text).lower()
        with self._lock:
            if host not in self._hosts:
                trust = self._trust(host)
                if trust.insecure:  # urllib3 would say so to everybody, and somebody asked for it
                    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
                self._hosts[host] = _Adapter(
                    self._timeouts, self._connections, context(trust, host), self._trust
                )
            return self._hosts[host]

    def close(self) -> None:
        super().close()
        with self._lock:
            for adapter in self._hosts.values():
                adapter.close()

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002
        """None: requests would read a redirect's whole body and parse its Location, followed or not."""
        return None
