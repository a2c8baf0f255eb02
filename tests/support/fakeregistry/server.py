"""The fake registry itself: threads, connections, log, start and stop."""

from __future__ import annotations

import contextlib
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from pusher.oci.digest import of_bytes
from tests.support.fakeregistry.faults import Script
from tests.support.fakeregistry.handlers import front_refusal, handle
from tests.support.fakeregistry.routes import On, route
from tests.support.fakeregistry.rules import Credentials, Exchange, Rules, problem
from tests.support.fakeregistry.serverless import SERVERLESS
from tests.support.fakeregistry.storage import Blob, Store, UploadSession
from tests.support.fakeregistry.wire import Body, Connection, Cut, Disconnected, Reply, Request
from tests.support.listener import Listener


@dataclass
class Record:
    """One request as it was logged.

    ``body_received`` grows while the body arrives; ``status`` is None until an answer is sent, for good if
    there was none. ``at`` is time.monotonic().
    """

    kind: On
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    connection: int
    at: float = field(default_factory=time.monotonic)
    body_received: int = 0
    status: int | None = None
    reply_headers: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    finished: bool = False
    """Answered, or given up."""


class FakeRegistry(Listener):
    """A registry on 127.0.0.1 that keeps the rules of a real one and breaks where the script says.

    ``receive_buffer``: bytes of the kernel's receive buffer, small to have a stalled body felt early.
    """

    def __init__(
        self,
        rules: Rules = SERVERLESS,
        *,
        credentials: Credentials | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        super().__init__(receive_buffer=receive_buffer)
        self.rules = rules
        self.credentials = credentials
        self.faults = Script()
        self.log: list[Record] = []
        self._changed = threading.Condition()
        self._connections: dict[Connection, threading.Thread] = {}
        self._connection_count = 0
        self._folder = tempfile.TemporaryDirectory(prefix="fake-registry-")
        self._store = Store(Path(self._folder.name))

    # --- what it holds ------------------------------------------------------------------------------------

    @property
    def blobs(self) -> dict[str, dict[str, Blob]]:
        """repository -> digest -> blob."""
        return self._store.blobs

    @property
    def manifests(self) -> dict[str, dict[str, tuple[str, bytes]]]:
        """repository -> tag or digest -> (media type, bytes)."""
        return self._store.manifests

    @property
    def sessions(self) -> dict[str, UploadSession]:
        """Open upload sessions by id."""
        return self._store.sessions

    def blob(self, repository: str, digest: str) -> bytes:
        """The bytes of a stored blob; KeyError if it is not there."""
        return self._store.blobs[repository][digest].read()

    def add_blob(self, repository: str, data: bytes) -> str:
        """Put a blob there as if it had been pushed before; its digest."""
        path = self._store.scratch()
        path.write_bytes(data)
        self._store.keep(repository, of_bytes(data), path, len(data))
        return of_bytes(data)

    def add_manifest(self, repository: str, reference: str, media_type: str, raw: bytes) -> str:
        """Put a manifest there, unchecked, by its digest and a tag; its digest."""
        self._store.put_manifest(repository, {reference, of_bytes(raw)}, media_type, raw)
        return of_bytes(raw)

    def remove_blob(self, repository: str, digest: str) -> None:
        """Lose a blob, as a garbage collection does."""
        with self._store.lock:
            del self._store.blobs[repository][digest]

    def forget_sessions(self) -> None:
        """Lose all upload sessions."""
        with self._store.lock:
            self._store.sessions.clear()

    # --- what happened ------------------------------------------------------------------------------------

    def requests(self, *kinds: On) -> list[Record]:
        """The log, or its records of these kinds."""
        with self._changed:
            return [record for record in self.log if not kinds or record.kind in kinds]

    def body_bytes_received(self) -> int:
        """Bytes of blob bodies that arrived, whatever became of them."""
        return sum(record.body_received for record in self.requests(On.CHUNK, On.CLOSE, On.OPEN))

    @property
    def chunks(self) -> list[int]:
        """Sizes of the PATCHes that were answered 202 (or 201), in their order."""
        return [record.body_received for record in self.requests(On.CHUNK) if record.status in (201, 202)]

    def wait_for(self, predicate: Callable[[Self], bool], timeout: float = 60.0) -> None:
        """Wait until the predicate holds; looked at whenever a request begins, goes on or ends."""
        with self._changed:
            assert self._changed.wait_for(lambda: predicate(self), timeout), "waited in vain for the registry"

    def wait_for_fault(self, *kinds: On) -> None:
        """Wait until a fault has begun in a request, of these kinds if any are given."""
        self.wait_for(lambda r: any(record.faults for record in r.requests(*kinds)))

    # --- life ---------------------------------------------------------------------------------------------

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._folder.cleanup()

    def cut(self) -> None:
        with self._changed:
            open_now = dict(self._connections)
        for connection in open_now:
            connection.abort()
        self.faults.release()
        for thread in open_now.values():
            thread.join(timeout=10)

    def restart(self, *, lose_sessions: bool = False, new_secret: bool = False) -> None:
        """Stop and start.

        ``new_secret``: distribution without a fixed ``http.secret``: states in old locations are void.
        """
        self.stop()
        if lose_sessions:
            self.forget_sessions()
        if new_secret:
            self._store.secret = secrets.token_bytes(32)
        self.start()

    # --- connections --------------------------------------------------------------------------------------

    def _serve_connection(self, accepted: socket.socket) -> None:
        with self._changed:
            self._connection_count += 1
            connection = Connection(accepted, self._connection_count)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._connections[connection] = thread
        thread.start()

    def _serve(self, connection: Connection) -> None:
        reset = False
        try:
            with contextlib.suppress(Disconnected):
                while request := connection.read_head():
                    if not self._serve_one(connection, request):
                        break
        except Cut as cut:
            reset = cut.reset
        finally:
            connection.close(reset=reset)
            with self._changed:
                del self._connections[connection]
                self._changed.notify_all()

    def _serve_one(self, connection: Connection, request: Request) -> bool:
        """Answer one request; whether the connection goes on."""
        found = route(request)
        record = Record(
            found.kind, request.method, request.path, request.query, request.headers, connection.number
        )
        with self._changed:
            self.log.append(record)
            self._changed.notify_all()
        body = Body(connection, request, lambda count: self._count(record, count))
        host = request.headers.get("host", self.address)
        exchange = Exchange(self._store, self.rules, request, found, body, f"http://{host}")
        try:
            return self._answer(connection, exchange, record)
        finally:
            with self._changed:
                record.finished = True
                self._changed.notify_all()

    def _answer(self, connection: Connection, exchange: Exchange, record: Record) -> bool:
        faults = self.faults.strike(record.kind, exchange.request)
        actions = [fault.action for fault in faults]
        record.faults = [str(fault) for fault in faults]
        for action in actions:
            action.before(exchange)
        scripted = (reply for action in actions if (reply := action.answer(exchange)) is not None)
        reply = next(scripted, None) or self._reply(exchange)
        if not reply.early:
            exchange.body.drain()
        reply.headers = {**self.rules.common_headers, **reply.headers}
        for action in actions:
            reply = action.rewrite(exchange, reply)
        with self._changed:
            record.status, record.reply_headers = reply.status, dict(reply.headers)
        connection.write(exchange.request, reply)
        for action in actions:
            action.after(exchange)
        if reply.early:
            self._count(record, connection.linger())
        return not reply.early and exchange.request.headers.get("connection", "").lower() != "close"

    def _reply(self, exchange: Exchange) -> Reply:
        return front_refusal(exchange) or self._unauthorized(exchange) or handle(exchange)

    def _unauthorized(self, exchange: Exchange) -> Reply | None:
        header = exchange.request.headers.get("authorization")
        if self.credentials is None or self.rules.authorizes(header, self.credentials):
            return None
        challenge = f'Basic realm="{self.rules.realm(exchange)}"'
        return problem(401, "UNAUTHORIZED", "authentication required", **{"WWW-Authenticate": challenge})

    def _count(self, record: Record, count: int) -> None:
        with self._changed:
            record.body_received += count
            self._changed.notify_all()
