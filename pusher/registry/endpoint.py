"""The way to one registry: found, greeted, asked with our login, followed where it redirects."""

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
from pusher.registry.answers import LEFT_ALONE, is_page, outage, refusal, said
from pusher.registry.auth.authenticator import Authenticator
from pusher.registry.auth.tokens import Scopes
from pusher.registry.http.affinity import StickyCookies
from pusher.registry.http.answer import Answer
from pusher.registry.http.body import Body
from pusher.registry.http.redaction import host_of
from pusher.registry.http.transport import ANSWER_LIMIT, Receiver, Transport
from pusher.registry.http.warnings import Warnings
from pusher.registry.intermediaries import Recognition, Voice
from pusher.registry.locations import Origin
from pusher.registry.request_rate import Pace
from pusher.retry import DEFAULT, RetryPolicy

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 5
_WRITES: Final = frozenset({"POST", "PATCH", "PUT"})
GREETING: Final = "greeting it"


class Conversation:
    """Requests to one registry (``host[:port]``). Thread-safe.

    ``on_warning`` is told once of each different warning that the registry sends. ``known``: it has taken
    uploads before, so that a page at its address is an outage.
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
        self._recognition = Recognition(known=known, policy=policy)
        self._pace = Pace(policy)
        self._sticky = StickyCookies()
        self._let_in = False  # a request that reads was answered to our login
        self._lock = threading.Lock()
        self._base: str | None = None
        self._greeted = False
        self.one_request_a_connection = False
        """Set when the link cuts connections in the middle of bodies: where a front or a link does so after a
        number of bytes, a fresh connection for each chunk gets through."""

    def ping(self) -> str:
        """Make sure that a registry answers and takes our credential (GET /v2/, end-1); asked once.

        Returns the base of its URLs. Raises NotARegistry, CredentialsRejected and the transport's errors.
        """
        base = self._reach()
        if not self._greeted and self._auth.uses_tokens and self._auth.credential() is not None:
            answer = self._request("GET", base, (), doing=GREETING)
            if not answer.ok:
                raise refusal(answer, doing=GREETING)
        self._greeted = True
        return base

    @property
    def asks_for_login(self) -> bool:
        """Whether the registry has asked who we are; False before ``ping``."""
        return self._auth.asked

    def location_of(self, answer: Answer, asked: str = "") -> str | None:
        """The absolute URL that an answer's Location means, its query as given (RFC 3986 5); behind a ``#``
        the cookies without which a balancer would not find it, where they may be stored."""
        origin = Origin(self.registry, self._base or answer.url)
        location = origin.location(answer)
        if location is None:
            return None
        location = location.partition("#")[0]
        if not (origin.holds(location) and origin.holds(answer.url)):
            return location
        logged_in = self._auth.credential() is not None
        return self._sticky.learn(asked or answer.url, answer, location, logged_in=logged_in)

    def _reach(self) -> str:
        """The base of the registry's URLs, once it is known that there is one.

        Where it wants tokens, none is asked for yet: its token server may give none but for a repository.
        """
        with self._lock:
            if self._base is None:
                self._base = self._find()
            return self._base

    def _find(self) -> str:
        host = api_host(self.registry)
        loopback = is_loopback(self.registry)
        schemes = ["http"] if self._plain_http else ["http", "https"] if loopback else ["https"]
        broken: ConnectionBroken | None = None
        for scheme in schemes:
            base = f"{scheme}://{host}/v2/"
            try:
                answer = self._request("GET", base, (), doing=GREETING, base=base)
            except ConnectionBroken as error:
                if scheme == schemes[-1]:
                    raise
                broken = error  # by a link, or because TLS is spoken here
                continue
            except NotARegistry as error:
                raise broken or error from None
            if answer.status == 400 and scheme != schemes[-1]:
                continue  # "client sent an HTTP request to an HTTPS server"
            if self._recognition.judge(answer, GREETING) is Voice.REGISTRY and (
                answer.ok or answer.status == 401
            ):
                self._recognition.heard(answer, GREETING)
                return base
            self._recognition.wait_for_registry(answer, GREETING)
            if answer.ok or answer.status in _REDIRECTS or answer.status in (400, 404, 405):
                break
            raise refusal(answer, doing=GREETING)
        raise NotARegistry(
            f"{self.registry} is no container registry: GET /v2/ answers {answer.status}{said(answer)}",
            hint="check the registry's name: the part of the image name before the first slash",
        )

    def _url(self, path: str) -> str:
        return self._reach() + path

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
        """Send, prove who we are when asked, follow redirects; the login goes to our origin only.

        With ``base``, the registry's URLs while it is being found, a demand for a token ends it, and whoever
        answers is heard. Else an answer that is not the registry's raises what ``Recognition`` says.
        """
        origin = Origin(self.registry, base or self._reach())
        attempt = self._auth.attempt(self._transport, method, scopes)
        redirects, asked = 0, url
        url = bare = url.partition("#")[0]
        while True:
            ours = origin.holds(url)
            login = attempt.headers() if ours else {}
            cookie = self._sticky.header(asked) if url == bare and ours else ""
            if cookie:
                others = [value for name, value in login.items() if name.lower() == "cookie"]
                login = {name: value for name, value in login.items() if name.lower() != "cookie"}
                login["Cookie"] = "; ".join([*others, cookie])
            turn = self._pace.wait() if ours else 0.0
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
                if self._recognition.trusted:  # it was one before
                    raise RegistryFault(error.message, hint=error.hint) from error
                raise
            except RegistryUnreachable as error:
                if ours:
                    raise
                raise RegistryUnreachable(
                    f"{error.message}, where {self.registry} sends us",
                    hint="if this host is known only where the registry runs, mend the registry's address: "
                    "its setting (http.host of distribution), or the headers Host and X-Forwarded-* that the "
                    "proxy in front of it sets",
                ) from error
            if ours:
                self._warnings.see(answer.headers)
                self._pace.see(answer, turn)
                self._let_in |= (
                    "Authorization" in login
                    and method in ("GET", "HEAD")
                    and answer.status in (200, 204, 404)
                )
            if answer.status == 401 and ours:
                if self._recognition.is_stray(answer, doing):  # our login is not for it
                    self._wait_out(answer, doing)
                try:
                    attempt.challenged(answer)
                except (CredentialsMissing, CredentialsRejected, PermissionDenied) as error:
                    if not answer.headers.get("WWW-Authenticate"):
                        self._wait_out(answer, doing)
                    if isinstance(error, CredentialsRejected) and method in _WRITES and self._let_in:
                        raise self._may_only_read(error) from error
                    raise
                if base is not None and self._auth.uses_tokens:
                    return answer
            elif answer.status == 401 and (redirects == 0 or method not in ("GET", "HEAD")):
                raise AuthenticationUnsupported(
                    f"{self.registry} sends the upload to {host_of(url)}, which wants a login of its own",
                    hint=f"the login for {self.registry} goes to no other host; tell the registry's owner",
                )
            elif answer.status == 403 and ours and not is_page(answer) and attempt.denied():
                pass  # ECR says so of a login that ran out
            elif answer.status in _REDIRECTS and answer.headers.get("Location"):
                redirects += 1
                kept = method in ("GET", "HEAD") or answer.status in (307, 308)
                target = self._redirected(answer, origin, asked, doing) if kept else url
                astray = method in _WRITES and is_page(answer) and not origin.holds(target)
                if redirects > _MOST_REDIRECTS:
                    self._came_from_portal(asked, answer, doing)
                    return answer
                if not kept or astray:
                    return self._judged(answer, doing, ours=ours)
                url = target
            else:
                return answer if base is not None else self._judged(answer, doing, ours=ours)
            if isinstance(body, Body):
                body.rewind()

    def _redirected(self, answer: Answer, origin: Origin, asked: str, doing: str) -> str:
        """Where a redirect leads; a portal's leads to where no registry's may."""
        try:
            return origin.redirect(answer)
        except (LocationRefused, PlainHttpRefused, RegistryRefused):
            self._came_from_portal(asked, answer, doing)
            raise

    def _came_from_portal(self, asked: str, answer: Answer, doing: str) -> None:
        """A redirect to nowhere in answer to what the registry has done before: raises RegistryFault."""
        if self._recognition.has_done(asked, doing):
            self._wait_out(answer, doing)

    def _may_only_read(self, error: CredentialsRejected) -> PermissionDenied:
        """serverless-registry answers 401 to a POST of a user that may pull only."""
        return PermissionDenied(
            f"{error.message}; it has just let the same login read, so this login may not push",
            hint="ask the registry's owner for the right to push, or take another login: "
            f"pusher login {self.registry}",
        )

    def _judged(self, answer: Answer, doing: str, *, ours: bool) -> Answer:
        """The answer if it is the registry's, or if nothing better is to be had."""
        if answer.method == "DELETE" or answer.status in LEFT_ALONE:
            return answer
        if not ours:  # a storage speaks as it likes, but not in pages where a blob is asked for
            if answer.ok and is_page(answer):
                self._recognition.wait_for_registry(answer, doing)
            return answer
        voice = self._recognition.judge(answer, doing)
        if voice is Voice.UNCLEAR and self._recognition.trusted:
            voice = Voice.REGISTRY if self._still_answers() else Voice.FRONT
            if voice is Voice.REGISTRY:
                self._recognition.wait_briefly(answer, doing)
        if voice is Voice.REGISTRY:
            self._recognition.heard(answer, doing)
        elif voice is Voice.FRONT:
            self._wait_out(answer, doing)
        return answer

    def _wait_out(self, answer: Answer, doing: str) -> None:
        """Raise RegistryFault while a front's answer may pass."""
        self._recognition.wait_for_registry(answer, doing, greets=self._still_answers)

    def doubt(self, answer: Answer, doing: str) -> PusherError:
        """The error for a success after which nothing is there; raises what it is once that lasts."""
        self._recognition.wait_for_registry(answer, doing)
        return outage(answer, doing)

    def is_outage(self, answer: Answer, doing: str) -> bool:
        """Whether something else answered, and not for long."""
        if self._recognition.judge(answer, doing) is not Voice.FRONT:
            return False
        try:
            self._recognition.wait_for_registry(answer, doing)
        except RegistryFault:
            return True
        return False

    def _still_answers(self) -> bool:
        """Whether the registry is there at this moment, by its greeting."""
        base = self._reach()
        try:
            answer = self._request("GET", base, (), doing=GREETING, base=base)
        except (CredentialsRejected, PermissionDenied):
            return True
        except PusherError:
            return False
        greets = answer.ok or answer.status == 401
        return greets and self._recognition.judge(answer, GREETING) is Voice.REGISTRY
