"""Define errors as the distribution API reports them (distribution-spec, "Error Codes")."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from pusher.errors import DiskFull, PusherError, bug, find_machine_error
from pusher.text import printable

_LOG = logging.getLogger(__name__)
_NOTED_EVERY: Final = 60.0
"""Seconds between two notes of a full disk."""


class ApiError(Exception):
    """A request that is refused: status, one of the specification's codes, and a sentence."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        detail: object = None,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = printable(message)
        self.hint = printable(hint)
        self.detail = detail
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the answer, in the JSON of the specification."""
        message = f"{self.message}; {self.hint}" if self.hint else self.message
        return errors_response(self.status, [(self.code, message, self.detail)], self.headers)


def errors_response(
    status: int, errors: list[tuple[str, str, object]], headers: Mapping[str, str] | None = None
) -> Response:
    """Return an answer with several errors, each code, message and detail (None: left out)."""
    listed = [
        {"code": code, "message": message, **({} if detail is None else {"detail": detail})}
        for code, message, detail in errors
    ]
    body = json.dumps({"errors": listed}).encode()
    return Response(body, status, dict(headers or {}), media_type="application/json")


def name_unknown_error(repository: str) -> ApiError:
    """The repository holds nothing."""
    return ApiError(404, "NAME_UNKNOWN", f"there is no repository {repository} here")


def explain_http_exception(error: HTTPException) -> ApiError:
    """Return what Starlette itself refuses: an unknown path, or a method that a path does not have."""
    what = (
        "there is nothing at this path" if error.status_code == 404 else HTTPStatus(error.status_code).phrase
    )
    return ApiError(error.status_code, "UNSUPPORTED", what, headers=error.headers)


class Failures:
    """Explains what is not a client's fault. ``note`` gets the sentence about a full disk, at most once a
    minute: clients try again."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._noted: float | None = None

    def explain(self, error: Exception) -> ApiError:
        """Return what the machine could not do, with 507 where the disk is full, or a bug."""
        known = error if isinstance(error, PusherError) else find_machine_error(error)
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            known = DiskFull("no space left on the disk")
        if known is None:
            _LOG.error("a bug", exc_info=error)
            known = bug(error)
            status = 500
        else:
            status = 507 if isinstance(known, DiskFull) else 503
            _LOG.error("%s", known.message)
        if status == 507:
            self._note_full_disk(known.message)
        hint = "free some space there" if status == 507 else known.hint
        return ApiError(status, "UNKNOWN", known.message, hint=hint)

    def _note_full_disk(self, message: str) -> None:
        now = time.monotonic()
        if self._noted is None or now - self._noted >= _NOTED_EVERY:
            self._noted = now
            self._note(message)
