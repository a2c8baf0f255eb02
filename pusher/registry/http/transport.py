"""One HTTP request to a registry: the answer, what went wrong in our words, and a line in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Protocol
from urllib.parse import urlsplit

import requests
import urllib3
from requests.structures import CaseInsensitiveDict

import pusher
from pusher.config import Timeouts
from pusher.errors import PusherError, RegistryStalled
from pusher.reference import canonical_registry
from pusher.registry.http.addresses import is_private
from pusher.registry.http.answer import Answer
from pusher.registry.http.body import Body
from pusher.registry.http.connections import Session
from pusher.registry.http.decoding import check_headers, decoded
from pusher.registry.http.network_errors import explain, login_wanted, refused_by_front, root
from pusher.registry.http.proxies import Proxy, proxy_for
from pusher.registry.http.redaction import host_of, redacted, redacted_headers
from pusher.registry.http.tls import Trust
from pusher.registry.http.watchdog import Wait, Waits

ANSWER_LIMIT = 4 * 1024 * 1024
"""Bytes of an answer that are read at most: nothing that a push asks for is larger."""
__all__ = ["ANSWER_LIMIT", "Answer", "Receiver", "Transport"]

_KEEPS_NONE: Final = 2
"""Kept connections that died at their next request, after which none to that host is kept."""
_RECEIVED: Final = 256 * 1024
"""Bytes that a receiver gets at once, at most."""
_LOG: Final = logging.getLogger("pusher.http")
"""INFO: a line a request, with the fields method, url, status, seconds, bytes (of the request's body) as
``extra``. DEBUG: the headers too. Nothing secret in either."""


class Receiver(Protocol):
    """Takes the body of an answer block by block; what it raises ends the request."""

    def begin(self, answer: Answer) -> bool:
        """The head of an answer arrived; whether its body is for this receiver."""

    def write(self, data: bytes) -> None:
        """The next bytes of the body, as they were sent: no Content-Encoding is undone."""


class Transport:
    """Sends requests; knows nothing of authentication or of the distribution API. Thread-safe.

    ``trust`` says for each https host (``host[:port]``), be it the registry or one that it sends us to, how
    its certificate is verified.
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
        self._waits = Waits()
        self._peers: dict[str, str] = {}
        self._answered: set[str] = set()
        self._deaths: dict[str, int] = {}
        self._session = Session(timeouts, self._trust, connections)
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
        """Send one request, follow no redirect, read the answer: at most ``limit`` bytes of its body, or all
        of it into ``receiver``.

        ``sent_by``: the registry's URL, whose words brought us to ``url``. From a registry of the internet
        nothing is sent to an address of a private network, whatever name has it.

        A kept connection that dies before anything of the answer came costs no error: the request goes again
        at once, unless it is part of an upload, whose sender asks how that stands. Where that happens twice
        each request gets a connection of its own.

        Raises LocationRefused, RegistryUnreachable, ConnectionBroken,
        RegistryStalled, CertificateUntrusted, TlsFailed, ClientCertificateRefused, CertificateFileUnusable,
        ProxyFailed, ProxyUnusable, NotARegistry, or RegistryRefused for what is no HTTP; any status is an
        Answer.
        """
        check_headers(headers or {})
        began = time.monotonic()
        if _LOG.isEnabledFor(logging.DEBUG):
            ours = {name: str(value) for name, value in self._session.headers.items()}
            _log_headers(">", f"{method} {redacted(url)}", {**ours, **(headers or {})})
        wait = Wait(host_of(url), only_public=self._only_public(url, sent_by))
        try:
            with self._waits.of(wait):
                answer = self._send(wait, method, url, headers, body, answer_timeout, receiver, limit)
        except PusherError as error:
            _log(method, url, None, began, body, f"failed: {error.message}")
            raise
        finally:
            if isinstance(body, Body):
                body.record_unacknowledged(wait.unacknowledged)
                body.close()
        _log(method, url, answer.status, began, body, str(answer.status))
        if _LOG.isEnabledFor(logging.DEBUG):
            _log_headers("<", str(answer.status), answer.headers)
        return answer

    def close(self) -> None:
        """Close idle connections."""
        self._session.close()
        self._waits.close()

    def _only_public(self, url: str, sent_by: str) -> bool:
        registry = host_of(sent_by)
        if not registry or registry.lower() == host_of(url).lower():
            return False
        peer = self._peers.get(registry)  # unknown where a proxy is on the way
        return not is_private(urlsplit(sent_by).hostname or "" if peer is None else peer)

    def _send(
        self,
        wait: Wait,
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
        if self._deaths.get(host_of(url), 0) >= _KEEPS_NONE:
            headers = {**(headers or {}), "Connection": "close"}
        try:
            proxy = proxy_for(url)
            with self._session.request(
                method,
                url,
                headers=headers,
                data=body,
                timeout=(self._timeouts.connect, answer_timeout or self._timeouts.answer),
                allow_redirects=False,
                stream=True,
                proxies={"http": proxy.url, "https": proxy.url} if proxy else {},
            ) as response:
                begun = True
                if wait.reused:
                    self._deaths.pop(host_of(url), None)
                if proxy and response.status_code == 407:
                    raise login_wanted(proxy, host_of(url))
                self._answered.add(host_of(url))
                if wait.peer is not None:
                    self._peers[host_of(url)] = wait.peer
                answer = Answer(method, url, response.status_code, response.headers)
                if receiver is not None and receiver.begin(answer):
                    # read1: what came before a break is not lost with the rest of its block
                    while block := response.raw.read1(_RECEIVED, decode_content=False):
                        with wait.moved(len(block)):
                            receiver.write(block)
                    _check(wait)
                    return answer
                raw = b""
                while len(raw) < limit and (
                    block := response.raw.read(limit - len(raw), decode_content=False)
                ):
                    raw += block
                _check(wait)
                answer = replace(answer, body=decoded(answer, raw, limit))
                if refused := refused_by_front(answer, self._trust(host_of(url))):
                    raise refused
                return answer
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            _check(wait)
            if wait.reused and not begun and _hung_up(error):
                # as Go's net/http does: the server closed a kept connection while we took it up again
                self._deaths[host_of(url)] = self._deaths.get(host_of(url), 0) + 1
                if _repeatable(method, body):
                    return self._send(wait, method, url, headers, body, answer_timeout, receiver, limit)
            raise explain(
                error,
                url,
                trust=self._trust,
                timeouts=self._timeouts,
                proxy=proxy,
                answered=host_of(url) in self._answered,
            ) from root(error)


def _repeatable(method: str, body: Body | bytes | None) -> bool:
    """Whether nothing is in doubt once a request was sent twice: not so with chunks and closing PUTs."""
    return body is None if method in ("GET", "HEAD", "DELETE", "POST") else isinstance(body, bytes)


def _hung_up(error: Exception) -> bool:
    """Whether the connection was closed, by FIN or RST."""
    return isinstance(root(error), ConnectionResetError | BrokenPipeError)


def _check(wait: Wait) -> None:
    """Raises what a request ends with that was broken off, however far its answer had come."""
    if wait.late:
        raise RegistryStalled(f"{wait.host} began an answer that does not end") from None


def _log(
    method: str, url: str, status: int | None, began: float, body: Body | bytes | None, end: str
) -> None:
    if not _LOG.isEnabledFor(logging.INFO):
        return
    seconds = round(time.monotonic() - began, 3)
    size = body.sent if isinstance(body, Body) else len(body or b"")
    shown = redacted(url)
    fields = {"method": method, "url": shown, "status": status, "seconds": seconds, "bytes": size}
    sent = f", {size} bytes sent" if size else ""
    _LOG.info("%s %s %s (%.3f s%s)", method, shown, end, seconds, sent, extra=fields)


def _log_headers(mark: str, first: str, headers: Mapping[str, str]) -> None:
    lines = [f"{mark} {name}: {value}" for name, value in redacted_headers(headers).items()]
    _LOG.debug("%s", "\n".join([f"{mark} {first}", *lines]))
