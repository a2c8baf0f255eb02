"""Check the connection to one registry: proxy, DNS, TCP, TLS, response to GET /v2/, clock."""

from __future__ import annotations

import email.utils
import http.client
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import urllib3

from pusher.config import Settings
from pusher.doctor.check import Check, Skipped
from pusher.doctor.target import api_url
from pusher.errors import ClockWrong, ProxyFailed, ProxyUnusable, PusherError, RegistryUnreachable
from pusher.reference import is_loopback
from pusher.registry.auth.authenticator import Authenticator
from pusher.registry.client import RegistryClient
from pusher.registry.http import tls
from pusher.registry.http.answer import Answer
from pusher.registry.http.happy_eyeballs import dial, look_up
from pusher.registry.http.network_errors import explain
from pusher.registry.http.proxies import Proxy, proxy_for
from pusher.registry.http.transport import Transport
from pusher.registry.http.untrusted_certificate import certificate_error
from pusher.units import human_seconds

_MAX_SKEW: Final = 300.0
"""Seconds; tokens and signed addresses are often valid for no longer."""
_PORTS: Final = {"http": 80, "https": 443}


class NetworkChecks:
    """``ping_answer`` is the answer to GET /v2/ without a login, ``base`` the address of the request."""

    def __init__(
        self,
        registry: str,
        settings: Settings,
        transport: Transport,
        trust_for: Callable[[str], tls.Trust],
        headers: Mapping[str, str],
    ) -> None:
        self._registry = registry
        self._site = settings.at(registry)
        self._timeouts = settings.timeouts
        self._transport = transport
        self._trust_in = trust_for
        self._headers = headers
        self.base = api_url(registry, plain_http=self._site.plain_http)
        self.ping_answer: Answer | None = None
        url = urlsplit(self.base)
        self._host = url.hostname or ""
        self._port = url.port or _PORTS[url.scheme]
        self._proxy: Proxy | None = None
        self._addresses: list[str] = []
        self._asked_at = 0.0

    def checks(self) -> list[Check]:
        """Return the checks in the order in which a connection is made."""
        return [
            Check("proxy", "looking for a proxy", self._find_proxy, ("reference",)),
            Check("DNS", f"asking for the address of {self._host}", self._resolve, ("proxy",)),
            Check("TCP", f"connecting to {self._host}:{self._port}", self._connect, ("DNS",)),
            Check("TLS", f"opening TLS to {self._host}:{self._port}", self._check_tls, ("TCP",)),
            Check("registry", f"asking {self.base}", self._ask_registry, ("TLS",)),
            Check("clock", "comparing the clocks", self._compare_clocks, ("TLS",)),
        ]

    # --- proxy --------------------------------------------------------------------------------------------

    def _find_proxy(self) -> str:
        self._proxy = proxy = proxy_for(self.base)
        if proxy is None:
            reason = ": this machine is asked directly" if is_loopback(self._registry) else ""
            return f"none on the way to {self._registry}{reason}"
        try:
            self._ask()
        except (ProxyFailed, ProxyUnusable):
            raise
        except PusherError:
            pass  # the next checks test the connection through the proxy
        return f"{proxy} ({proxy.origin}) makes the connection to {self._registry}"

    # --- DNS and TCP --------------------------------------------------------------------------------------

    def _resolve(self) -> str:
        self._skip_behind_proxy()
        try:
            infos = look_up(self._host, self._port, self._timeouts.connect)
        except (OSError, UnicodeError) as error:
            raise RegistryUnreachable(
                f"the name {self._host} cannot be resolved: {_reason(error, self._timeouts.connect)}",
                hint=f"check its spelling, the network and the VPN: getent hosts {self._host}",
            ) from error
        answer = list(dict.fromkeys(str(info[4][0]) for info in infos))
        self._addresses = answer
        if answer == [self._host]:
            return f"{self._host} is an address itself"
        return f"{self._host} is {', '.join(answer)}"

    def _connect(self) -> str:
        self._skip_behind_proxy()
        began = time.monotonic()
        try:
            with dial(self._host, self._port, self._timeouts.connect) as sock:
                address = str(sock.getpeername()[0])
        except OSError as error:
            raise RegistryUnreachable(
                f"{self._registry} accepts no connections on port {self._port} "
                f"({', '.join(self._addresses)}: {_reason(error, self._timeouts.connect)})",
                hint="check the port, that the registry runs, and that no firewall or VPN is in the way",
            ) from error
        milliseconds = 1000 * (time.monotonic() - began)
        return f"{address} accepts connections on port {self._port}, in {milliseconds:.0f} ms"

    def _skip_behind_proxy(self) -> None:
        if self._proxy is not None:
            raise Skipped(f"because the proxy {self._proxy} does this")

    # --- TLS ----------------------------------------------------------------------------------------------

    def _check_tls(self) -> str:
        if self._site.plain_http:
            raise Skipped(f"because plain http is allowed for {self._registry}, and used")
        if is_loopback(self._registry) and self._speaks_plain_http():
            raise Skipped(f"because {self._registry} is on this machine and speaks plain http")
        self.base = "https:" + self.base.partition(":")[2]
        trust = self._trust_in(self._registry)
        try:
            peer = tls.inspect_server(self._host, self._port, trust, self._timeouts, self._proxy)
        except (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
            raise explain(
                error, self.base, trust=self._trust_in, timeouts=self._timeouts, proxy=self._proxy
            ) from error
        if peer.flaw is not None:
            raise certificate_error(self._registry, peer)
        until = f", valid until {peer.not_after:%Y-%m-%d}" if peer.not_after else ""
        verdict = "verified" if peer.verified else "NOT verified, as --insecure allows"
        return f'{peer.protocol}, certificate issued by "{peer.issuer}"{until}, {verdict}'

    def _speaks_plain_http(self) -> bool:
        """Send a request as the client does, which tries http first on this machine."""
        try:
            answer = self._ask()
        except PusherError:
            return False
        if answer.status == 400:  # "client sent an HTTP request to an HTTPS server"
            self.ping_answer = None
            return False
        return True

    # --- the registry -------------------------------------------------------------------------------------

    def _ask_registry(self) -> str:
        answer = self.ping_answer or self._ask()
        if answer.status != 401:
            # the client knows which answers are a registry's, and describes others
            no_login = Authenticator(self._registry, None, headers=self._headers)
            RegistryClient(self._registry, self._transport, no_login, plain_http=self._site.plain_http).ping()
        version = answer.headers.get("Docker-Distribution-Api-Version", "")
        return f"GET {self.base} answers {answer.status}" + (f" ({version})" if version else "")

    def _ask(self) -> Answer:
        self.ping_answer = self._transport.send("GET", self.base, headers=self._headers)
        self._asked_at = time.time()
        return self.ping_answer

    def _compare_clocks(self) -> str:
        if self.ping_answer is None:
            raise Skipped(f"because {self._registry} gave no answer")
        date = self.ping_answer.headers.get("Date", "")
        try:
            when = email.utils.parsedate_to_datetime(date)
        except ValueError:
            raise Skipped(f"because the answer of {self._registry} has no date") from None
        there = when.replace(tzinfo=when.tzinfo or UTC).timestamp()
        ahead = self._asked_at - there
        if abs(ahead) <= _MAX_SKEW:
            return f"the clocks of this machine and {self._registry} differ by {abs(ahead):.0f} s"
        raise ClockWrong(
            f"this machine's clock is {human_seconds(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} "
            f"that of {self._registry} ({datetime.fromtimestamp(there, UTC):%Y-%m-%d %H:%M} UTC): tokens and "
            "certificates seem to have run out, or not to be valid yet",
            hint="set the clock: sudo timedatectl set-ntp true",
        )


def _reason(error: Exception, patience: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {patience:.0f} s"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(words)
