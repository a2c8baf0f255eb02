"""Define the connections of requests, with three kinds of timeouts and verification by host.

Connect, stall and answer timeouts are three things, and requests has two: while a body is sent it applies the
connect timeout to each block as a whole (https://github.com/psf/requests/issues/3099). The connection classes
here apply the stall timeout instead, from the start whenever bytes move.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import logging
import os
import select
import socket
import ssl
import sys
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
from pusher.registry.http.body import BLOCK, LARGEST_BLOCK, FileSlice
from pusher.registry.http.dialing import HappyEyeballsMixin
from pusher.registry.http.happy_eyeballs import AddressForbidden
from pusher.registry.http.proxies import ProxyErrorMixin
from pusher.registry.http.redaction import host_of
from pusher.registry.http.tls import Trust, tls_context
from pusher.registry.http.watchdog import PendingRequest, current_request
from pusher.system import tcp_round_trip, unacknowledged

# its debug lines quote Locations with their secrets; transport.py logs requests
logging.getLogger("urllib3").setLevel(logging.WARNING)

_GRACE: Final = 1.0
"""Seconds after the answer timeout by which the socket's own timeout must have ended the request."""
_WHOLE_ANSWER: Final = 5
"""Stall timeouts within which a body that is kept in memory must arrive."""
_MAX_INTERIM: Final = 100
_MAX_UNSENT: Final = 2 * BLOCK
"""Bytes that wait in the kernel at most: otherwise megabytes that a slow link has yet to carry count as sent,
and the answer timeout starts long before they have arrived."""
_MAX_UNSENT_ON_FAST_LINKS: Final = LARGEST_BLOCK
"""The same while the largest blocks are sent, each in a moment: whenever half of these bytes have left, a
thread wakes up to send more."""
_CAN_LIMIT_UNSENT: Final = hasattr(socket, "TCP_NOTSENT_LOWAT")
_CAN_SEND_FILES: Final = sys.platform == "linux"
_NO_SENDFILE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
"""Errors of ``sendfile`` for files that the system can only read."""
_SOCKETS: Final[dict[str, Any]] = {
    "blocksize": BLOCK,
    "socket_options": [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        *([(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MAX_UNSENT)] if _CAN_LIMIT_UNSENT else []),
    ],
}


class _Response(http.client.HTTPResponse):
    """Skips all interim responses (RFC 9110 15.2), not only 100, up to a limit."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MAX_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == http.client.SWITCHING_PROTOCOLS:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise EndlessResponse(f"more than {_MAX_INTERIM} interim responses")

    def begin(self) -> None:
        super().begin()
        if request := current_request():
            request.response = self

    def read_into(self, buffer: memoryview) -> int:
        """Read into ``buffer`` what has arrived of the body; return the number of bytes, 0 at its end.

        Unlike ``readinto`` it does not wait for the whole buffer to be filled, and loses nothing if the
        connection breaks. Raises OSError, HTTPException.
        """
        if self.fp is None or self.chunked:
            data = self.read1(len(buffer))
            buffer[: len(data)] = data
            return len(data)
        count = self.fp.readinto1(buffer if self.length is None else buffer[: self.length])
        if self.length is not None:
            self.length -= count
            if self.length and not count:
                raise http.client.IncompleteRead(b"", self.length)
        if not count or self.length == 0:
            self.close()
        return count


class EndlessResponse(http.client.HTTPException):
    """The server sent only interim responses."""


class _StallTimeoutMixin:
    """Applies the stall timeout to urllib3's connections."""

    stall_timeout = 60.0
    sock: Any
    proxy: Any
    response_class = _Response
    _responses = 0
    _is_connected = False
    _closes = False
    _most_unsent = _MAX_UNSENT

    def connect(self) -> None:
        """Connect, within the connect timeout, which includes a proxy's answer and the TLS handshake."""
        self._is_connected, self._responses, self._most_unsent = False, 0, _MAX_UNSENT
        super().connect()  # type: ignore[misc]
        self._is_connected = True
        if request := current_request():
            request.wait_at(self.sock)
            self._record_peer(request)

    @property
    def is_connected(self) -> bool:
        """Return whether a kept connection can be used. On one that was never used, what has arrived are
        TLS 1.3's tickets, which urllib3 would take for its end."""
        if self._responses or not isinstance(self.sock, ssl.SSLSocket):
            return bool(super().is_connected)  # type: ignore[misc]
        try:
            with socket.socket(fileno=os.dup(self.sock.fileno())) as raw:
                return bool(raw.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _record_peer(self, request: PendingRequest) -> None:
        if self.proxy is None:
            with contextlib.suppress(OSError):  # it is closed, but its last answer is not read yet
                request.peer_address = str(self.sock.getpeername()[0])
                request.round_trip = tcp_round_trip(self.sock)

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        self._closes = False
        if request := current_request():
            request.reused = self.sock is not None and self._responses > 0
            if self.sock is not None and self.proxy is None:
                self._record_peer(request)
                if request.only_public and is_private(request.peer_address or "localhost"):
                    raise AddressForbidden(errno.EACCES, os.strerror(errno.EACCES))
        super().putrequest(*args, **kwargs)  # type: ignore[misc]

    def putheader(self, header: str, *values: str) -> None:
        self._closes |= header == "Connection" and "close" in values
        super().putheader(header, *values)  # type: ignore[misc]

    def getresponse(self) -> Any:
        """Close the connection after "Connection: close" (RFC 9112 9.6), unlike urllib3."""
        sock = self.sock  # http.client forgets it after the connection's last answer
        request, timeout = current_request(), None if sock is None else sock.gettimeout()
        if request:
            request.wait_at(sock, within=timeout and timeout + _GRACE)
        try:
            response = super().getresponse()  # type: ignore[misc]
        except (OSError, http.client.HTTPException):
            _record_unacknowledged(request, sock)
            raise
        self._responses += 1
        if request:
            request.wait_at(sock, within=_WHOLE_ANSWER * self.stall_timeout)
        if sock is not None:
            sock.settimeout(self.stall_timeout)  # the body may take any time, but must not stall
        if self._closes and self.sock is not None:
            self.sock.close()  # the response keeps it open until it is read
            self.sock = None
        return response

    def send(self, data: bytes | FileSlice) -> None:
        if self.sock is None:
            self.connect()
        if self._is_connected:
            self.sock.settimeout(self.stall_timeout)
        if isinstance(data, FileSlice):
            if _CAN_SEND_FILES and type(self.sock) is socket.socket:
                self._send_file(data)
                return
            data = data.read()
        left, request = memoryview(data), current_request()
        try:
            while left:  # not sendall(): its timeout is for all bytes
                left = left[self.sock.send(left) :]
                if request:
                    request.wait_at(self.sock)
        except OSError as error:
            _record_unacknowledged(request, self.sock, unsent=len(left))
            if not isinstance(error, ssl.SSLEOFError):
                raise
            raise BrokenPipeError from error  # as without TLS: the last answer is not read yet

    def _send_file(self, data: FileSlice) -> None:
        """Have the system send a part of a file, which needs no copy of it."""
        if data.length >= LARGEST_BLOCK:
            self._limit_unsent(_MAX_UNSENT_ON_FAST_LINKS)
        elif data.length <= BLOCK:  # what is between them may be the rest of what is there
            self._limit_unsent(_MAX_UNSENT)
        request, position, end = current_request(), data.start, data.start + data.length
        try:
            while position < end:
                try:
                    count = os.sendfile(self.sock.fileno(), data.fileno(), position, end - position)
                except BlockingIOError:
                    self._wait_for_room()
                    continue
                except OSError as error:
                    data.check_readable(position)
                    if error.errno not in _NO_SENDFILE:
                        raise
                    count = self.sock.send(data.read_block(position, end))
                if count == 0:
                    data.raise_damaged()
                position += count
                if request:
                    request.wait_at(self.sock)
        except OSError:
            _record_unacknowledged(request, self.sock, unsent=end - position)
            raise

    def _limit_unsent(self, count: int) -> None:
        """Let at most ``count`` bytes wait in the kernel."""
        if _CAN_LIMIT_UNSENT and count != self._most_unsent:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, count)
            self._most_unsent = count

    def _wait_for_room(self) -> None:
        """Wait until the connection takes bytes, which is once half of those in the kernel have left.

        Raises TimeoutError if the other side has acknowledged none within the stall timeout.
        """
        poll = select.poll()
        poll.register(self.sock, select.POLLOUT)
        left = unacknowledged(self.sock.fileno())
        while not poll.poll(1000 * self.sock.gettimeout()):
            before, left = left, unacknowledged(self.sock.fileno())
            if left >= before:
                raise TimeoutError("timed out")


def _record_unacknowledged(request: PendingRequest | None, sock: Any, *, unsent: int = 0) -> None:
    """Record the maximum: a system forgets the number after it has reported a reset connection."""
    if request and sock is not None:
        request.unacknowledged = max(request.unacknowledged, unsent + unacknowledged(sock.fileno()))


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
                kwargs["proxy_ssl_context"] = tls_context(self._trust(host), host)
            manager = super().proxy_manager_for(proxy, ssl_context=self._tls, **_SOCKETS, **kwargs)
            manager.pool_classes_by_scheme = _pool_classes(self._stall)
        return self.proxy_manager[proxy]

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:
        """Leave verification to the context; requests would set it again."""
        return super().build_connection_pool_key_attributes(*args, **kwargs)[0], {}

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: requests would add certifi's authorities to the context's."""


def _pool_classes(stall: float) -> dict[str, Any]:
    mixins, limits = (_StallTimeoutMixin, ProxyErrorMixin, HappyEyeballsMixin), {"stall_timeout": stall}
    http = type("_Http", (*mixins, HTTPConnection), limits)
    https = type("_Https", (*mixins, HTTPSConnection), limits)
    return {
        "http": type("_HttpPool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": http}),
        "https": type("_HttpsPool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": https}),
    }


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add no login; requests would take one from the URL."""
    return request


class TimedSession(requests.Session):
    """Ignores the environment, and verifies each https host as ``trust`` returns."""

    def __init__(self, timeouts: Timeouts, trust: Callable[[str], Trust], connections: int) -> None:
        super().__init__()
        self.trust_env = False
        self.auth = _no_auth
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._timeouts = timeouts
        self._trust = trust
        self._connections = connections
        self._lock = threading.Lock()
        self._hosts: dict[str, _Adapter] = {}
        self.adapters.clear()
        self.mount("http://", _Adapter(timeouts, connections, None, trust))

    def get_adapter(self, url: str | bytes) -> Any:
        """Return the adapter of the host: by prefix, as in requests, r.example would match r.example.net.

        Raises CertificateFileUnusable.
        """
        text = str(url)
        if not text.lower().startswith("https://"):
            return super().get_adapter(text)
        host = host_of(text).lower()
        with self._lock:
            if host not in self._hosts:
                trust = self._trust(host)
                if trust.insecure:  # set by the user; urllib3 would warn
                    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
                self._hosts[host] = _Adapter(
                    self._timeouts, self._connections, tls_context(trust, host), self._trust
                )
            return self._hosts[host]

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Return the request with the session's headers. There are no cookies, parameters and hooks to merge,
        for which requests takes as long as for all the rest."""
        prepared = requests.PreparedRequest()
        headers = {**self.headers, **(request.headers or {})}
        prepared.prepare(request.method, request.url, headers, data=request.data, auth=self.auth)
        return prepared

    def merge_environment_settings(self, _url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Return the request's own settings."""
        return {"proxies": proxies, "stream": stream, "verify": verify, "cert": cert}

    def connect_ahead(self, url: str) -> None:
        """Open one more connection to the host of ``url``, and keep it for the next request that needs one.

        Raises urllib3's errors, OSError, CertificateFileUnusable.
        """
        pool = self.get_adapter(url).poolmanager.connection_from_url(url)
        connection = pool._get_conn()
        try:
            if connection.sock is None:
                connection.timeout = self._timeouts.connect
                connection.connect()
        except BaseException:
            connection.close()
            raise
        finally:
            pool._put_conn(connection)

    def forget_certificates(self, host: str) -> None:
        """Read the certificate files of a host again before its next request."""
        with self._lock:
            adapter = self._hosts.pop(host.lower(), None)
        if adapter is not None:
            adapter.close()

    def close(self) -> None:
        super().close()
        with self._lock:
            for adapter in self._hosts.values():
                adapter.close()

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002
        """Return None: requests would read a redirect's whole body and parse its Location."""
        return None
