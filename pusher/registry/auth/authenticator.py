"""Answer the challenges of a registry with a credential, by Basic or Bearer authentication.

The first request carries no login; the challenge in its 401 is remembered. An ``AuthenticatedRequest`` knows
what has been tried, and so what one more 401 means: an expired token, a missing scope, a credential that its
helper has replaced, or a refusal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final

from pusher.dataclass import dataclass
from pusher.errors import (
    AuthenticationUnsupported,
    CredentialsMissing,
    CredentialsRejected,
    PermissionDenied,
    PusherError,
)
from pusher.registry.answers import read_message
from pusher.registry.auth.challenge import Challenge, choose_challenge, missing_scopes, parse_challenges
from pusher.registry.auth.credentials import Credential
from pusher.registry.auth.tokens import (
    Scopes,
    Token,
    TokenCache,
    TokenServer,
    basic_authorization,
    describe_credential,
)
from pusher.registry.http.answer import Answer
from pusher.registry.http.redaction import for_display
from pusher.registry.http.transport import Transport
from pusher.registry.locations import Origin
from pusher.retry import DEFAULT, RetryPolicy

_MAX_TRIES: Final = 5
"""Times that one request is sent again because of a 401."""

_Server = Callable[..., TokenServer]
Renew = Callable[[Credential | None], Credential | None]
"""Looks up a credential again, given the rejected one; None if there was none."""


@dataclass(frozen=True)
class _Authorization:
    """The Authorization of one request, and its source."""

    header: str
    credential: Credential | None
    tokens: TokenCache | None = None
    token: Token | None = None


class Authenticator:
    """Holds the credential of one registry and authorizes each request. Thread-safe.

    ``problem``: why a login may exist that was not found; raised if the registry requires one. ``headers``
    are sent with every request to the registry's own host, including those to a token server there.
    """

    def __init__(
        self,
        registry: str,
        credential: Credential | None,
        *,
        renew: Renew | None = None,
        problem: PusherError | None = None,
        headers: Mapping[str, str] | None = None,
        policy: RetryPolicy = DEFAULT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._credential = credential
        self._look_up = renew
        self._problem = problem
        self.extra_headers = dict(headers or {})
        self._policy = policy
        self._clock = clock
        self._lock = threading.Lock()
        self._renewing = threading.Lock()
        self._challenge: Challenge | None = None
        self._server: _Server | None = None
        self._tokens: TokenCache | None = None
        self._added_scopes: dict[tuple[str, Scopes], Scopes] = {}

    @property
    def was_challenged(self) -> bool:
        """Return whether the registry has requested a login."""
        with self._lock:
            return self._challenge is not None

    @property
    def uses_tokens(self) -> bool:
        """Return whether the registry requires Bearer tokens; False until it has sent a challenge."""
        with self._lock:
            return self._challenge is not None and self._challenge.scheme == "bearer"

    def begin_request(self, transport: Transport, method: str, scopes: Scopes) -> AuthenticatedRequest:
        """Begin a request to the registry's own host; ``scopes`` are those that its token needs."""
        return AuthenticatedRequest(self, transport, method, scopes)

    # --- for requests -------------------------------------------------------------------------------------

    def apply_challenge(self, answer: Answer, transport: Transport) -> Challenge:
        """Return the challenge of a 401, which applies to all requests from now on.

        Raises AuthenticationUnsupported, CredentialsMissing, LocationRefused.
        """
        offered = parse_challenges(answer.headers.get("WWW-Authenticate", ""))
        chosen = choose_challenge(offered)
        if chosen is None and offered:
            raise self._unsupported_error(offered)
        with self._lock:
            # gcr.io's 401 had a challenge only in answer to GET /v2/; an intermediary's has none
            challenge = chosen or self._challenge or Challenge("basic")
            if challenge.scheme == "basic":
                self._check_basic()
            if self._challenge is None or not challenge.is_equivalent(self._challenge):
                server = None
                if challenge.scheme == "bearer":
                    server = partial(
                        TokenServer,
                        Origin(self._registry, answer.url),
                        challenge,
                        transport,
                        extra=self.extra_headers,
                        policy=self._policy,
                    )
                self._tokens = self._cache(server)
                self._challenge, self._server = challenge, server
            return challenge

    def _unsupported_error(self, offered: Collection[Challenge]) -> AuthenticationUnsupported:
        if any(challenge.scheme == "bearer" for challenge in offered):
            return AuthenticationUnsupported(
                f"{self._registry} asks for a token but does not say where to get one: "
                "its challenge has no realm",
                hint="report it to the registry's administrator: the realm must be the URL of its token "
                "server",
            )
        names = ", ".join(for_display(challenge.scheme).capitalize() for challenge in offered)
        return AuthenticationUnsupported(
            f"{self._registry} asks for {names} authentication, which pusher does not support",
            hint="ask the registry's administrator to allow Basic or Bearer (tokens) for this client",
        )

    def _cache(self, server: _Server | None) -> TokenCache | None:
        return TokenCache(server(credential=self._credential).fetch, self._clock) if server else None

    def _check_basic(self) -> None:
        if self._credential is None:
            raise self._missing_error("")
        if not self._credential.password:
            raise AuthenticationUnsupported(
                f"{self._registry} asks for a password, and {self._credential.source} has a token instead",
                hint=f"pusher login {self._registry}",
            )

    def authorization(self, scopes: Scopes) -> _Authorization | None:
        """Return the authorization to send now; None before the first challenge. Raises the errors of
        TokenServer.fetch."""
        with self._lock:
            challenge, credential, tokens = self._challenge, self._credential, self._tokens
        if challenge is None:
            return None
        if credential is not None and challenge.scheme == "basic":
            return _Authorization(basic_authorization(credential.username, credential.password), credential)
        if credential is not None and credential.registry_token:
            return _Authorization(f"Bearer {credential.registry_token}", credential)
        if tokens is None:
            return None
        token = tokens.get(scopes)
        return _Authorization(f"Bearer {token.value}", credential, tokens, token)

    def credential(self) -> Credential | None:
        """Return the credential in use."""
        with self._lock:
            return self._credential

    def renew(self, used: Credential | None) -> bool:
        """Look up a rejected or missing credential again; return whether a different one was found."""
        with self._renewing:
            if self.credential() is not used:
                return True  # another thread has renewed it
            found = self._look_up(used) if self._look_up else None
            if found is None or found == used:
                return False
            with self._lock:
                self._credential = found
                self._tokens = self._cache(self._server)
            return True

    def wider_scopes(self, method: str, scopes: Scopes) -> Scopes:
        """Return the scopes that such a request needs, as far as is known."""
        with self._lock:
            return self._added_scopes.get((method, scopes), scopes)

    def add_scopes(self, method: str, scopes: Scopes, more: Scopes) -> Scopes:
        """Record that a request with ``scopes`` needs ``more``; return all of them."""
        with self._lock:
            # first: some token servers read only the first scope
            self._added_scopes[method, scopes] = more + self._added_scopes.get((method, scopes), scopes)
            return self._added_scopes[method, scopes]

    def now(self) -> float:
        """Return the time of the clock by which tokens expire."""
        return self._clock()

    def refusal(
        self, authorization: _Authorization | None, challenge: Challenge, answer: Answer, scopes: Scopes
    ) -> PusherError:
        """Return the error for a 401 if no retry can help."""
        message = read_message(answer).text
        words = f": {message}" if message else ""
        login = f"pusher login {self._registry}"
        if authorization is None or authorization.credential is None:
            return self._missing_error(words)
        whom = describe_credential(authorization.credential)
        if authorization.token is None:
            warning = authorization.credential.password_warning
            return CredentialsRejected(
                f"{self._registry} rejects the credential{whom}{words}",
                hint=f"{warning}check user name and password; {login} stores new ones",
            )
        if challenge.error == "invalid_token":
            return CredentialsRejected(
                f"{self._registry} rejects the token that its own token server has just issued{whom}{words}",
                hint="the clock or the key of one of the two is wrong; report it to the registry's "
                "administrator",
            )
        return PermissionDenied(
            f"{self._registry} does not allow {' '.join(scopes) or 'this'} to the login{whom}{words}",
            hint=f"ask the registry's administrator for permission to {_action_of(scopes)} this "
            "repository, or take "
            f"another login: {login}",
        )

    def missing_error(self, error: CredentialsMissing) -> PusherError:
        """Return the error for a missing login: why it was not found, if that is known."""
        if self._problem is None:
            return error
        return type(self._problem)(self._problem.message, hint=self._problem.hint)

    def _missing_error(self, words: str) -> PusherError:
        return self.missing_error(
            CredentialsMissing(
                f"{self._registry} requires a login, and no credential is known for it{words}",
                hint=f"pusher login {self._registry}, or give --username with --password-stdin, "
                "or set PUSHER_USERNAME and PUSHER_PASSWORD",
            )
        )


def _action_of(scopes: Scopes) -> str:
    return "pull from" if scopes and all(scope.endswith(":pull") for scope in scopes) else "push to"


class AuthenticatedRequest:
    """One request and the challenges to it. Used by one thread."""

    def __init__(self, auth: Authenticator, transport: Transport, method: str, scopes: Scopes) -> None:
        self._auth = auth
        self._transport = transport
        self._method = method
        self._wanted = scopes
        self._began = auth.now()
        self._authorization: _Authorization | None = None
        self._tries = 0
        self._renewed = False

    def headers(self) -> dict[str, str]:
        """Return the headers of the request, for the registry's own host only; may request a token first.

        Raises the errors of TokenServer.fetch.
        """
        used = self._auth.credential()
        try:
            self._authorization = self._authorize()
        except (CredentialsMissing, CredentialsRejected, PermissionDenied) as error:
            if self._renew(used):
                self._authorization = self._authorize()
            elif isinstance(error, CredentialsMissing):
                raise self._auth.missing_error(error) from error
            else:
                raise
        login = {"Authorization": self._authorization.header} if self._authorization else {}
        return {**self._auth.extra_headers, **login}

    def handle_challenge(self, answer: Answer) -> None:
        """Prepare to send the request again after a 401.

        Raises AuthenticationUnsupported, CredentialsMissing, CredentialsRejected, PermissionDenied if that
        cannot help.
        """
        self._tries += 1
        try:
            challenge = self._auth.apply_challenge(answer, self._transport)
        except CredentialsMissing:
            if not self._renew(None):
                raise
            challenge = self._auth.apply_challenge(answer, self._transport)
        authorization = self._authorization
        if self._tries >= _MAX_TRIES or not (
            authorization is None
            or not authorization.header.lower().startswith(challenge.scheme)
            or self._can_use_another_token(authorization, challenge)
            or self._renew(authorization.credential)
            # Basic was accepted before, or it would not have been sent at once
            or (authorization.token is None and self._tries == 1)
        ):
            raise self._auth.refusal(authorization, challenge, answer, self._scopes)

    def renew_after_denial(self) -> bool:
        """Look for another credential after a 403; return whether there is one."""
        return self._authorization is not None and self._renew(self._authorization.credential)

    @property
    def _scopes(self) -> Scopes:
        return self._auth.wider_scopes(self._method, self._wanted)

    def _authorize(self) -> _Authorization | None:
        return self._auth.authorization(self._scopes)

    def _can_use_another_token(self, authorization: _Authorization, challenge: Challenge) -> bool:
        """Return whether another token may be accepted."""
        if authorization.token is None or authorization.tokens is None:
            return False
        scopes = self._scopes
        if more := missing_scopes(challenge.scopes, scopes):
            self._auth.add_scopes(self._method, self._wanted, more)
            return True
        if self._began <= authorization.token.asked_at and self._auth.now() < authorization.token.expires_at:
            return False
        authorization.tokens.discard(scopes, authorization.token)
        return True

    def _renew(self, used: Credential | None) -> bool:
        first, self._renewed = not self._renewed, True
        return first and self._auth.renew(used)
