"""Proving who we are: the challenge of a registry answered with a credential, by Basic or by Bearer tokens.

A registry is asked without a login first; its 401 says what it wants, and is remembered. Each request goes
its way as an ``Attempt``, which knows what was tried already and so what a further 401 means: a token that
ran out, a scope that was lacking, a credential that its helper has replaced, or a refusal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from pusher.errors import (
    AuthenticationUnsupported,
    CredentialsMissing,
    CredentialsRejected,
    PermissionDenied,
    PusherError,
)
from pusher.registry.answers import read_message
from pusher.registry.auth.challenge import Challenge, choose, parse_challenges, uncovered
from pusher.registry.auth.credentials import Credential
from pusher.registry.auth.tokens import Scopes, Token, TokenCache, TokenServer, basic, of_whom
from pusher.registry.http.answer import Answer
from pusher.registry.http.redaction import for_people
from pusher.registry.http.transport import Transport
from pusher.registry.locations import Origin
from pusher.retry import DEFAULT, RetryPolicy

_MOST_TRIES: Final = 5
"""Times that one request is sent again because of a 401."""

_Server = Callable[..., TokenServer]
Renew = Callable[[Credential], Credential | None]
"""Looks a credential up again, given the one that was rejected."""


@dataclass(frozen=True)
class _Proof:
    """What a request carries to prove who we are."""

    header: str
    credential: Credential | None
    tokens: TokenCache | None = None
    token: Token | None = None


class Authenticator:
    """Holds the credential of one registry and gives each request its Authorization. Thread-safe.

    ``problem``: why there may be a login that was not found; it is raised where one is wanted. ``headers`` go
    with every request to the registry's own host, those to a token server there included.
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
        self.extra = dict(headers or {})
        self._policy = policy
        self._clock = clock
        self._lock = threading.Lock()
        self._renewing = threading.Lock()
        self._challenge: Challenge | None = None
        self._server: _Server | None = None
        self._tokens: TokenCache | None = None
        self._more: dict[tuple[str, Scopes], Scopes] = {}

    @property
    def asked(self) -> bool:
        """Whether the registry has asked for a login at all."""
        with self._lock:
            return self._challenge is not None

    @property
    def uses_tokens(self) -> bool:
        """Whether the registry wants Bearer tokens; False until it was asked."""
        with self._lock:
            return self._challenge is not None and self._challenge.scheme == "bearer"

    def attempt(self, transport: Transport, method: str, scopes: Scopes) -> Attempt:
        """Begin a request to the registry's own host; ``scopes`` are what its token must be good for."""
        return Attempt(self, transport, method, scopes)

    # --- for attempts -------------------------------------------------------------------------------------

    def learn(self, answer: Answer, transport: Transport) -> Challenge:
        """The challenge of a 401, which counts from now on.

        Raises AuthenticationUnsupported, CredentialsMissing, LocationRefused.
        """
        offered = parse_challenges(answer.headers.get("WWW-Authenticate", ""))
        chosen = choose(offered)
        if chosen is None and offered:
            raise self._unsupported(offered)
        with self._lock:
            # gcr.io's 401 had no challenge except in answer to GET /v2/; a front's has none at all
            challenge = chosen or self._challenge or Challenge("basic")
            if challenge.scheme == "basic":
                self._check_basic()
            if self._challenge is None or not challenge.same_as(self._challenge):
                server = None
                if challenge.scheme == "bearer":
                    server = partial(
                        TokenServer,
                        Origin(self._registry, answer.url),
                        challenge,
                        transport,
                        extra=self.extra,
                        policy=self._policy,
                    )
                self._tokens = self._cache(server)
                self._challenge, self._server = challenge, server
            return challenge

    def _unsupported(self, offered: Collection[Challenge]) -> AuthenticationUnsupported:
        if any(challenge.scheme == "bearer" for challenge in offered):
            return AuthenticationUnsupported(
                f"{self._registry} asks for a token and does not say where to get one: "
                "its challenge has no realm",
                hint="tell the registry's owner: the realm must be the address of its token server",
            )
        names = ", ".join(for_people(challenge.scheme).capitalize() for challenge in offered)
        return AuthenticationUnsupported(
            f"{self._registry} asks for {names} authentication, which pusher does not speak",
            hint="ask the registry's owner to allow Basic or Bearer (tokens) for this client",
        )

    def _cache(self, server: _Server | None) -> TokenCache | None:
        return TokenCache(server(credential=self._credential).fetch, self._clock) if server else None

    def _check_basic(self) -> None:
        if self._credential is None:
            raise self._missing("")
        if not self._credential.password:
            raise AuthenticationUnsupported(
                f"{self._registry} asks for a password, and {self._credential.source} has a token instead",
                hint=f"pusher login {self._registry}",
            )

    def proof(self, scopes: Scopes) -> _Proof | None:
        """What to send now; None before the first challenge. Raises what TokenServer.fetch does."""
        with self._lock:
            challenge, credential, tokens = self._challenge, self._credential, self._tokens
        if challenge is None:
            return None
        if credential is not None and challenge.scheme == "basic":
            return _Proof(basic(credential.username, credential.password), credential)
        if credential is not None and credential.registry_token:
            return _Proof(f"Bearer {credential.registry_token}", credential)
        if tokens is None:
            return None
        token = tokens.get(scopes)
        return _Proof(f"Bearer {token.value}", credential, tokens, token)

    def credential(self) -> Credential | None:
        """The one in use now."""
        with self._lock:
            return self._credential

    def renew(self, used: Credential | None) -> bool:
        """``used`` was rejected: look it up again; whether there is another one now."""
        with self._renewing:
            if self.credential() is not used:
                return True  # another thread has
            found = self._look_up(used) if self._look_up and used else None
            if found is None or found == used:
                return False
            with self._lock:
                self._credential = found
                self._tokens = self._cache(self._server)
            return True

    def widened(self, method: str, scopes: Scopes) -> Scopes:
        """The scopes that such a request was found to need."""
        with self._lock:
            return self._more.get((method, scopes), scopes)

    def widen(self, method: str, scopes: Scopes, more: Scopes) -> Scopes:
        """A request with ``scopes`` was refused for want of ``more``."""
        with self._lock:
            # in front: some token servers read the first scope only
            self._more[method, scopes] = more + self._more.get((method, scopes), scopes)
            return self._more[method, scopes]

    def now(self) -> float:
        """Seconds of the clock that tokens live by."""
        return self._clock()

    def refusal(
        self, proof: _Proof | None, challenge: Challenge, answer: Answer, scopes: Scopes
    ) -> PusherError:
        """The error for a 401 that came although everything was tried."""
        message = read_message(answer).text
        words = f": {message}" if message else ""
        login = f"pusher login {self._registry}"
        if proof is None or proof.credential is None:
            return self._missing(words)
        whom = of_whom(proof.credential)
        if proof.token is None:
            return CredentialsRejected(
                f"{self._registry} rejects the credential{whom}{words}",
                hint=f"{proof.credential.doubt}check user name and password; {login} stores new ones",
            )
        if challenge.error == "invalid_token":
            return CredentialsRejected(
                f"{self._registry} rejects the token that its own token server has just given{whom}{words}",
                hint="the clock or the key of one of the two is wrong; tell the registry's owner",
            )
        return PermissionDenied(
            f"{self._registry} does not allow {' '.join(scopes) or 'this'} to the login{whom}{words}",
            hint=f"ask the registry's owner for the right to {_right(scopes)} this repository, or take "
            f"another login: {login}",
        )

    def missing(self, error: CredentialsMissing) -> PusherError:
        """What to raise where there is no login: why it was not found, if that is known."""
        if self._problem is None:
            return error
        return type(self._problem)(self._problem.message, hint=self._problem.hint)

    def _missing(self, words: str) -> PusherError:
        return self.missing(
            CredentialsMissing(
                f"{self._registry} wants a login and no credential is known for it{words}",
                hint=f"pusher login {self._registry}, or give --username with --password-stdin, "
                "or set PUSHER_USERNAME and PUSHER_PASSWORD",
            )
        )


def _right(scopes: Scopes) -> str:
    return "pull from" if scopes and all(scope.endswith(":pull") for scope in scopes) else "push to"


class Attempt:
    """One request's way past the registry's challenges; of one thread."""

    def __init__(self, auth: Authenticator, transport: Transport, method: str, scopes: Scopes) -> None:
        self._auth = auth
        self._transport = transport
        self._method = method
        self._wanted = scopes
        self._began = auth.now()
        self._proof: _Proof | None = None
        self._tries = 0
        self._renewed = False

    def headers(self) -> dict[str, str]:
        """Headers for the request, for the registry's own host only; may ask for a token first.

        Raises what TokenServer.fetch does.
        """
        used = self._auth.credential()
        try:
            self._proof = self._prove()
        except CredentialsMissing as error:
            raise self._auth.missing(error) from error
        except (CredentialsRejected, PermissionDenied):
            if not self._renew(used):
                raise
            self._proof = self._prove()
        login = {"Authorization": self._proof.header} if self._proof else {}
        return {**self._auth.extra, **login}

    def challenged(self, answer: Answer) -> None:
        """The request was answered with 401: get ready to send it once more.

        Raises AuthenticationUnsupported, CredentialsMissing, CredentialsRejected, PermissionDenied if that
        would be in vain.
        """
        self._tries += 1
        challenge = self._auth.learn(answer, self._transport)
        proof = self._proof
        if self._tries >= _MOST_TRIES or not (
            proof is None
            or not proof.header.lower().startswith(challenge.scheme)
            or self._mended(proof, challenge)
            or self._renew(proof.credential)
            # what needs no token was good before, or it would not have been sent at once
            or (proof.token is None and self._tries == 1)
        ):
            raise self._auth.refusal(proof, challenge, answer, self._scopes)

    def denied(self) -> bool:
        """The request was answered with 403: whether another credential is there to try it with."""
        return self._proof is not None and self._renew(self._proof.credential)

    @property
    def _scopes(self) -> Scopes:
        return self._auth.widened(self._method, self._wanted)

    def _prove(self) -> _Proof | None:
        return self._auth.proof(self._scopes)

    def _mended(self, proof: _Proof, challenge: Challenge) -> bool:
        """Whether another token may do."""
        if proof.token is None or proof.tokens is None:
            return False
        scopes = self._scopes
        if more := uncovered(challenge.scopes, scopes):
            self._auth.widen(self._method, self._wanted, more)
            return True
        if self._began <= proof.token.asked_at and self._auth.now() < proof.token.expires_at:
            return False
        proof.tokens.discard(scopes, proof.token)
        return True

    def _renew(self, used: Credential | None) -> bool:
        first, self._renewed = not self._renewed, True
        return first and self._auth.renew(used)
