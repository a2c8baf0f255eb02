"""Decide who may use the registry: by login, or on this machine its owner and root.

Pages in a browser may not: a foreign Host (DNS rebinding) and a foreign Origin are refused.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import os
from collections.abc import Callable
from dataclasses import field
from typing import Final, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pusher.dataclass import dataclass
from pusher.reference import is_loopback
from pusher.serve import peer
from pusher.serve.errors import ApiError
from pusher.text import quoted

PEER: Final = "peer"
"""Key of a request's state: the user ID at the other end of its connection, None if unknown."""
_WRONG_PASSWORD: Final = 1.0
"""Seconds that the answer to a wrong password takes."""
_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="pusher serve", charset="UTF-8"'}
_OPEN: Final = frozenset({"/healthz"})
"""Paths that need no login."""


@dataclass(frozen=True)
class Login:
    """The one user name and password."""

    username: str
    password: str = field(repr=False)

    def is_right(self, username: str, password: str) -> bool:
        """Return whether these are they."""
        given, ours = f"{username}:{password}", f"{self.username}:{self.password}"
        return hmac.compare_digest(given.encode(), ours.encode())


class Passwords(Protocol):
    """User names and their passwords."""

    def is_right(self, username: str, password: str) -> bool:
        """Return whether the user has this password; may take a tenth of a second."""


@dataclass(frozen=True)
class Access:
    """What is asked of a client. ``is_local``: only this machine can connect."""

    is_local: bool
    login: Passwords | None = None


class Gate:
    """Refuses clients without access."""

    def __init__(
        self, app: ASGIApp, access: Access, respond: Callable[[HTTPConnection, Exception], Response]
    ) -> None:
        self._app = app
        self._access = access
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                await self._check(scope)
            except ApiError as error:
                await self._respond(HTTPConnection(scope), error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        self._check_host(headers)
        if scope["path"] in _OPEN or (self._access.is_local and _is_ours(scope)):
            return
        login = self._access.login
        if login is None:
            raise ApiError(
                403,
                "DENIED",
                "this registry is for the user who started pusher serve, and for root; with --username it is "
                "for those who log in, too",
            )
        authorization = headers.get("authorization")
        if authorization is None:
            what = "a login is needed: docker login"
        else:
            given = _read_basic(authorization)
            if given is not None and await run_in_threadpool(login.is_right, *given):
                return
            await asyncio.sleep(_WRONG_PASSWORD)
            what = "the user name or password is wrong"
        raise ApiError(401, "UNAUTHORIZED", what, headers=_CHALLENGE)

    def _check_host(self, headers: Headers) -> None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._access.is_local and not is_loopback(host):
            raise ApiError(403, "DENIED", f"this registry is localhost, not {quoted(host)}")
        if origin is not None and origin.partition("://")[2] != host:
            raise ApiError(403, "DENIED", f"pages of {quoted(origin)} have no business here")


def _read_basic(authorization: str) -> tuple[str, str] | None:
    """Return user name and password of an Authorization header (RFC 7617); None if it has none."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        given = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    username, colon, password = given.partition(":")
    return (username, password) if colon and scheme.lower() == "basic" else None


def _is_ours(scope: Scope) -> bool:
    """Return whether the client is the user of this process, or root; True where that cannot be found out."""
    if not peer.CAN_TELL:
        return True
    return scope["state"].get(PEER) in (0, os.geteuid())
