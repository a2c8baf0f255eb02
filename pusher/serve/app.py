"""Build the application: the API, with the checks and headers of every request."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pusher.errors import PusherError
from pusher.serve.access import Access, Gate
from pusher.serve.api import Api
from pusher.serve.errors import ApiError, Failures, explain_http_exception
from pusher.serve.metrics import Metrics

if TYPE_CHECKING:
    from pusher.serve.page.site import Site

_LOG: Final = logging.getLogger(__name__)
_EVERY_ANSWER: Final = (
    (b"docker-distribution-api-version", b"registry/2.0"),
    (b"x-content-type-options", b"nosniff"),
)
_ERRORS: Final = (ApiError, HTTPException, OSError, PusherError, sqlite3.Error, Exception)


def make_app(
    api: Api | None,
    access: Access,
    metrics: Metrics,
    *,
    site: Site | None = None,
    note_full_disk: Callable[[str], None] = lambda message: None,  # noqa: ARG005
) -> Starlette:
    """Return the application that serves ``api``, ``metrics`` and ``site`` to clients with ``access``.

    ``note_full_disk`` gets the sentence that names the full disk.
    """
    failures = Failures(note_full_disk)

    def respond(request: HTTPConnection, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            error = explain_http_exception(error)
        elif not isinstance(error, ApiError):
            error = failures.explain(error)
        return error.response() if site is None else site.error_response(request.scope, error)

    return Starlette(
        routes=[
            *([] if api is None else api.routes()),
            metrics.route(),
            Route("/healthz", _healthz, methods=["GET"]),
            *([] if site is None else site.routes()),
        ],
        middleware=[Middleware(_Answers, metrics), Middleware(Gate, access, respond)],
        exception_handlers={
            **dict.fromkeys(_ERRORS, respond),
            ClientDisconnect: _hung_up,
        },
    )


async def _hung_up(_request: Request, _error: Exception) -> Response:
    """Return a response to a closed connection."""
    return Response(status_code=400)


async def _healthz(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


class _Answers:
    """Add common headers, log each response, and count it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_EVERY_ANSWER]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            took = time.monotonic() - began
            self._metrics.requests.labels(scope["method"], status).inc()
            _LOG.info("%s %s: %d, %.3f s", scope["method"], scope["path"], status, took)
