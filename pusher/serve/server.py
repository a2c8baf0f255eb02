"""Open the socket, run the server on it, and shut it down."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pusher.dataclass import dataclass
from pusher.errors import CertificateFileUnusable, InvalidOption, ListenFailed
from pusher.reference import is_loopback
from pusher.serve.access import PEER
from pusher.serve.peer import CAN_TELL, user_at
from pusher.serve.unread_bodies import ReadRests
from pusher.text import quoted
from pusher.worker.signals import handle_signals

ENDING: Final = "ending"
"""Key of a request's state: an asyncio.Event set when the server ends: event streams end with it."""
_KEEP_ALIVE: Final = 75
"""Seconds that an idle connection is kept."""
_HEADERS: Final = 60.0
"""Seconds for the line and the headers of a request, from when the connection is open."""
_SHUTDOWN_TIMEOUT: Final = 30
"""Seconds for the requests in flight when the server is asked to end."""
_MAX_CONNECTIONS: Final = 1000
_MAX_HEADERS: Final = 200
_LARGEST_HEADERS: Final = 64 * 1024
"""Bytes of the request line and the headers."""


@dataclass(frozen=True)
class Address:
    """Where to listen; ``port`` 0: any that is free."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, option: str = "--listen", *, example_port: int = 5055) -> Address:
        """Read ``HOST:PORT``, an IPv6 address in brackets. Raises InvalidOption with an example."""
        host, colon, port = text.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        is_port = port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 65536
        if not (colon and bare and is_port) or (":" in host and bare == host):
            raise InvalidOption(
                f"{option} {quoted(text)} is not an address and a port",
                hint=f"write it like 127.0.0.1:{example_port} or [::1]:{example_port}",
            )
        return cls(bare, int(port))

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine reach it."""
        return is_loopback(str(self))

    def at(self, port: int) -> Address:
        """Return the same host with another port."""
        return Address(self.host, port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def open_sockets(address: Address) -> list[socket.socket]:
    """Return sockets that listen at every IP address of the host. Raises ListenFailed."""
    sockets: list[socket.socket] = []
    port = address.port
    try:
        found = socket.getaddrinfo(address.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, place in dict.fromkeys(found):
            listener = socket.socket(family, kind, protocol)
            sockets.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listener.bind((place[0], port, *place[2:]))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and len(sockets) > 1:  # localhost without IPv6
                    sockets.pop().close()
                    continue
                raise
            listener.listen(128)
            port = listener.getsockname()[1]
    except OSError as error:
        for listener in sockets:
            listener.close()
        raise _listen_error(address, error) from error
    return sockets


def _listen_error(address: Address, error: OSError) -> ListenFailed:
    if isinstance(error, socket.gaierror):
        return ListenFailed(f"the host of {address} has no address", hint="listen at 127.0.0.1:5055")
    if error.errno == errno.EADDRINUSE:
        return ListenFailed(
            f"another program listens at {address} already",
            hint=f"is it a pusher serve? Else take another port: --listen {address.at(5056)}",
        )
    if error.errno == errno.EACCES:
        return ListenFailed(
            f"this user may not listen at {address}", hint="take a port of 1024 or more, like 5055"
        )
    return ListenFailed(f"cannot listen at {address}: {error.strerror}", hint="listen at 127.0.0.1:5055")


@dataclass(frozen=True)
class Certificate:
    """PEM files of a certificate with its chain, and of its key."""

    certificate: Path
    key: Path


def run_server(
    app: ASGIApp,
    sockets: Sequence[socket.socket],
    *,
    note: Callable[[str], None],
    certificate: Certificate | None = None,
) -> int:
    """Answer requests, over TLS with a ``certificate``, until SIGINT, SIGTERM or SIGHUP, whose number is
    returned; a second one ends the process at once. What is acknowledged is on the disk either way.

    Raises CertificateFileUnusable. The sockets are closed at the end.
    """
    with contextlib.ExitStack() as stack:
        for listener in sockets:
            stack.callback(listener.close)
        server = make_server(app, certificate)

        def stop() -> None:
            server.should_exit = True

        with handle_signals(stop, note=note) as signals:
            server.run(list(sockets))
        return signals.number


@contextlib.contextmanager
def server_in_background(
    app: ASGIApp, sockets: Sequence[socket.socket], certificate: Certificate | None = None
) -> Iterator[None]:
    """Answer requests in a thread until the context ends, and then those in flight.

    Raises CertificateFileUnusable. The sockets are closed at the end.
    """
    with contextlib.ExitStack() as stack:
        for listener in sockets:
            stack.callback(listener.close)
        server = make_server(app, certificate)
        thread = threading.Thread(target=server.run, args=(list(sockets),), name="serve", daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.should_exit = True
            thread.join()


def make_server(app: ASGIApp, certificate: Certificate | None) -> uvicorn.Server:
    """Return a server that is to ``run``, and ends once its ``should_exit`` is set.

    Raises CertificateFileUnusable.
    """
    config = uvicorn.Config(
        ReadRests(app),
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the peer is the client
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT,
        ssl_certfile=None if certificate is None else certificate.certificate,
        ssl_keyfile=None if certificate is None else certificate.key,
    )
    try:
        config.load()
    except (OSError, ValueError) as error:
        if certificate is None:
            raise
        raise CertificateFileUnusable(
            f"{certificate.certificate} and {certificate.key} are not a certificate and its key: {error}",
            hint="both are PEM files, and the key has no password",
        ) from error
    return _Server(config)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to ``handle_signals``."""
        yield


def _user_of(transport: asyncio.Transport) -> int | None:
    """Return the user at the other end of a connection of this machine to itself; None if unknown."""
    ends: tuple[Any, Any] = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    if not CAN_TELL or None in ends or not is_loopback(str(Address(ends[0][0], ends[0][1]))):
        return None
    return user_at(ends[0][:2], ends[1][:2])


class _Protocol(HttpToolsProtocol):
    """Finds out who connects, and has bounds for what comes before a body."""

    _size = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()
        self._ending = asyncio.Event()
        self.app_state = {**self.app_state, PEER: _user_of(transport), ENDING: self._ending}

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._size = 0
        self._start_timer()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        if len(self.headers) >= _MAX_HEADERS:
            raise ValueError("too many headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_timer()
        super().on_headers_complete()

    def shutdown(self) -> None:
        """End once the request in flight is through. An idle TLS connection is not asked whether it agrees:
        its client may not look for half a minute."""
        self._ending.set()
        if self.scheme == "https" and (self.cycle is None or self.cycle.response_complete):
            self.transport.abort()
        else:
            super().shutdown()

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > _LARGEST_HEADERS:
            raise ValueError("the headers are too large")  # answered with 400

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(_HEADERS, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
