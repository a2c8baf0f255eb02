"""Ask the destinations for clients' blobs and manifests, with pusher's login, and cache the responses."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Final

from pusher.errors import PusherError
from pusher.oci.digest import of_bytes
from pusher.oci.media_types import INDEXES, MANIFESTS
from pusher.registry.http.answer import Answer, size_in
from pusher.serve.forward.destinations import Destinations
from pusher.serve.manifests import LARGEST
from pusher.worker.registries import Registries

_PRESENT_FOR: Final = 600.0
"""Seconds for which a blob that is there counts as being there."""
_MISSING_FOR: Final = 10.0
"""Seconds for which one counts as missing: it may be pushed meanwhile."""
_UNREACHABLE_FOR: Final = 20.0
"""Seconds for which a registry that does not answer is not asked whether it has a blob."""
_MAX_CACHED: Final = 20_000
_EVERY_MANIFEST: Final = ", ".join([*sorted(MANIFESTS | INDEXES), "*/*"])
"""distribution 2 gives an OCI manifest only to who names its type."""
_AHEAD: Final = 16
"""Blocks of a blob that are read ahead of a slow client."""


class Upstream:
    """The destinations, by the names that clients use. Thread-safe; raises what a registry's client raises,
    and ApiError NAME_UNKNOWN for a name without destination."""

    def __init__(self, registries: Registries, destinations: Destinations) -> None:
        self._registries = registries
        self._destinations = destinations
        self._lock = threading.Lock()
        self._sizes: dict[tuple[str, str], tuple[int | None, float]] = {}
        self._silent: dict[str, float] = {}

    def blob_size(self, name: str, digest: str) -> int | None:
        """Return the bytes of a blob; None if it is missing or no registry answers."""
        place, now = self._destinations.of(name), time.monotonic()
        with self._lock:
            size, until = self._sizes.get((name, digest), (None, 0.0))
            if until > now:
                return size
            if self._silent.get(place.registry, 0.0) > now:
                return None
        try:
            client = self._registries.client(place.registry, place.path)
            answer = client.head(f"blobs/{digest}", place.path)
        except PusherError:
            with self._lock:
                self._silent[place.registry] = time.monotonic() + _UNREACHABLE_FOR
            return None
        size = size_in(answer.headers, "Content-Length") if answer.ok else None
        self._remember(name, digest, size)
        return size

    def note_pushed(self, name: str, digest: str, size: int) -> None:
        """Cache the size of a blob that the destination has."""
        self._remember(name, digest, size)

    def _remember(self, name: str, digest: str, size: int | None) -> None:
        with self._lock:
            if len(self._sizes) >= _MAX_CACHED:
                self._sizes.clear()
            self._sizes[name, digest] = (
                size,
                time.monotonic() + (_MISSING_FOR if size is None else _PRESENT_FOR),
            )

    def ask(self, method: str, name: str, path: str, accept: str) -> Answer:
        """GET or HEAD ``manifests/...``, ``tags/list...`` or ``referrers/...``; return any response."""
        place = self._destinations.of(name)
        client = self._registries.client(place.registry, place.path)
        if method == "HEAD":
            return client.head(path, place.path, accept=accept)
        return client.get_small(path, place.path, accept=accept, limit=LARGEST)

    def manifest(self, name: str, digest: str) -> tuple[str, bytes] | None:
        """Return media type and bytes of a manifest; None if it is not there."""
        answer = self.ask("GET", name, f"manifests/{digest}", _EVERY_MANIFEST)
        if not answer.ok or of_bytes(answer.body, digest) != digest:
            return None
        return answer.headers.get("Content-Type", ""), answer.body

    def blob(self, name: str, digest: str, start: int) -> Download:
        """Start to download a blob at byte ``start``."""
        place = self._destinations.of(name)
        client = self._registries.client(place.registry, place.path)
        download = Download()

        def work() -> None:
            try:
                download.end(client.get_blob(place.path, digest, download, start))
            except _Enough:
                pass
            except Exception as error:
                download.fail(error)

        threading.Thread(target=work, name="pull", daemon=True).start()
        return download


class _Enough(Exception):
    """The client disconnected."""


class Download:
    """A blob download from the destination to a client: written as a Receiver, read as blocks."""

    def __init__(self) -> None:
        self._blocks: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
        self._head: queue.Queue[Answer | BaseException] = queue.Queue()
        self._is_over = False
        self._notify: Callable[[], object] = lambda: None

    def begin(self, answer: Answer) -> bool:
        """Take a response's head."""
        if answer.ok:
            self._head.put(answer)
        return answer.ok

    def write(self, data: memoryview) -> None:
        """Queue a block."""
        self._put(bytes(data))

    def _put(self, item: bytes | BaseException | None) -> None:
        while not self._is_over:
            with suppress(queue.Full):
                self._blocks.put(item, timeout=0.5)
                self._notify()
                return
        raise _Enough

    def end(self, answer: Answer) -> None:
        """Mark the end."""
        if not answer.ok:
            self._head.put(answer)
        with suppress(_Enough):
            self._put(None)

    def fail(self, error: BaseException) -> None:
        """Record the request's error."""
        self._head.put(error)
        with suppress(_Enough):
            self._put(error)

    # --- the client's side --------------------------------------------------------------------------------

    def head(self) -> Answer:
        """Wait for the response's head. Raises what the request raised."""
        found = self._head.get()
        if isinstance(found, BaseException):
            raise found
        return found

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the body without a waiting thread. Raises the request's error."""
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        self._notify = partial(loop.call_soon_threadsafe, event.set)
        while True:
            event.clear()
            try:
                block = self._blocks.get_nowait()
            except queue.Empty:
                await event.wait()
                continue
            if block is None:
                return
            if isinstance(block, BaseException):
                raise block
            yield block

    def leave(self) -> None:
        """Stop it."""
        self._is_over = True
