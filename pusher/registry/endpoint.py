"""Send requests to one registry: scheme, login, redirects, rate of requests, detection of intermediaries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from pusher.dataclass import dataclass
from pusher.errors import (
    AuthenticationUnsupported,
    ConnectionBroken,
    CredentialsMissing,
    CredentialsRejected,
    LocationRefused,
    NotARegistry,
    PermissionDenied,
    PlainHttpRefused,
    PusherError,
    RegistryFault,
    RegistryRefused,
    RegistryUnreachable,
)
from pusher.reference import api_host, api_schemes
from pusher.registry.answers import UNAMBIGUOUS, describe_answer, is_page, outage, refusal
from pusher.registry.auth.authenticator import AuthenticatedRequest, Authenticator
from pusher.registry.auth.tokens import Scopes
from pusher.registry.http.affinity import StickyCookies
from pusher.registry.http.answer import Answer
from pusher.registry.http.body import Body
from pusher.registry.http.redaction import host_of
from pusher.registry.http.transport import ANSWER_LIMIT, Receiver, Transport
from pusher.registry.http.warnings import Warnings
from pusher.registry.intermediaries import AnsweredBy, IntermediaryDetector
from pusher.registry.locations import Origin
from pusher.registry.request_rate import RequestRate
from pusher.retry import DEFAULT, RetryPolicy

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS: Final = 5
_WRITES: Final = frozenset({"POST", "PATCH", "PUT"})
CHECKING: Final = "checking its API"


def possible_bases(registry: str, *, plain_http: bool) -> list[str]:
    """Return what the URLs of a registry may begin with, in the order in which they are tried."""
    schemes = api_schemes(registry, plain_http=plain_http)
    return [f"{scheme}://{api_host(registry)}/v2/" for scheme in schemes]


@dataclass(frozen=True)
class _Request:
    """A request before redirects; ``url`` is the first one, ``doing`` its purpose for messages."""

    method: str
    url: str
    doing: str
    origin: Origin
    headers: Mapping[str, str]
    body: Body | bytes | None
    answer_timeout: float | None
    receiver: Receiver | None
    limit: int


class RegistryEndpoint:
    """Sends requests to one registry (``host[:port]``). Thread-safe.

    ``on_warning`` is called once for each different warning of the registry. ``known``: the registry has
    accepted uploads before, so that a web page at its address is an outage. ``sleep``: as in RequestRate.
    """

    def __init__(
        self,
        registry: str,
        transport: Transport,
        authenticator: Authenticator,
        *,
        plain_http: bool = False,
        commit_timeout: float = 900.0,
        on_warning: Callable[[str], None] = lambda text: None,  # noqa: ARG005
        known: bool = False,
        policy: RetryPolicy = DEFAULT,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.registry = registry
        self._transport = transport
        self._auth = authenticator
        self._plain_http = plain_http
        self._commit_timeout = commit_timeout
        self._warnings = Warnings(registry, on_warning)
        self._detector = IntermediaryDetector(known=known, policy=policy)
        self._rate = RequestRate(policy, sleep=sleep)
        self._cookies = StickyCookies()
        self._login_accepted = False  # for reading
        self._lock = threading.Lock()
        self._base: str | None = None
        self._login_checked = False
        self.closes_connections = False
        """Whether each chunk gets a new connection. Set when the link cuts connections inside bodies: if that
        happens after a number of bytes, a new connection for each chunk gets through."""

    def ping(self) -> str:
        """Check once that a registry answers and accepts the credential (GET /v2/, end-1).

        Return the base of its URLs. Raises NotARegistry, CredentialsRejected and the transport's errors.
        """
        base = self._base_url()
        if not self._login_checked and self._auth.uses_tokens and self._auth.credential() is not None:
            answer = self._request("GET", base, (), doing=CHECKING)
            if not answer.ok:
                raise refusal(answer, doing=CHECKING)
        self._login_checked = True
        return base

    def connect_ahead(self) -> None:
        """Open a second connection in the background, if the registry was not asked for anything yet: what
        follows the first response is sent side by side."""
        if self._base is None:
            self._transport.connect_ahead(possible_bases(self.registry, plain_http=self._plain_http)[0])

    @property
    def requires_login(self) -> bool:
        """Return whether the registry has requested a login; False before ``ping``."""
        return self._auth.was_challenged

    @property
    def response_seconds(self) -> float | None:
        """Return the least time that a response took, to requests without a body; None before the first."""
        return self._transport.response_seconds(self.registry)

    def location_of(self, answer: Answer, asked: str = "") -> str | None:
        """Return the absolute URL of an answer's Location, its query unchanged (RFC 3986 5).

        Its fragment holds the load balancer's cookies that lead to the session, if they may be stored.
        ``asked`` is the location before.
        """
        origin = Origin(self.registry, self._base or answer.url)
        location = origin.resolve_location(answer)
        if location is None:
            return None
        location = location.partition("#")[0]
        if not (origin.is_same_host(location) and origin.is_same_host(answer.url)):
            return location
        logged_in = self._auth.credential() is not None
        return self._cookies.record(asked or answer.url, answer, location, logged_in=logged_in)

    def _base_url(self) -> str:
        """Return the base of the registry's URLs; find it on first use.

        No token is requested for that: some token servers issue tokens only for repositories.
        """
        with self._lock:
            if self._base is None:
                self._base = self._probe()
            return self._base

    def _probe(self) -> str:
        bases = possible_bases(self.registry, plain_http=self._plain_http)
        broken: ConnectionBroken | None = None
        for base in bases:
            try:
                answer = self._request("GET", base, (), doing=CHECKING, base=base)
            except ConnectionBroken as error:
                if base == bases[-1]:
                    raise
                broken = error  # by the link, or because this port speaks TLS
                continue
            except NotARegistry as error:
                raise broken or error from None
            if answer.status == 400 and base != bases[-1]:
                continue  # "client sent an HTTP request to an HTTPS server"
            if self._detector.classify(answer, CHECKING) is AnsweredBy.REGISTRY and (
                answer.ok or answer.status == 401
            ):
                self._detector.record_answer(answer, CHECKING)
                return base
            self._detector.raise_while_passing(answer, CHECKING)
            if answer.ok or answer.status in _REDIRECTS or answer.status in (400, 404, 405):
                break
            raise refusal(answer, doing=CHECKING)
        raise NotARegistry(
            f"{self.registry} is not a container registry: "
            f"GET /v2/ answers {answer.status}{describe_answer(answer)}",
            hint="check the registry's name: the part of the image name before the first slash",
        )

    def _url(self, path: str) -> str:
        return self._base_url() + path

    def _request(
        self,
        method: str,
        url: str,
        scopes: Scopes,
        *,
        doing: str,
        body: Body | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        answer_timeout: float | None = None,
        base: str | None = None,
        receiver: Receiver | None = None,
        limit: int = ANSWER_LIMIT,
    ) -> Answer:
        """Send a request, log in if challenged, follow redirects; send the login only to the registry's host.

        With ``base``, the URLs of a registry that is being probed, any answer is returned, and so is a
        challenge for a token. Otherwise an intermediary's answer raises what ``IntermediaryDetector`` does.
        """
        origin = Origin(self.registry, base or self._base_url())
        request = _Request(method, url, doing, origin, headers or {}, body, answer_timeout, receiver, limit)
        login = self._auth.begin_request(self._transport, method, scopes)
        url, redirects = url.partition("#")[0], 0
        while True:
            answer = self._send(request, url, login)
            if self._can_log_in(request, answer, login, redirected=redirects > 0):
                if base is not None and answer.status == 401 and self._auth.uses_tokens:
                    return answer
            elif answer.status in _REDIRECTS and answer.headers.get("Location"):
                redirects += 1
                target = self._redirect_target(request, answer)
                if redirects > _MAX_REDIRECTS:
                    self._raise_if_portal(request, answer)
                    return answer
                if target is None:
                    return self._check_sender(request, answer)
                url = target
            else:
                return answer if base is not None else self._check_sender(request, answer)
            if isinstance(body, Body):
                body.rewind()

    def _send(self, request: _Request, url: str, login: AuthenticatedRequest) -> Answer:
        """Send a request to ``url``, once, and record what the registry's own answer says about it."""
        ours = request.origin.is_same_host(url)
        headers = self._login_headers(request, url, login) if ours else {}
        turn = self._rate.wait_for_turn() if ours else 0.0
        try:
            answer = self._transport.send(
                request.method,
                url,
                headers={**request.headers, **headers},
                body=request.body,
                answer_timeout=request.answer_timeout,
                receiver=request.receiver,
                limit=request.limit,
                sent_by=request.origin.url,
            )
        except NotARegistry as error:
            if self._detector.is_registry_known:
                raise RegistryFault(error.message, hint=error.hint) from error
            raise
        except RegistryUnreachable as error:
            if ours:
                raise
            raise RegistryUnreachable(
                f"{error.message} ({self.registry} redirected to it)",
                hint="if this host is known only where the registry runs, fix the registry's address: "
                "its setting (http.host of distribution), or the headers Host and X-Forwarded-* that the "
                "proxy in front of it sets",
            ) from error
        if ours:
            self._warnings.report_new(answer.headers)
            self._rate.record_answer(answer, turn)
            reads = request.method in ("GET", "HEAD") and answer.status in (200, 204, 404)
            self._login_accepted |= "Authorization" in headers and reads
        return answer

    def _login_headers(self, request: _Request, url: str, login: AuthenticatedRequest) -> dict[str, str]:
        """Return the login and the cookies of the upload, which are for its own URL only."""
        headers = login.headers()
        cookie = self._cookies.header(request.url) if url == request.url.partition("#")[0] else ""
        if not cookie:
            return headers
        others = [value for name, value in headers.items() if name.lower() == "cookie"]
        headers = {name: value for name, value in headers.items() if name.lower() != "cookie"}
        return {**headers, "Cookie": "; ".join([*others, cookie])}

    def _can_log_in(
        self, request: _Request, answer: Answer, login: AuthenticatedRequest, *, redirected: bool
    ) -> bool:
        """Return whether to send the request again with another login. Raises the error of its refusal."""
        ours = request.origin.is_same_host(answer.url)
        if answer.status == 403:  # ECR's answer to a login that expired
            return ours and not is_page(answer) and login.renew_after_denial()
        if answer.status != 401:
            return False
        if ours:
            self._handle_challenge(request, answer, login)
            return True
        if redirected and request.method in ("GET", "HEAD"):
            return False
        raise AuthenticationUnsupported(
            f"{self.registry} sends the upload to {host_of(answer.url)}, which requires a login of its own",
            hint=f"the login for {self.registry} goes to no other host; report it to the registry's "
            "administrator",
        )

    def _handle_challenge(self, request: _Request, answer: Answer, login: AuthenticatedRequest) -> None:
        if self._detector.is_stray_challenge(answer, request.doing):  # do not send it the login
            self._raise_during_outage(answer, request.doing)
        try:
            login.handle_challenge(answer)
        except (CredentialsMissing, CredentialsRejected, PermissionDenied) as error:
            if not answer.headers.get("WWW-Authenticate"):
                self._raise_during_outage(answer, request.doing)
            if isinstance(error, CredentialsRejected) and request.method in _WRITES and self._login_accepted:
                raise self._read_only_error(error) from error
            raise

    def _redirect_target(self, request: _Request, answer: Answer) -> str | None:
        """Return where to send the request next; None if the redirect is not to be followed.

        A captive portal redirects to URLs that a registry must not.
        """
        if request.method not in ("GET", "HEAD") and answer.status not in (307, 308):
            return None
        try:
            target = request.origin.resolve_redirect(answer)
        except (LocationRefused, PlainHttpRefused, RegistryRefused):
            self._raise_if_portal(request, answer)
            raise
        astray = request.method in _WRITES and is_page(answer) and not request.origin.is_same_host(target)
        return None if astray else target

    def _raise_if_portal(self, request: _Request, answer: Answer) -> None:
        """Raise RegistryFault for a useless redirect, if the registry has answered such requests before."""
        if self._detector.has_answered(request.url, request.doing):
            self._raise_during_outage(answer, request.doing)

    def _read_only_error(self, error: CredentialsRejected) -> PermissionDenied:
        """Return the error for a login that may pull only: serverless-registry answers its POST with 401."""
        return PermissionDenied(
            f"{error.message}; it has just let the same login read, so this login may not push",
            hint="ask the registry's administrator for permission to push, or use another login: "
            f"pusher login {self.registry}",
        )

    def _check_sender(self, request: _Request, answer: Answer) -> Answer:
        """Return an answer. Raises RegistryFault for an intermediary's, and ``refusal`` if that lasts."""
        doing = request.doing
        if answer.method == "DELETE" or answer.status in UNAMBIGUOUS:
            return answer
        if not request.origin.is_same_host(answer.url):
            if answer.ok and is_page(answer):  # a storage backend has its own answers, but no page for a blob
                self._detector.raise_while_passing(answer, doing)
            return answer
        sender = self._detector.classify(answer, doing)
        if sender is AnsweredBy.UNCLEAR and self._detector.is_registry_known:
            sender = AnsweredBy.REGISTRY if self._is_answering() else AnsweredBy.INTERMEDIARY
            if sender is AnsweredBy.REGISTRY:
                self._detector.raise_if_recent(answer, doing)
        if sender is AnsweredBy.REGISTRY:
            self._detector.record_answer(answer, doing)
        elif sender is AnsweredBy.INTERMEDIARY:
            self._raise_during_outage(answer, doing)
        return answer

    def _raise_during_outage(self, answer: Answer, doing: str) -> None:
        """Raise RegistryFault while an intermediary's answer may pass."""
        self._detector.raise_while_passing(answer, doing, greets=self._is_answering)

    def unconfirmed_error(self, answer: Answer, doing: str) -> PusherError:
        """Return the error for a success that stored nothing; raise ``refusal`` once that lasts."""
        self._detector.raise_while_passing(answer, doing)
        return outage(answer, doing)

    def is_outage(self, answer: Answer, doing: str) -> bool:
        """Return whether an intermediary answered, in an outage that is still short."""
        if self._detector.classify(answer, doing) is not AnsweredBy.INTERMEDIARY:
            return False
        try:
            self._detector.raise_while_passing(answer, doing)
        except RegistryFault:
            return True
        return False

    def _is_answering(self) -> bool:
        """Return whether the registry answers GET /v2/ now."""
        base = self._base_url()
        try:
            answer = self._request("GET", base, (), doing=CHECKING, base=base)
        except (CredentialsRejected, PermissionDenied):
            return True
        except PusherError:
            return False
        greets = answer.ok or answer.status == 401
        return greets and self._detector.classify(answer, CHECKING) is AnsweredBy.REGISTRY
