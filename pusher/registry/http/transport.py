"""Send one HTTP request to a registry; return its response or raise its error, and log it."""

from __future__ import annotations

import contextlib
import http.client
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import requests
import urllib3
from requests.structures import CaseInsensitiveDict

import pusher
from pusher.config import Timeouts
from pusher.errors import (
    CertificateUntrusted,
    ClientCertificateRefused,
    PusherError,
    RegistryStalled,
    TlsFailed,
)
from pusher.reference import canonical_registry
from pusher.registry.http.addresses import is_private
from pusher.registry.http.answer import Answer
from pusher.registry.http.body import Blocks, Body
from pusher.registry.http.connections import TimedSession
from pusher.registry.http.decoding import check_headers, decode_body
from pusher.registry.http.early_requests import EarlyRequests
from pusher.registry.http.network_errors import explain, proxy_login_error, root_cause, tls_refusal
from pusher.registry.http.proxies import Proxy, proxy_for
from pusher.registry.http.redaction import host_of, redact, redact_headers
from pusher.registry.http.tls import Trust
from pusher.registry.http.watchdog import PendingRequest, Watchdog

ANSWER_LIMIT = 4 * 1024 * 1024
"""Bytes of an answer that are read at most; a push needs no larger ones."""
__all__ = ["ANSWER_LIMIT", "Answer", "Receiver", "Transport"]

_MAX_DROPPED: Final = 2
"""Kept connections of a host that were closed at their next request before none is kept any more."""
_CERTIFICATE_ERRORS: Final = (CertificateUntrusted, ClientCertificateRefused, TlsFailed)
"""Errors after which the certificate files may be replaced while a worker runs."""
_MAX_HANDSHAKE: Final = 1.0
"""Seconds for which an early request waits for a connection that was begun before."""
_BLOCK: Final = 512 * 1024
"""Bytes that a receiver gets at most at once."""
_LOG: Final = logging.getLogger("pusher.http")
"""INFO: a line a request, with the fields method, url, status, seconds, bytes (of the request's body) as
``extra``. DEBUG: the headers too. Nothing secret in either."""


class Receiver(Protocol):
    """Receives the body of an answer block by block; an error that it raises ends the request."""

    def begin(self, answer: Answer) -> bool:
        """Return whether the body of this answer is to be written."""

    def write(self, data: memoryview) -> None:
        """Write the next bytes of the body, as they were sent: Content-Encoding is not decoded. ``data`` is
        overwritten by the next bytes."""


class Transport:
    """Sends requests, without authentication and knowledge of the distribution API. Thread-safe.

    ``trust`` returns how the certificate of an https host (``host[:port]``) is verified, be it the registry's
    or one that the registry names.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        *,
        trust: Callable[[str], Trust] = lambda host: Trust(),  # noqa: ARG005
        connections: int = 8,
    ) -> None:
        self._timeouts = timeouts
        self._trust: Callable[[str], Trust] = lambda host: trust(canonical_registry(host))
        self._watchdog = Watchdog()
        self._peers: dict[str, str] = {}
        self._answered: set[str] = set()
        self._dropped: dict[str, int] = {}
        self._quickest: dict[str, float] = {}
        self._round_trips: dict[str, float] = {}
        self._responded = threading.Condition()
        self._early = EarlyRequests()
        self._connecting: dict[str, threading.Event] = {}
        self._session = TimedSession(timeouts, self._trust, connections)
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
        receiver: Receiver | None = None,
        limit: int = ANSWER_LIMIT,
        sent_by: str = "",
    ) -> Answer:
        """Send one request without following redirects, and read the answer: at most ``limit`` bytes of its
        body, or all of it into ``receiver``.

        ``sent_by``: the URL of the registry that named ``url``. A public registry cannot make pusher connect
        to a private address, by whatever name.

        If a kept connection is closed before the answer starts, the request is sent again at once, unless it
        is part of an upload, whose state must be asked for first. After the second time each request to the
        host gets a new connection.

        Raises LocationRefused, RegistryUnreachable, ConnectionBroken,
        RegistryStalled, CertificateUntrusted, TlsFailed, ClientCertificateRefused, CertificateFileUnusable,
        ProxyFailed, ProxyUnusable, NotARegistry, and RegistryRefused for an invalid answer; any status is an
        Answer.
        """
        if (answer := self._early.take(method, url, headers or {})) is not None:
            return answer
        return self._send_now(method, url, headers, body, answer_timeout, receiver, limit, sent_by)

    def send_early(self, url: str, headers: Mapping[str, str]) -> None:
        """Send a GET in the background, on a connection of ``connect_ahead`` if there is one. The first
        ``send`` of the same returns its answer or raises its error, unless that is old by then."""
        connecting = self._connecting.get(url)

        def send() -> Answer:
            if connecting is not None:
                connecting.wait(_MAX_HANDSHAKE)
            return self._send_now("GET", url, headers)

        self._early.begin(url, headers, send)

    def _send_now(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        body: Body | bytes | None = None,
        answer_timeout: float | None = None,
        receiver: Receiver | None = None,
        limit: int = ANSWER_LIMIT,
        sent_by: str = "",
    ) -> Answer:
        check_headers(headers or {})
        began = time.monotonic()
        if _LOG.isEnabledFor(logging.DEBUG):
            ours = {name: str(value) for name, value in self._session.headers.items()}
            _log_headers(">", f"{method} {redact(url)}", {**ours, **(headers or {})})
        request = PendingRequest(host_of(url), only_public=self._only_public(url, sent_by))
        try:
            with self._watchdog.watch(request):
                answer = self._send(request, method, url, headers, body, answer_timeout, receiver, limit)
        except PusherError as error:
            self._record_response(url, math.inf)
            if isinstance(error, _CERTIFICATE_ERRORS):
                self._session.forget_certificates(host_of(url))
            _log(method, url, None, began, body, f"failed: {error.message}")
            raise
        finally:
            if isinstance(body, Body):
                body.record_unacknowledged(request.unacknowledged)
                body.close()
        if body is None and receiver is None:
            self._record_response(url, time.monotonic() - began)
        _log(method, url, answer.status, began, body, str(answer.status))
        if _LOG.isEnabledFor(logging.DEBUG):
            _log_headers("<", str(answer.status), answer.headers)
        return answer

    def _record_response(self, url: str, seconds: float) -> None:
        """Record how long a response took; infinite: the request failed."""
        registry = canonical_registry(host_of(url))
        with self._responded:
            self._quickest[registry] = min(seconds, self._quickest.get(registry, seconds))
            self._responded.notify_all()

    def response_seconds(self, registry: str, wait: float = 0.0) -> float | None:
        """Return the least time that a response of a registry took, to requests without a body; None before
        the first one. It is little more than the round-trip time.

        With ``wait``: if a request is under way, wait so many seconds for the first response, and return that
        if none comes: it takes longer.
        """
        with self._responded:
            if not self._responded.wait_for(lambda: registry in self._quickest, wait):
                return wait or None
            seconds = self._quickest[registry]
            return None if seconds == math.inf else seconds

    def round_trip(self, registry: str) -> float | None:
        """Return the seconds that a packet to a registry and back takes, as the kernel measured it: those to
        the end of a tunnel, if one is used. None before the first response, and with a proxy."""
        return self._round_trips.get(registry)

    def connect_ahead(self, url: str, count: int = 1) -> None:
        """Open ``count`` more connections to the host of ``url`` in the background, unless a proxy is used,
        or that is under way. If it fails, so will a request, and say why."""
        before = self._connecting.get(url)
        if before is not None and not before.is_set():
            return
        self._connecting[url] = has_first = threading.Event()

        def connect() -> None:
            with contextlib.suppress(PusherError, urllib3.exceptions.HTTPError, OSError):
                if proxy_for(url) is None:
                    self._session.connect_ahead(url)
            has_first.set()

        try:
            for _ in range(count):
                threading.Thread(target=connect, name=f"connect to {host_of(url)}", daemon=True).start()
        except RuntimeError:  # the system starts no more threads
            has_first.set()

    def close(self) -> None:
        """Close idle connections."""
        self._session.close()
        self._watchdog.close()

    def _only_public(self, url: str, sent_by: str) -> bool:
        registry = host_of(sent_by)
        if not registry or registry.lower() == host_of(url).lower():
            return False
        peer = self._peers.get(registry)  # unknown with a proxy
        return not is_private(urlsplit(sent_by).hostname or "" if peer is None else peer)

    def _send(
        self,
        request: PendingRequest,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        body: Body | bytes | None,
        answer_timeout: float | None,
        receiver: Receiver | None,
        limit: int,
    ) -> Answer:
        proxy: Proxy | None = None
        begun = False
        if self._dropped.get(host_of(url), 0) >= _MAX_DROPPED:
            headers = {**(headers or {}), "Connection": "close"}
        try:
            proxy = proxy_for(url)
            with self._session.request(
                method,
                url,
                headers=headers,
                data=Blocks(body) if isinstance(body, Body) else body,  # type: ignore[arg-type]
                timeout=(self._timeouts.connect, answer_timeout or self._timeouts.answer),
                allow_redirects=False,
                stream=True,
                proxies={"http": proxy.url, "https": proxy.url} if proxy else {},
            ) as response:
                begun = True
                if request.reused:
                    self._dropped.pop(host_of(url), None)
                if proxy and response.status_code == 407:
                    raise proxy_login_error(proxy, host_of(url))
                self._answered.add(host_of(url))
                if request.peer_address is not None:
                    self._peers[host_of(url)] = request.peer_address
                if request.round_trip is not None:
                    self._round_trips[canonical_registry(host_of(url))] = request.round_trip
                answer = Answer(method, url, response.status_code, response.headers)
                return self._read(answer, response.raw, request, receiver, limit)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            _raise_if_timed_out(request)
            if request.reused and not begun and _is_closed_connection(error):
                # as Go's net/http does: the server closed a kept connection before it was used again
                self._dropped[host_of(url)] = self._dropped.get(host_of(url), 0) + 1
                if _is_repeatable(method, body):
                    return self._send(request, method, url, headers, body, answer_timeout, receiver, limit)
            raise explain(
                error,
                url,
                trust=self._trust,
                timeouts=self._timeouts,
                proxy=proxy,
                answered=host_of(url) in self._answered,
            ) from root_cause(error)

    def _read(
        self, answer: Answer, raw: Any, request: PendingRequest, receiver: Receiver | None, limit: int
    ) -> Answer:
        """Read the body of an answer, into ``receiver`` or at most ``limit`` bytes of it."""
        if receiver is not None and receiver.begin(answer):
            _receive(request, receiver)
            raw.release_conn()
            _raise_if_timed_out(request)
            return answer
        body = b""
        while len(body) < limit and (block := raw.read(limit - len(body), decode_content=False)):
            body += block
        _raise_if_timed_out(request)
        answer = replace(answer, body=decode_body(answer, body, limit))
        if refused := tls_refusal(answer, self._trust(host_of(answer.url))):
            raise refused
        return answer


def _receive(request: PendingRequest, receiver: Receiver) -> None:
    """Read the body of the answer, into one buffer again and again. Raises urllib3's errors."""
    buffer = memoryview(bytearray(_BLOCK))
    while True:
        try:
            count = request.response.read_into(buffer)
        except TimeoutError as error:
            raise urllib3.exceptions.TimeoutError from error
        except (OSError, http.client.HTTPException) as error:
            raise urllib3.exceptions.ProtocolError("Connection broken", error) from error
        if not count:
            return
        with request.record_bytes(count):
            receiver.write(buffer[:count])


def _is_repeatable(method: str, body: Body | bytes | None) -> bool:
    """Return whether a request may be sent twice: not chunks and closing PUTs."""
    return body is None if method in ("GET", "HEAD", "DELETE", "POST") else isinstance(body, bytes)


def _is_closed_connection(error: Exception) -> bool:
    """Return whether the connection was closed, by FIN or RST."""
    return isinstance(root_cause(error), ConnectionResetError | BrokenPipeError)


def _raise_if_timed_out(request: PendingRequest) -> None:
    """Raise RegistryStalled if the watchdog closed the connection."""
    if request.timed_out:
        raise RegistryStalled(f"{request.host} started an answer that does not end") from None


def _log(
    method: str, url: str, status: int | None, began: float, body: Body | bytes | None, end: str
) -> None:
    if not _LOG.isEnabledFor(logging.INFO):
        return
    seconds = round(time.monotonic() - began, 3)
    size = body.sent if isinstance(body, Body) else len(body or b"")
    shown = redact(url)
    fields = {"method": method, "url": shown, "status": status, "seconds": seconds, "bytes": size}
    sent = f", {size} bytes sent" if size else ""
    _LOG.info("%s %s %s (%.3f s%s)", method, shown, end, seconds, sent, extra=fields)


def _log_headers(mark: str, first: str, headers: Mapping[str, str]) -> None:
    lines = [f"{mark} {name}: {value}" for name, value in redact_headers(headers).items()]
    _LOG.debug("%s", "\n".join([f"{mark} {first}", *lines]))
