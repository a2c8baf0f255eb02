"""Answer a browser: the views with their updates, the buttons, errors that can be read.

Nothing of another origin is loaded or may frame the page, and it has no script or style inside: a name that
contains one does not run it (Content-Security-Policy).
"""

from __future__ import annotations

import hmac
import secrets
from typing import Final
from urllib.parse import parse_qsl

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from pusher.config import Settings
from pusher.errors import JobStateConflict, JobUnknown
from pusher.oci.digest import of_bytes
from pusher.progress.base import Progress
from pusher.progress.counters import Counters
from pusher.serve.bodies import is_known, receive_small
from pusher.serve.catalog import Catalog
from pusher.serve.errors import ApiError
from pusher.serve.names import checked_repository
from pusher.serve.page.jobs import LONGEST_SEARCH, JobList, JobPage, JobReader
from pusher.serve.page.live import LiveViews, View
from pusher.serve.page.repositories import RepositoryList, RepositoryPage
from pusher.serve.page.template import FOLDER, Template
from pusher.serve.server import ENDING
from pusher.store.decisions import DECISIONS
from pusher.store.records import JobState
from pusher.store.store import Store
from pusher.worker.cleanup import cancel as delete_sessions
from pusher.worker.decisions import decide

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with less of it a form has no Origin
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Accept",
    "X-Accel-Buffering": "no",  # nginx passes events on at once
}
_ASSETS: Final = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_LARGEST_FORM: Final = 8192
"""Bytes."""
_MAX_DIGITS: Final = 19
_MAX_PAGE_DIGITS: Final = 10
_LONGEST_HOST: Final = 300


class Site:
    """The page of one application. ``search``: label of the search field; ``commands``: named below."""

    search = ""
    commands: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._token = secrets.token_urlsafe(32)
        self._template = Template(token=self._token, commands=self.commands)
        self.live = LiveViews()
        self._assets = {name: (FOLDER / name).read_bytes() for name in _ASSETS}

    def routes(self) -> list[BaseRoute]:
        """Return the routes of the assets."""
        return [Route("/assets/{name}", self._asset, methods=["GET"])]

    def error_response(self, scope: Scope, error: ApiError) -> Response:
        """Return an error as a page for a browser, as text for the script, and as JSON for other clients."""
        accept = Headers(scope=scope).get("accept", "")
        if scope["path"].startswith("/v2") or not ("text/html" in accept or accept == "text/plain"):
            return error.response()
        headers = {**_HEADERS, **error.headers}
        if accept == "text/plain":
            text = f"{error.message}\n{error.hint}"
            return Response(text, error.status, headers, media_type="text/plain")
        content = self._template.part("error", error.status, error.message, error.hint)
        page = self._template.page("Error", content, is_live=False)
        return Response(page, error.status, headers, media_type="text/html")

    def _asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._assets:
            raise ApiError(404, "UNSUPPORTED", "there is nothing at this path")
        content = self._assets[name]
        etag = f'"{of_bytes(content)}"'
        headers = {**_HEADERS, "Cache-Control": "no-cache", "ETag": etag}
        if is_known(request, etag):
            return Response(status_code=304, headers=headers)
        return Response(content, 200, {**headers, "Content-Type": _ASSETS[name]})

    async def _show(self, request: Request, view: View, **search: object) -> Response:
        """Return a view as a page, or as its updates to the script, which accepts ``text/event-stream``."""
        if "text/event-stream" not in request.headers.get("accept", ""):
            try:
                content = await run_in_threadpool(view.read)
            except JobUnknown as error:
                raise _unknown_job_error(error) from error
            page = self._template.page(
                content.title, content.whole, is_live=True, search={"label": self.search, **search}
            )
            return Response(page, 200, _HEADERS, media_type="text/html")
        if self.live.is_full:
            raise ApiError(
                503,
                "TOOMANYREQUESTS",
                "too many pages are open",
                hint="close some of them",
                headers={"Retry-After": "30"},
            )
        if request.method == "HEAD":
            return Response(None, 200, _HEADERS, media_type="text/event-stream")
        events = self.live.follow(view, request.scope["state"][ENDING])
        return StreamingResponse(events, 200, _HEADERS, media_type="text/event-stream")


class JobSite(Site):
    """The page of the queue. ``example``: the command that pushes an image here."""

    search = "Image, destination or number"
    commands = ("pusher status", "pusher help serving")

    def __init__(self, store: Store, settings: Settings, example: str) -> None:
        super().__init__()
        self._store = store.direct()
        self._settings = settings
        self._reader = JobReader(store, settings, self._template, example)

    def follow(self, progress: Progress) -> Progress:
        """Show what this process's worker does between two changes of the store, too."""
        if isinstance(progress, Counters):
            self._reader.counters = progress
        return progress

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        return [
            Route("/", self._list, methods=["GET"]),
            Route("/jobs/{job}", self._job, methods=["GET"]),
            Route("/jobs/{job}/{verb}", self._decide, methods=["POST"]),
            *super().routes(),
        ]

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        text, page = query.get("q", "").replace("\0", "").strip()[:LONGEST_SEARCH], query.get("page", "1")
        state = query.get("state", "")
        if state and state not in list(JobState):
            raise ApiError(404, "UNSUPPORTED", "there is no such state of jobs")
        is_number = page.isascii() and page.isdigit() and len(page) < _MAX_PAGE_DIGITS
        number = max(1, int(page)) if is_number else 1
        view = JobList(self._reader, JobState(state) if state else None, text, number)
        return await self._show(request, view, text=text, kept={"state": state} if state else {})

    async def _job(self, request: Request) -> Response:
        return await self._show(request, JobPage(self._reader, _job_id(request)), text="", kept={})

    async def _decide(self, request: Request) -> Response:
        job_id, verb = _job_id(request), request.path_params["verb"]
        if verb not in DECISIONS:
            raise ApiError(404, "UNSUPPORTED", "there is nothing at this path")
        form = dict(parse_qsl((await receive_small(request, _LARGEST_FORM)).decode("utf-8", "replace")))
        if not hmac.compare_digest(form.get("token", "").encode(), self._token.encode()):
            raise ApiError(
                403,
                "DENIED",
                "this button belongs to a page of an earlier pusher serve",
                hint="reload the page, then press it again",
            )
        try:
            job = await run_in_threadpool(decide, self._store, verb, job_id)
        except JobUnknown as error:
            raise _unknown_job_error(error) from error
        except JobStateConflict as error:
            raise ApiError(409, "UNSUPPORTED", error.message, hint=error.hint) from error
        self.live.read_now()
        after = BackgroundTask(delete_sessions, self._store, self._settings, ()) if verb == "cancel" else None
        if request.headers.get("accept") == "text/plain":
            return Response(
                f"Job {job_id} is {job.state}", 200, _HEADERS, media_type="text/plain", background=after
            )
        back = form.get("back", "/")
        is_ours = back.startswith(("/?", "/#", "/jobs/")) and "\\" not in back
        return RedirectResponse(back if is_ours else "/", 303, _HEADERS, background=after)


class RegistrySite(Site):
    """The page of a local registry."""

    search = "Name of a repository"
    commands = ("pusher help serving",)

    def __init__(self, catalog: Catalog) -> None:
        super().__init__()
        self._catalog = catalog

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        return [
            Route("/", self._list, methods=["GET"]),
            Route("/repositories/{name:path}", self._repository, methods=["GET"]),
            *super().routes(),
        ]

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        text = query.get("q", "").strip().lower()[:LONGEST_SEARCH]
        view = RepositoryList(self._catalog, self._template, _host(request), text, query.get("last", ""))
        return await self._show(request, view, text=text, kept={})

    async def _repository(self, request: Request) -> Response:
        name, last = checked_repository(request.path_params["name"]), request.query_params.get("last", "")
        view = RepositoryPage(self._catalog, self._template, _host(request), name, last)
        return await self._show(request, view, text="", kept={})


def _job_id(request: Request) -> int:
    text = request.path_params["job"]
    if not (text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS):
        raise ApiError(404, "UNSUPPORTED", "there is no such job", hint="all jobs are on the first page")
    return int(text)


def _unknown_job_error(error: JobUnknown) -> ApiError:
    return ApiError(404, "UNSUPPORTED", error.message, hint="perhaps it was pruned; go back to all jobs")


def _host(request: Request) -> str:
    return request.headers.get("host", "")[:_LONGEST_HOST]
