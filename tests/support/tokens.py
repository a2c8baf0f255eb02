"""A token server on a real socket, and what makes a fake registry demand its tokens.

with TokenServer(life=3) as tokens, FakeRegistry() as registry:
    registry.faults.add(demand(tokens))
"""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

from tests.registry.sites import Seen, Site
from tests.support.fakeregistry import Action, Fault, On
from tests.support.fakeregistry.rules import Exchange, problem
from tests.support.fakeregistry.wire import Reply

SERVICE: Final = "a test"
Grants = dict[str, set[str]]
"""``repository:NAME`` -> actions."""
_NEEDED: Final = {"HEAD": {"pull"}, "GET": {"pull"}, "DELETE": {"delete"}}


@dataclass(frozen=True)
class Asked:
    """One request for a token."""

    method: str
    service: str
    scopes: tuple[str, ...]
    login: tuple[str, str] | None
    form: dict[str, str]
    at: float = field(default_factory=time.monotonic)


def grants_of(scopes: Collection[str]) -> Grants:
    granted: Grants = defaultdict(set)
    for scope in scopes:
        resource, _, actions = scope.rpartition(":")
        granted[resource] |= set(actions.split(","))
    return granted


class TokenServer:
    """Gives tokens that live ``life`` seconds to ``login``, or for the identity token in ``identity``.

    ``allowed`` takes from a grant what the login may not have; ``anonymous`` gives tokens without a login.
    All of it may be changed while it runs. ``answers`` are given in place of its own, once each.
    """

    def __init__(
        self,
        *,
        login: tuple[str, str] = ("ann", "s3cr3t"),
        life: int = 60,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.login = login
        self.life = life
        self.identity: str | None = None
        self.rotates = False
        self.anonymous = False
        self.oauth_status: int | None = None
        """Of every POST."""
        self.allowed: Callable[[str, str], bool] = lambda resource, action: action != "delete"
        self.answers: list[Reply] = []
        self.asked: list[Asked] = []
        self.given: list[str] = []
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[float, Grants]] = {}
        self.site = Site(self._answer, tls)

    @property
    def realm(self) -> str:
        return f"{self.site.url}/token"

    def __enter__(self) -> Self:
        self.site.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.site.__exit__()

    def make(self, granted: Grants) -> str:
        """A new token; another kind of server makes others."""
        token = secrets.token_urlsafe(24)
        self._tokens[token] = (time.monotonic() + self.life, granted)
        return token

    def refusal(self, header: str, needed: Grants) -> str | None:
        """The ``error`` of a challenge for a request with this Authorization; None if the token will do."""
        scheme, _, token = header.partition(" ")
        with self._lock:
            ends, granted = self._tokens.get(token, (0.0, {}))
        if scheme != "Bearer" or time.monotonic() >= ends:
            return "invalid_token"
        enough = all(actions <= granted.get(resource, set()) for resource, actions in needed.items())
        return None if enough else "insufficient_scope"

    def revoke(self) -> None:
        """All tokens end now."""
        with self._lock:
            self._tokens.clear()

    def _answer(self, seen: Seen) -> Reply:
        query = parse_qs(seen.body.decode() if seen.method == "POST" else urlsplit(seen.target).query)
        form = {name: values[-1] for name, values in query.items()}
        scopes = tuple(scope for value in query.get("scope", ()) for scope in value.split())
        login = _login(seen.headers.get("authorization", ""))
        with self._lock:
            self.asked.append(Asked(seen.method, form.get("service", ""), scopes, login, form))
            if self.answers:
                return self.answers.pop(0)
            if urlsplit(seen.target).path != urlsplit(self.realm).path:  # a portal's /login, say
                return Reply(404, {"Content-Type": "text/plain"}, b"404 page not found\n")
            return self._decide(seen.method, form, scopes, login)

    def _decide(
        self, method: str, form: dict[str, str], scopes: tuple[str, ...], login: tuple[str, str] | None
    ) -> Reply:
        more = {}
        if method == "POST":
            if self.oauth_status is not None:
                return Reply(self.oauth_status)
            if self.identity is None or form.get("refresh_token") != self.identity:
                return Reply(400, {}, b'{"error": "invalid_grant"}')
            if self.rotates:
                self.identity = more["refresh_token"] = secrets.token_urlsafe(8)
        elif login != self.login and not (login is None and self.anonymous):
            return problem(401, "UNAUTHORIZED", "who are you")
        granted = {
            resource: {action for action in actions if self.allowed(resource, action)}
            for resource, actions in grants_of(scopes).items()
        }
        token = self.make(granted)
        self.given.append(token)
        name = "access_token" if method == "POST" else "token"
        return Reply(200, {}, json.dumps({name: token, "expires_in": self.life, **more}).encode())


@dataclass
class Demand(Action):
    """Lets no request pass without a token for what it does (distribution ``registry/handlers/app.go``)."""

    tokens: TokenServer
    scheme: str = "Bearer"
    tells_scope: bool = True
    refused: list[str] = field(default_factory=list)
    """``METHOD error`` of every request that was sent with an Authorization and refused."""

    def answer(self, exchange: Exchange) -> Reply | None:
        request, route = exchange.request, exchange.route
        needed: Grants = {}
        if route.repository:
            needed[f"repository:{route.repository}"] = _NEEDED.get(request.method, {"pull", "push"})
        if "mount" in request.query:
            needed[f"repository:{request.query['from']}"] = {"pull"}
        header = request.headers.get("authorization", "")
        error = self.tokens.refusal(header, needed)
        if error is None:
            return None
        challenge = f'{self.scheme} realm="{self.tokens.realm}",service="{SERVICE}"'
        if self.tells_scope and needed:
            scopes = " ".join(f"{name}:{','.join(sorted(actions))}" for name, actions in needed.items())
            challenge += f',scope="{scopes}"'
        if header:
            self.refused.append(f"{request.method} {error}")
            challenge += f',error="{error}"'
        return problem(401, "UNAUTHORIZED", "authentication required", **{"WWW-Authenticate": challenge})


def demand(tokens: TokenServer, **options: object) -> Fault:
    """The fault by which a fake registry demands tokens of this server."""
    return Fault(On.ANY, Demand(tokens, **options), times=None)  # type: ignore[arg-type]


def _login(header: str) -> tuple[str, str] | None:
    if not header:
        return None
    assert header.startswith("Basic ")
    user, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
    return user, password
