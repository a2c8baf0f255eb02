"""Send a request before anything needs its response: on a far link that saves the time of one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Final

from pusher.registry.http.answer import Answer

_MAX_AGE: Final = 3.0
"""Seconds after which a response does not show any more what another request would get."""


class EarlyRequests:
    """GET requests that were sent early, each for the first who sends the same. Thread-safe."""

    def __init__(self) -> None:
        self._requests: dict[str, _EarlyRequest] = {}

    def begin(self, url: str, headers: Mapping[str, str], send: Callable[[], Answer]) -> None:
        """Call ``send`` in the background. Its response, or its error, is that of the next request for
        ``url`` with these headers."""
        early = _EarlyRequest(headers, send)
        with suppress(RuntimeError):  # the system starts no more threads
            threading.Thread(target=early.run, name=f"early request for {url}", daemon=True).start()
            self._requests[url] = early

    def take(self, method: str, url: str, headers: Mapping[str, str]) -> Answer | None:
        """Return the response to a request, once it is there; None if it was not sent early, or long ago.

        Raises the error of that request.
        """
        early = self._requests.pop(url, None) if method == "GET" else None
        return early.take() if early is not None and early.headers == headers else None


class _EarlyRequest:
    """One request that was sent early."""

    def __init__(self, headers: Mapping[str, str], send: Callable[[], Answer]) -> None:
        self.headers = headers
        self._send = send
        self._response: Future[Answer] = Future()
        self._ended_at = 0.0

    def run(self) -> None:
        try:
            answer = self._send()
        except BaseException as error:  # the first who needs the response has to handle it
            self._ended_at = time.monotonic()
            self._response.set_exception(error)
        else:
            self._ended_at = time.monotonic()
            self._response.set_result(answer)

    def take(self) -> Answer | None:
        with suppress(Exception):
            self._response.result()
        return None if time.monotonic() - self._ended_at > _MAX_AGE else self._response.result()
