"""Bearer tokens: asked of the token server that a registry's challenge names, kept until they run out.

The protocol is distribution's (docs/content/spec/auth/token.md, and oauth.md for identity tokens). Times are
those of a monotonic clock here: no server's clock is believed.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

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
from pusher.registry.answers import LEFT_ALONE, is_page, outage, read_message, refusal
from pusher.registry.auth.challenge import Challenge
from pusher.registry.auth.credentials import Credential
from pusher.registry.http.answer import Answer
from pusher.registry.http.redaction import for_people, host_of
from pusher.registry.http.transport import Transport
from pusher.registry.locations import Origin
from pusher.retry import DEFAULT, RetryPolicy
from pusher.secret import note_secret, raw

Scopes = tuple[str, ...]

_DEFAULT_LIFE: Final = 60.0
"""Seconds that a token lives whose answer does not say (token.md, expires_in)."""
_RENEW_BEFORE: Final = 30.0
"""Seconds before its end that a token is not used any more; half its life if that is shorter."""
_LONGEST_ANSWER: Final = 256 * 1024
"""Bytes; tokens have some thousands at most."""
_MOST_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_NOT_YOU: Final = frozenset({"invalid_grant", "invalid_client"})
"""Errors of OAuth2 by which an identity token is rejected (RFC 6749 5.2)."""
_IDENTITY_USER: Final = "<token>"
"""The user name of an identity token (docker-credential-helpers)."""


@dataclass(frozen=True)
class Token:
    """What a token server gave; times are those of the cache's clock."""

    value: str = field(repr=False)
    asked_at: float
    expires_at: float

    def __post_init__(self) -> None:
        note_secret(self.value, passing=True)

    @property
    def renew_at(self) -> float:
        life = self.expires_at - self.asked_at
        return self.expires_at - min(_RENEW_BEFORE, life / 2)


def basic(username: str, password: str) -> str:
    """The Authorization of Basic, its name as serverless-registry compares it, with its case."""
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
        """``extra`` headers go with requests to the registry's own host alone."""
        self._registry = origin.registry
        self._realm = Origin(origin.registry, origin.realm(challenge.realm))
        self._origin = origin
        self._extra = extra or {}
        self._policy = policy
        self._service = challenge.service
        self._credential = credential
        self._transport = transport
        self._identity = credential.identity_token if credential else None
        self._identity_lock = threading.Lock()
        self._proven = False  # it has given a token
        self._away_since: float | None = None  # something else answers in its place

    @property
    def host(self) -> str:
        return host_of(self._realm.url)

    def fetch(self, scopes: Scopes) -> tuple[str, float]:
        """A token and the seconds that it lives from now on. It may be good for less than was asked.

        Raises CredentialsRejected, CredentialsMissing, PermissionDenied, RegistryRefused for an answer
        that holds no token, RegistryBusy, RegistryFault and the transport's errors.
        """
        try:
            if self._identity is None:
                answer = self._get(scopes)
                if answer.status == 405 and self._credential is not None:  # OAuth2 alone (oauth.md)
                    answer = self._post(scopes)
                return self._read(answer, scopes)
            with self._identity_lock:  # each use may bring the next one
                answer = self._post(scopes)
                if answer.status in (404, 405):  # no OAuth2 there (oauth.md)
                    answer = self._get(scopes)
                return self._read(answer, scopes)
        except RegistryUnreachable as error:
            raise type(error)(f"no token for {self._registry}: {error.message}", hint=error.hint) from error
        except ConnectionBroken as error:  # by which an upload would judge its own connection
            raise RegistryFault(
                f"no token for {self._registry}: {error.message}", hint="pusher waits and goes on"
            ) from error

    def _get(self, scopes: Scopes) -> Answer:
        query: list[tuple[str, str | bytes]] = [("service", self._service)] if self._service else []
        query += [("scope", scope) for scope in scopes]
        login = {}
        if self._credential is not None:
            user = self._credential.username or _IDENTITY_USER
            query.append(("account", raw(user)))
            login["Authorization"] = basic(user, self._identity or self._credential.password)
        url = self._realm.url
        if query:
            url += ("&" if urlsplit(url).query else "?") + urlencode(query, safe="/:,*")
        for _ in range(_MOST_REDIRECTS):
            answer = self._send("GET", url, login if self._realm.holds(url) else {})
            if answer.status not in _REDIRECTS or not answer.headers.get("Location"):
                break
            try:
                url = self._realm.redirect(answer)
            except (LocationRefused, PlainHttpRefused, RegistryRefused):
                self._wait_out(answer)
                raise
        return answer

    def _post(self, scopes: Scopes) -> Answer:
        """Not redirected: the secret is in the body."""
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
            headers={**(self._extra if self._origin.holds(url) else {}), **headers},
            body=body,
            limit=_LONGEST_ANSWER,
            sent_by=self._origin.url,
        )

    def _wait_out(self, answer: Answer) -> None:
        """Something else answers: raise RegistryFault while that may pass, for it has given tokens before."""
        if not self._proven or answer.status in LEFT_ALONE:
            return
        now = time.monotonic()
        self._away_since = self._away_since or now
        if now - self._away_since < self._policy.outage:
            raise outage(answer, f"asking for a token of {self._registry}")

    def _read(self, answer: Answer, scopes: Scopes) -> tuple[str, float]:
        reply = _json(answer)
        own_no = answer.status in (400, 401, 403) and not is_page(answer)
        if not answer.ok:
            if not (own_no or reply):
                self._wait_out(answer)
            raise self._refusal(answer, scopes)
        token = reply.get("token") or reply.get("access_token")
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            self._wait_out(answer)
            raise RegistryRefused(
                f"{self.host}, the token server of {self._registry}, gave an answer without a token",
                hint="tell the registry's owner, or check whether a proxy answers in its place",
            )
        self._proven, self._away_since = True, None
        renewed = reply.get("refresh_token")
        if self._identity is not None and isinstance(renewed, str) and renewed:
            self._identity = renewed
            note_secret(renewed, username=_IDENTITY_USER)
        return token, _life(reply.get("expires_in"))

    def _refusal(self, answer: Answer, scopes: Scopes) -> PusherError:
        what = f" for {' '.join(scopes)}" if scopes else ""
        error = str(_json(answer).get("error") or "")  # OAuth2's form of an error (RFC 6749 5.2)
        words = for_people(error) or read_message(answer).text
        said = f" ({answer.status}: {words})" if words else f" ({answer.status})"
        where = f"{self.host}, the token server of {self._registry},"
        if answer.status in (401, 403) and self._credential is None:
            return CredentialsMissing(
                f"{where} gives no token{what} without a login, and no credential is known{said}",
                hint=f"pusher login {self._registry}",
            )
        if answer.status == 401 or (self._identity is not None and error in _NOT_YOU):
            doubt = self._credential.doubt if self._credential else ""
            return CredentialsRejected(
                f"{where} rejects the credential{of_whom(self._credential)}{said}",
                hint=f"{doubt}pusher login {self._registry} stores a new one",
            )
        if answer.status == 403:
            return PermissionDenied(
                f"{where} refuses a token{what}{of_whom(self._credential)}{said}",
                hint="ask the registry's owner for the right to push to this repository, or take another "
                f"login: pusher login {self._registry}",
            )
        return refusal(answer, doing=f"asking for a token of {self._registry}{what}")


def of_whom(credential: Credential | None) -> str:
    """Whose credential it is and where it was found, to be put behind a word; never the secret."""
    if credential is None:
        return ""
    user = f" for user {credential.username}" if credential.username not in ("", _IDENTITY_USER) else ""
    return f"{user} ({credential.source})"


class TokenCache:
    """Tokens by their scopes; each is asked for once, however many threads need it. Thread-safe."""

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
        """A token that will live for a while, kept or from the server. Raises what ``fetch`` does."""
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
            asked_at = self._clock()  # it was issued after this: so it never counts as alive for too long
            value, life = self._fetch(scopes)
            token = Token(value, asked_at, asked_at + life)
        except BaseException as error:
            self._settle(scopes, None)
            pending.set_exception(error)
        else:
            self._settle(scopes, token)
            pending.set_result(token)

    def _settle(self, scopes: Scopes, token: Token | None) -> None:
        with self._lock:
            del self._pending[scopes]
            if token is not None:
                self._tokens[scopes] = token

    def discard(self, scopes: Scopes, token: Token) -> None:
        """The registry refused it: ask for another the next time."""
        with self._lock:
            if self._tokens.get(scopes) is token:
                del self._tokens[scopes]


def _json(answer: Answer) -> dict[str, Any]:
    try:
        reply = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return reply if isinstance(reply, dict) else {}


def _life(seconds: object) -> float:
    try:
        life = float(str(seconds))  # some send it as text
    except ValueError:
        return _DEFAULT_LIFE
    return min(life, 24 * 3600.0) if life > 0 else _DEFAULT_LIFE
