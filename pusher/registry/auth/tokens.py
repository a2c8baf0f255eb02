"""Request Bearer tokens from the token server in a challenge, and cache them until they expire.

The protocol is distribution's (docs/content/spec/auth/token.md, and oauth.md for identity tokens). Times are
of the local monotonic clock, not the server's.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import field
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from pusher.dataclass import dataclass
from pusher.errors import (
    ConnectionBroken,
    CredentialsMissing,
    CredentialsRejected,
    LocationRefused,
    PermissionDenied,
    PlainHttpRefused,
    PusherError,
    RegistryFault,
    RegistryRefused,
    RegistryUnreachable,
)
from pusher.registry.answers import UNAMBIGUOUS, is_page, outage, read_message, refusal
from pusher.registry.auth.challenge import Challenge
from pusher.registry.auth.credentials import Credential
from pusher.registry.http.answer import Answer
from pusher.registry.http.redaction import for_display, host_of
from pusher.registry.http.transport import Transport
from pusher.registry.locations import Origin
from pusher.retry import DEFAULT, RetryPolicy
from pusher.secret import note_secret, raw

Scopes = tuple[str, ...]

_DEFAULT_LIFE: Final = 60.0
"""Lifetime in seconds if an answer does not give one (token.md, expires_in)."""
_RENEW_BEFORE: Final = 30.0
"""Seconds before a token expires that another is requested; half its lifetime if that is shorter."""
_LONGEST_ANSWER: Final = 256 * 1024
"""Bytes; tokens have a few thousand at most."""
_MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_IDENTITY_REJECTED: Final = frozenset({"invalid_grant", "invalid_client"})
"""Errors of OAuth2 that reject an identity token (RFC 6749 5.2)."""
_IDENTITY_USER: Final = "<token>"
"""The user name of an identity token (docker-credential-helpers)."""


@dataclass(frozen=True)
class Token:
    """A token; its times are those of the cache's clock."""

    value: str = field(repr=False)
    asked_at: float
    expires_at: float

    def __post_init__(self) -> None:
        note_secret(self.value, passing=True)

    @property
    def renew_at(self) -> float:
        life = self.expires_at - self.asked_at
        return self.expires_at - min(_RENEW_BEFORE, life / 2)


def basic_authorization(username: str, password: str) -> str:
    """Return the Authorization of Basic. serverless-registry compares its name with case."""
    return "Basic " + base64.b64encode(raw(f"{username}:{password}")).decode("ascii")


class TokenServer:
    """The token server of one registry, as a challenge names it. Thread-safe."""

    def __init__(
        self,
        origin: Origin,
        challenge: Challenge,
        transport: Transport,
        credential: Credential | None,
        *,
        extra: Mapping[str, str] | None = None,
        policy: RetryPolicy = DEFAULT,
    ) -> None:
        """``extra`` headers are sent to the registry's own host only."""
        self._registry = origin.registry
        self._realm = Origin(origin.registry, origin.resolve_realm(challenge.realm))
        self._origin = origin
        self._extra = extra or {}
        self._policy = policy
        self._service = challenge.service
        self._credential = credential
        self._transport = transport
        self._identity = credential.identity_token if credential else None
        self._identity_lock = threading.Lock()
        self._has_given_token = False
        self._away_since: float | None = None  # since an intermediary answers

    @property
    def host(self) -> str:
        return host_of(self._realm.url)

    def fetch(self, scopes: Scopes) -> tuple[str, float]:
        """Request a token; return it and its lifetime in seconds. It may have fewer scopes than requested.

        Raises CredentialsRejected, CredentialsMissing, PermissionDenied, RegistryRefused for an answer
        without a token, RegistryBusy, RegistryFault and the transport's errors.
        """
        try:
            if self._identity is None:
                answer = self._get(scopes)
                if answer.status == 405 and self._credential is not None:  # only OAuth2 (oauth.md)
                    answer = self._post(scopes)
                return self._read_token(answer, scopes)
            with self._identity_lock:  # each use may replace it
                answer = self._post(scopes)
                if answer.status in (404, 405):  # without OAuth2 (oauth.md)
                    answer = self._get(scopes)
                return self._read_token(answer, scopes)
        except RegistryUnreachable as error:
            raise type(error)(f"no token for {self._registry}: {error.message}", hint=error.hint) from error
        except ConnectionBroken as error:  # an upload would take it for its own connection's
            raise RegistryFault(
                f"no token for {self._registry}: {error.message}", hint="pusher waits and continues"
            ) from error

    def _get(self, scopes: Scopes) -> Answer:
        query: list[tuple[str, str | bytes]] = [("service", self._service)] if self._service else []
        query += [("scope", scope) for scope in scopes]
        login = {}
        if self._credential is not None:
            user = self._credential.username or _IDENTITY_USER
            query.append(("account", raw(user)))
            login["Authorization"] = basic_authorization(user, self._identity or self._credential.password)
        url = self._realm.url
        if query:
            url += ("&" if urlsplit(url).query else "?") + urlencode(query, safe="/:,*")
        for _ in range(_MAX_REDIRECTS):
            answer = self._send("GET", url, login if self._realm.is_same_host(url) else {})
            if answer.status not in _REDIRECTS or not answer.headers.get("Location"):
                break
            try:
                url = self._realm.resolve_redirect(answer)
            except (LocationRefused, PlainHttpRefused, RegistryRefused):
                self._raise_during_outage(answer)
                raise
        return answer

    def _post(self, scopes: Scopes) -> Answer:
        """Send a POST without following redirects: the body has the secret."""
        secret: dict[str, bytes] = {}
        if self._identity is not None:
            secret = {"refresh_token": raw(self._identity)}
        elif (login := self._credential) is not None:
            secret = {"username": raw(login.username), "password": raw(login.password)}
        form = {
            "grant_type": "password" if self._identity is None else "refresh_token",
            "service": self._service,
            "client_id": "pusher",
            "scope": " ".join(scopes),
            **secret,
        }
        of_form = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._send("POST", self._realm.url, of_form, urlencode(form).encode())

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        return self._transport.send(
            method,
            url,
            headers={**(self._extra if self._origin.is_same_host(url) else {}), **headers},
            body=body,
            limit=_LONGEST_ANSWER,
            sent_by=self._origin.url,
        )

    def _raise_during_outage(self, answer: Answer) -> None:
        """Raise RegistryFault for an intermediary's answer while the outage may pass."""
        if not self._has_given_token or answer.status in UNAMBIGUOUS:
            return
        now = time.monotonic()
        self._away_since = self._away_since or now
        if now - self._away_since < self._policy.outage:
            raise outage(answer, f"asking for a token of {self._registry}")

    def _read_token(self, answer: Answer, scopes: Scopes) -> tuple[str, float]:
        reply = _json_object(answer)
        own_no = answer.status in (400, 401, 403) and not is_page(answer)
        if not answer.ok:
            if not (own_no or reply):
                self._raise_during_outage(answer)
            raise self._refusal(answer, scopes)
        token = reply.get("token") or reply.get("access_token")
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            self._raise_during_outage(answer)
            raise RegistryRefused(
                f"{self.host}, the token server of {self._registry}, sent an answer without a token",
                hint="report it to the registry's administrator, or check whether a proxy answers instead",
            )
        self._has_given_token, self._away_since = True, None
        renewed = reply.get("refresh_token")
        if self._identity is not None and isinstance(renewed, str) and renewed:
            self._identity = renewed
            note_secret(renewed, username=_IDENTITY_USER)
        return token, _lifetime(reply.get("expires_in"))

    def _refusal(self, answer: Answer, scopes: Scopes) -> PusherError:
        what = f" for {' '.join(scopes)}" if scopes else ""
        error = str(_json_object(answer).get("error") or "")  # OAuth2's form of an error (RFC 6749 5.2)
        words = for_display(error) or read_message(answer).text
        said = f" ({answer.status}: {words})" if words else f" ({answer.status})"
        where = f"{self.host}, the token server of {self._registry},"
        if answer.status in (401, 403) and self._credential is None:
            return CredentialsMissing(
                f"{where} issues no token{what} without a login, and no credential is known{said}",
                hint=f"pusher login {self._registry}",
            )
        if answer.status == 401 or (self._identity is not None and error in _IDENTITY_REJECTED):
            doubt = self._credential.password_warning if self._credential else ""
            return CredentialsRejected(
                f"{where} rejects the credential{describe_credential(self._credential)}{said}",
                hint=f"{doubt}pusher login {self._registry} stores a new one",
            )
        if answer.status == 403:
            return PermissionDenied(
                f"{where} refuses a token{what}{describe_credential(self._credential)}{said}",
                hint="ask the registry's administrator for permission to push to this repository, or take "
                "another "
                f"login: pusher login {self._registry}",
            )
        return refusal(answer, doing=f"asking for a token of {self._registry}{what}")


def describe_credential(credential: Credential | None) -> str:
    """Return the user and source of a credential, to follow a word; never the secret."""
    if credential is None:
        return ""
    user = f" for user {credential.username}" if credential.username not in ("", _IDENTITY_USER) else ""
    return f"{user} ({credential.source})"


class TokenCache:
    """Tokens by their scopes; each is requested once, however many threads need it. Thread-safe."""

    def __init__(
        self,
        fetch: Callable[[Scopes], tuple[str, float]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: dict[Scopes, Token] = {}
        self._pending: dict[Scopes, Future[Token]] = {}

    def get(self, scopes: Scopes) -> Token:
        """Return a token that does not expire soon, cached or requested. Raises the errors of ``fetch``."""
        with self._lock:
            token = self._tokens.get(scopes)
            if token is not None and self._clock() < token.renew_at:
                return token
            pending = self._pending.get(scopes)
            if mine := pending is None:
                pending = self._pending[scopes] = Future()
        if mine:
            self._fill(scopes, pending)
        return pending.result()

    def _fill(self, scopes: Scopes, pending: Future[Token]) -> None:
        try:
            asked_at = self._clock()  # before the request, so that its lifetime is never overestimated
            value, life = self._fetch(scopes)
            token = Token(value, asked_at, asked_at + life)
        except BaseException as error:
            self._finish(scopes, None)
            pending.set_exception(error)
        else:
            self._finish(scopes, token)
            pending.set_result(token)

    def _finish(self, scopes: Scopes, token: Token | None) -> None:
        with self._lock:
            del self._pending[scopes]
            if token is not None:
                self._tokens[scopes] = token

    def discard(self, scopes: Scopes, token: Token) -> None:
        """Remove a token that the registry rejected."""
        with self._lock:
            if self._tokens.get(scopes) is token:
                del self._tokens[scopes]


def _json_object(answer: Answer) -> dict[str, Any]:
    try:
        reply = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return reply if isinstance(reply, dict) else {}


def _lifetime(seconds: object) -> float:
    try:
        life = float(str(seconds))  # some send it as text
    except ValueError:
        return _DEFAULT_LIFE
    return min(life, 24 * 3600.0) if life > 0 else _DEFAULT_LIFE
