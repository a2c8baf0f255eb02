"""Send views to browsers as they change: server-sent events
(https://html.spec.whatwg.org/multipage/server-sent-events.html).

One task reads each view once, however many browsers show it, and ends with the last of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Hashable
from dataclasses import field
from typing import Final, Protocol

from starlette.concurrency import run_in_threadpool

from pusher.dataclass import dataclass
from pusher.errors import PusherError
from pusher.serve.errors import ApiError
from pusher.serve.page.template import PageContent

_LOG: Final = logging.getLogger(__name__)
MOST: Final = 100
"""Event streams at a time. Connections are limited too, and pushes need some."""
EVERY: Final = 1.0
"""Seconds between two readings of the store."""
_REST: Final = 4
"""The pause after reading is at least so many times as long: a slow store is read less often."""
_SILENCE: Final = 15.0
"""Seconds after which a comment shows proxies and browsers that the connection lives."""
_RECONNECT: Final = 2000
"""Milliseconds after which a browser connects again."""


class View(Hashable, Protocol):
    """The content of one address. Equal views are read once."""

    def read(self) -> PageContent:
        """Return the content now. Raises PusherError."""
        ...


@dataclass(frozen=True)
class Problem:
    """Why there is no newer content."""

    message: str
    hint: str


@dataclass
class _Feed:
    state: PageContent | Problem | None = None
    followers: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def publish(self, state: PageContent | Problem) -> None:
        if state == self.state:
            return
        self.state = state
        self.changed.set()
        self.changed = asyncio.Event()


class LiveViews:
    """The views that browsers have open. Belongs to one event loop."""

    def __init__(self) -> None:
        self._feeds: dict[View, _Feed] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self.readings = 0
        """Number of times that a view was read."""

    @property
    def is_full(self) -> bool:
        """Return whether there are as many streams as there may be."""
        return sum(feed.followers for feed in self._feeds.values()) >= MOST

    def read_now(self) -> None:
        """Read the views without a pause, because something changed."""
        self._wake.set()

    async def follow(self, view: View, ending: asyncio.Event) -> AsyncIterator[bytes]:
        """Yield events until ``ending``: the whole view, then what changes."""
        feed = self._feeds.setdefault(view, _Feed())
        feed.followers += 1
        sent: PageContent | Problem | None = None
        try:
            yield f"retry: {_RECONNECT}\n\n".encode()
            if self._task is None:
                self._task = asyncio.create_task(self._work())
            if feed.state is None:
                self.read_now()
            while not ending.is_set():
                changed = feed.changed
                if feed.state is not None and feed.state is not sent:
                    event = _event(sent, feed.state)
                    sent = feed.state
                    yield event
                elif not await _wait_for_either(changed, ending):
                    yield b": \n\n"
        finally:
            feed.followers -= 1
            if not feed.followers:
                del self._feeds[view]

    async def _work(self) -> None:
        try:
            while self._feeds:
                self._wake.clear()
                began = time.monotonic()
                for view, feed in list(self._feeds.items()):
                    if feed.followers:
                        feed.publish(await run_in_threadpool(_read, view))
                        self.readings += 1
                pause = max(EVERY, _REST * (time.monotonic() - began))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
        finally:
            self._task = None


async def _wait_for_either(*events: asyncio.Event) -> bool:
    """Return whether one of the events was set in time."""
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(tasks, timeout=_SILENCE, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    return bool(done)


def _read(view: View) -> PageContent | Problem:
    try:
        return view.read()
    except (PusherError, ApiError) as error:
        return Problem(error.message, error.hint)
    except Exception:
        _LOG.exception("a bug")
        return Problem("the page cannot be updated", "see the log of pusher serve: pusher -v serve")


def _event(sent: PageContent | Problem | None, now: PageContent | Problem) -> bytes:
    """Return the event that turns the content ``sent`` into the content ``now``."""
    if isinstance(now, Problem):
        return _encode("problem", f"{now.message}\n{now.hint}")
    if not isinstance(sent, PageContent) or list(sent.parts) != list(now.parts):
        return _encode("whole", now.whole)
    return _encode("parts", "\n".join(part for name, part in now.parts.items() if part != sent.parts[name]))


def _encode(kind: str, text: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in text.split("\n"))
    return f"event: {kind}\n{lines}\n".encode()
