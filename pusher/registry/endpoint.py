"""Requests to one registry: scheme, login, redirects, rate of requests, and what sent the answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

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
from pusher.reference import api_host, is_loopback
from pusher.registry.answers import UNAMBIGUOUS, describe_answer, is_page, outage, refusal
from pusher.registry.auth.authenticator import Authenticator
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
_MOST_REDIRECTS: Final = 5
_WRITES: Final = frozenset({"POST", "PATCH", "PUT"})
CHECKING: Final = "checking its API"


class RegistryEndpoint:
    """Sends requests to one registry (``host[:port]``). Thread-safe.

    ``on_warning`` is called once for each different warning of the registry. ``known``: the registry has
    accepted uploads before, so that a web page at its address is an outage.
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
    ) -> None:
        self.registry = registry
        self._transport = transport
        self._auth = authenticator
        self._plain_http = plain_http
        self._commit_timeout = commit_timeout
        self._warnings = Warnings(registry, on_warning)
        self._detector = IntermediaryDetector(known=known, policy=policy)
        self._rate = RequestRate(policy)
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

    @property
    def requires_login(self) -> bool:
        """Whether the registry has asked for a login; False before ``ping``."""
        return self._auth.was_challenged

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

        No token is requested for that: a token server may give tokens for repositories alone.
        """
        with self._lock:
            if self._base is None:
                self._base = self._probe()
            return self._base

    def _probe(self) -> str:
        host = api_host(self.registry)
        loopback = is_loopback(self.registry)
        schemes = ["http"] if self._plain_http else ["http", "https"] if loopback else ["https"]
        broken: ConnectionBroken | None = None
        for scheme in schemes:
            base = f"{scheme}://{host}/v2/"
            try:
                answer = self._request("GET", base, (), doing=CHECKING, base=base)
            except ConnectionBroken as error:
                if scheme == schemes[-1]:
                    raise
                broken = error  # by the link, or because this port speaks TLS
                continue
            except NotARegistry as error:
                raise broken or error from None
            if answer.status == 400 and scheme != schemes[-1]:
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
        """Send a request, log in if challenged, follow redirects; only the registry's host sees the login.

        With ``base``, the URLs of a registry that is being probed, any answer is returned, and so is a
        challenge for a token. Otherwise an intermediary's answer raises what ``IntermediaryDetector`` does.
        """
        origin = Origin(self.registry, base or self._base_url())
        attempt = self._auth.begin_request(self._transport, method, scopes)
        redirects, asked = 0, url
        url = bare = url.partition("#")[0]
        while True:
            ours = origin.is_same_host(url)
            login = attempt.headers() if ours else {}
            cookie = self._cookies.header(asked) if url == bare and ours else ""
            if cookie:
                others = [value for name, value in login.items() if name.lower() == "cookie"]
                login = {name: value for name, value in login.items() if name.lower() != "cookie"}
                login["Cookie"] = "; ".join([*others, cookie])
            turn = self._rate.wait_for_turn() if ours else 0.0
            try:
                answer = self._transport.send(
                    method,
                    url,
                    headers={**(headers or {}), **login},
                    body=body,
                    answer_timeout=answer_timeout,
                    receiver=receiver,
                    limit=limit,
                    sent_by=origin.url,
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
                self._login_accepted |= (
                    "Authorization" in login
                    and method in ("GET", "HEAD")
                    and answer.status in (200, 204, 404)
                )
            if answer.status == 401 and ours:
                if self._detector.is_stray_challenge(answer, doing):  # it must not see the login
                    self._raise_during_outage(answer, doing)
                try:
                    attempt.handle_challenge(answer)
                except (CredentialsMissing, CredentialsRejected, PermissionDenied) as error:
                    if not answer.headers.get("WWW-Authenticate"):
                        self._raise_during_outage(answer, doing)
                    if isinstance(error, CredentialsRejected) and method in _WRITES and self._login_accepted:
                        raise self._read_only_error(error) from error
                    raise
                if base is not None and self._auth.uses_tokens:
                    return answer
            elif answer.status == 401 and (redirects == 0 or method not in ("GET", "HEAD")):
                raise AuthenticationUnsupported(
                    f"{self.registry} sends the upload to {host_of(url)}, which requires a login of its own",
                    hint=f"the login for {self.registry} goes to no other host; tell the registry's owner",
                )
            elif answer.status == 403 and ours and not is_page(answer) and attempt.renew_after_denial():
                pass  # ECR's answer to a login that expired
            elif answer.status in _REDIRECTS and answer.headers.get("Location"):
                redirects += 1
                kept = method in ("GET", "HEAD") or answer.status in (307, 308)
                target = self._resolve_redirect(answer, origin, asked, doing) if kept else url
                astray = method in _WRITES and is_page(answer) and not origin.is_same_host(target)
                if redirects > _MOST_REDIRECTS:
                    self._raise_if_portal(asked, answer, doing)
                    return answer
                if not kept or astray:
                    return self._check_sender(answer, doing, ours=ours)
                url = target
            else:
                return answer if base is not None else self._check_sender(answer, doing, ours=ours)
            if isinstance(body, Body):
                body.rewind()

    def _resolve_redirect(self, answer: Answer, origin: Origin, asked: str, doing: str) -> str:
        """Return the target of a redirect. A portal redirects to where a registry must not."""
        try:
            return origin.resolve_redirect(answer)
        except (LocationRefused, PlainHttpRefused, RegistryRefused):
            self._raise_if_portal(asked, answer, doing)
            raise

    def _raise_if_portal(self, asked: str, answer: Answer, doing: str) -> None:
        """Raise RegistryFault for a useless redirect, if the registry has answered such requests before."""
        if self._detector.has_answered(asked, doing):
            self._raise_during_outage(answer, doing)

    def _read_only_error(self, error: CredentialsRejected) -> PermissionDenied:
        """Return the error for a login that may pull only: serverless-registry answers its POST with 401."""
        return PermissionDenied(
            f"{error.message}; it has just let the same login read, so this login may not push",
            hint="ask the registry's owner for the right to push, or take another login: "
            f"pusher login {self.registry}",
        )

    def _check_sender(self, answer: Answer, doing: str, *, ours: bool) -> Answer:
        """Return an answer. Raises RegistryFault for an intermediary's, and ``refusal`` if that lasts."""
        if answer.method == "DELETE" or answer.status in UNAMBIGUOUS:
            return answer
        if not ours:  # a storage backend has its own answers, but no web page for a blob
            if answer.ok and is_page(answer):
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

    def unconfirmed(self, answer: Answer, doing: str) -> PusherError:
        """Return the error for a success after which nothing is stored; raise ``refusal`` once that lasts."""
        self._detector.raise_while_passing(answer, doing)
        return outage(answer, doing)

    def is_outage(self, answer: Answer, doing: str) -> bool:
        """Return whether an intermediary answered, and not for long."""
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
