"""One HTTP request to a registry: connections, time-outs, and what went wrong in our words.

Connect, stall and answer time-outs are three things, and requests knows two: while a body is sent it applies
the connect time-out to each block as a whole (https://github.com/psf/requests/issues/3099). The connection
classes here apply the stall time-out instead, anew whenever bytes move.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection

import pusher
from pusher.config import Timeouts
from pusher.errors import (
    CertificateUntrusted,
    ConnectionBroken,
    NotARegistry,
    PusherError,
    RegistryStalled,
    RegistryUnreachable,
)
from pusher.registry.body import BLOCK, Body
from pusher.registry.tls import Trust, context

ANSWER_LIMIT = 4 * 1024 * 1024
"""Bytes of an answer that are read at most: nothing that a push asks for is larger."""
_NO_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    urllib3.exceptions.LocationValueError,
)


@dataclass(frozen=True)
class Answer:
    """What a registry answered. ``url`` is the one asked, after redirects."""

    method: str
    url: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def ok(self) -> bool:
        """A status of 2xx."""
        return 200 <= self.status < 300


class _StallTimeout:
    """Mixed into urllib3's connections: nothing may stand still for longer than the stall time-out."""

    stall_timeout = 60.0
    sock: Any
    connect: Any
    _last_request = False

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        self._last_request = False
        super().putrequest(*args, **kwargs)  # type: ignore[misc]

    def putheader(self, header: str, *values: str) -> None:
        self._last_request |= header == "Connection" and "close" in values
        super().putheader(header, *values)  # type: ignore[misc]

    def getresponse(self) -> Any:
        """After "Connection: close" nothing more may be sent (RFC 9112 9.6); urllib3 goes by the answer."""
        response = super().getresponse()  # type: ignore[misc]
        if self._last_request and self.sock is not None:
            self.sock.close()  # the answer keeps it open until it is read
            self.sock = None
        return response

    def send(self, data: bytes) -> None:
        if self.sock is None:
            self.connect()
        self.sock.settimeout(self.stall_timeout)
        left = memoryview(data)
        while left:  # not sendall(): its time-out is for everything, however well it moves
            left = left[self.sock.send(left) :]


class _Adapter(HTTPAdapter):
    def __init__(self, timeouts: Timeouts, context: ssl.SSLContext, pool: int) -> None:
        self._stall = timeouts.stall
        self._context = context
        super().__init__(pool_connections=4, pool_maxsize=pool, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, blocksize=BLOCK, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pool_classes(self._stall)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, ssl_context=self._context, blocksize=BLOCK, **kwargs)
        manager.pool_classes_by_scheme = _pool_classes(self._stall)
        return manager


def _pool_classes(stall: float) -> dict[str, Any]:
    http = type("_Http", (_StallTimeout, HTTPConnection), {"stall_timeout": stall})
    https = type("_Https", (_StallTimeout, HTTPSConnection), {"stall_timeout": stall})
    return {
        "http": type("_HttpPool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": http}),
        "https": type("_HttpsPool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": https}),
    }


def _without_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """requests would take a login from ~/.netrc for any host; ours come from one place only."""
    return request


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002
        """None: requests would read a redirect's whole body and parse its Location, followed or not."""
        return None


class Transport:
    """Sends requests; knows nothing of authentication or of the distribution API. Thread-safe."""

    def __init__(
        self,
        timeouts: Timeouts,
        *,
        trust: Callable[[str], Trust] = lambda host: Trust(),  # noqa: ARG005
        connections: int = 8,
    ) -> None:
        self._timeouts = timeouts
        self._session = _Session()
        self._session.auth = _without_netrc
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = _Adapter(timeouts, context(trust(""), ""), connections)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        # identity: serverless-registry loses Content-Length when it compresses
        # (https://github.com/cloudflare/serverless-registry/issues/134)
        self._session.headers = CaseInsensitiveDict(
            {"User-Agent": f"pusher/{pusher.__version__}", "Accept-Encoding": "identity", "Accept": "*/*"}
        )

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | bytes | None = None,
        answer_timeout: float | None = None,
    ) -> Answer:
        """Send one request, follow no redirect, read the answer.

        Raises RegistryUnreachable, ConnectionBroken, RegistryStalled, CertificateUntrusted or NotARegistry;
        any status is an Answer.
        """
        timeout = (self._timeouts.connect, answer_timeout or self._timeouts.answer)
        try:
            with self._session.request(
                method,
                url,
                headers=headers,
                data=body,
                timeout=timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                content = response.raw.read(ANSWER_LIMIT, decode_content=True)
                return Answer(method, url, response.status_code, response.headers, content)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise explain(error, url) from _root(error)
        finally:
            if isinstance(body, Body):
                body.close()

    def close(self) -> None:
        """Close idle connections."""
        self._session.close()


def host_of(url: str) -> str:
    """``host[:port]`` as it may be shown: a Location may carry a login before it."""
    return re.sub(r"^[^/]*//|[/?#].*$", "", url).rpartition("@")[2]


def explain(error: Exception, url: str) -> PusherError:
    """The error of requests or urllib3 as one of ours, judged by its causes rather than by its class."""
    host = host_of(url)
    causes = list(_causes(error))

    def among(*kinds: type[BaseException]) -> BaseException | None:
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    if found := among(ssl.SSLCertVerificationError):
        reason = getattr(found, "verify_message", "") or str(found)
        return CertificateUntrusted(
            f"the certificate of {host} cannot be verified: {reason}",
            hint="if a VPN or proxy such as Cloudflare WARP or Zscaler inspects TLS here, install its CA "
            "certificate in this system's trust store, then try again",
        )
    if (found := among(ssl.SSLError)) and "WRONG_VERSION_NUMBER" in str(found):
        return NotARegistry(
            f"{host} does not speak TLS", hint="if it is a registry without TLS, add --plain-http"
        )
    if among(urllib3.exceptions.NameResolutionError):
        return RegistryUnreachable(
            f"the name of {host} cannot be resolved",
            hint="check the network and the spelling of the registry's name",
        )
    if among(requests.exceptions.ProxyError, urllib3.exceptions.ProxyError):
        return RegistryUnreachable(
            f"the proxy on the way to {host} does not let the connection through",
            hint="check HTTPS_PROXY, HTTP_PROXY and NO_PROXY",
        )
    if among(urllib3.exceptions.NewConnectionError):  # for urllib3 it is a ConnectTimeoutError as well
        refused = among(ConnectionRefusedError)
        why = "refuses the connection" if refused else "cannot be reached"
        return RegistryUnreachable(
            f"{host} {why}", hint="check the network, the registry's name and its port"
        )
    if among(requests.exceptions.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError):
        return RegistryUnreachable(f"{host} does not answer (connect time-out)", hint="check the network")
    if among(*_NO_ADDRESS):
        return NotARegistry(f"{host} is no address that can be used", hint="check the registry's name")
    if among(requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError):
        return RegistryStalled(f"{host} stopped answering")
    return ConnectionBroken(f"the connection to {host} broke")


def _root(error: Exception) -> BaseException | None:
    """The operating system's own error; those made of it quote the address with its query."""
    own = (cause for cause in _causes(error) if not isinstance(cause, requests.RequestException))
    return next((cause for cause in own if isinstance(cause, OSError)), None)


def _causes(error: BaseException) -> Any:
    seen: set[int] = set()
    pending: list[object] = [error]
    while pending:
        current = pending.pop(0)
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        pending += [getattr(current, "reason", None), current.__cause__, current.__context__, *current.args]
