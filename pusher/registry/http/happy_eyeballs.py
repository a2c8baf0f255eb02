"""Connect to the first address of a host that works (Happy Eyeballs, RFC 8305).

The lookup has a time limit, addresses of both families are tried in parallel, and the family that worked is
remembered.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import selectors
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from pusher.registry.http.addresses import is_private

STAGGER: Final = 0.25
"""Seconds before the next address is tried as well (RFC 8305 5)."""
_MAX_IDLE: Final = 3.0
"""Seconds after which an unused connection is not used: servers and firewalls may have forgotten it."""
_MAX_LOOKUPS: Final = 32
"""Lookups at a time: each has a thread, which hangs for as long as the system's resolver does."""

_Info = tuple[Any, Any, int, str, Any]

_families: Final[dict[str, int]] = {}
"""The address family by which each host was reached last."""
_early: Final[dict[tuple[str, int], list[_EarlyDial]]] = {}
"""Connections that no request has asked for yet, by host and port."""
_running: Final = threading.BoundedSemaphore(_MAX_LOOKUPS)


class AddressForbidden(OSError):
    """All addresses of the host are private, and only public ones are allowed."""


class LookupTimeout(TimeoutError):
    """The resolver did not answer in time."""


def look_up(host: str, port: int, timeout: float) -> list[_Info]:
    """Return the host's addresses.

    Raises socket.gaierror, LookupTimeout (an OSError) after ``timeout`` seconds.
    """
    end = time.monotonic() + timeout
    if not _running.acquire(timeout=timeout):
        raise LookupTimeout(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    found: list[list[_Info] | OSError | UnicodeError] = []
    done = threading.Event()

    def ask() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, socket.AF_UNSPEC, socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)
        finally:
            _running.release()
            done.set()

    threading.Thread(target=ask, name=f"look-up of {host}", daemon=True).start()
    if not done.wait(max(0.0, end - time.monotonic())):
        raise LookupTimeout(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


class _EarlyDial(threading.Thread):
    """A connection that is opened before a request asks for it."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        super().__init__(name=f"connect to {host}", daemon=True)
        self._place = host, port, timeout
        self._ended_at = 0.0
        self._result: socket.socket | Exception | None = None
        self._lock = threading.Lock()
        self._is_needless = False

    def run(self) -> None:
        host, port, timeout = self._place
        try:
            self._result = _connect(host, port, timeout)
        except (OSError, UnicodeError) as error:
            self._result = error
        self._ended_at = time.monotonic()
        self._close_if_needless()

    def discard(self) -> None:
        """Close the connection, now or when it is there."""
        self._is_needless = True
        self._close_if_needless()

    def _close_if_needless(self) -> None:
        with self._lock:
            if self._is_needless and isinstance(self._result, socket.socket):
                self._result.close()

    def take(self) -> socket.socket | None:
        """Wait for the connection, and return it; None if that was too long ago, or the server has closed it.

        Raises like ``dial``.
        """
        self.join()
        is_old = time.monotonic() - self._ended_at > _MAX_IDLE
        if not isinstance(self._result, socket.socket):
            if is_old or self._result is None:
                return None
            raise self._result
        if is_old or _is_closed(self._result):
            self._result.close()
            return None
        return self._result


def _is_closed(sock: socket.socket) -> bool:
    """Return whether the other side has closed a connection that was not used."""
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def dial_early(host: str, port: int, timeout: float, count: int) -> None:
    """Begin to open so many connections in the background, for those who ``dial`` this host and port next."""
    with contextlib.suppress(RuntimeError):  # the system starts no more threads
        for _ in range(count):
            early = _EarlyDial(host, port, timeout)
            early.start()
            _early.setdefault((host, port), []).append(early)


def discard_early() -> None:
    """Close the connections of ``dial_early`` that no request has taken."""
    while _early:
        for early in _early.popitem()[1]:
            early.discard()


def _take_early(host: str, port: int) -> socket.socket | None:
    """Return a connection of ``dial_early``, None if there is none; raise its error if it failed."""
    try:
        return _early[host, port].pop(0).take()
    except LookupError:
        return None


def dial(
    host: str,
    port: int,
    timeout: float,
    *,
    options: Sequence[tuple[Any, ...]] = (),
    only_public: bool = False,
) -> socket.socket:
    """Return a connected socket, within ``timeout`` seconds for lookup and connection: one of ``dial_early``
    if there is one.

    Raises socket.gaierror, LookupTimeout, TimeoutError, the OSError of the first address that failed, and
    AddressForbidden if all addresses are private and ``only_public`` is set.
    """
    sock = None if only_public else _take_early(host, port)
    if sock is None:
        sock = _connect(host, port, timeout, only_public=only_public)
    for option in options:
        sock.setsockopt(*option)
    sock.settimeout(timeout)
    return sock


def _connect(host: str, port: int, timeout: float, *, only_public: bool = False) -> socket.socket:
    end = time.monotonic() + timeout
    infos = look_up(host, port, timeout)
    if only_public:
        infos = [info for info in infos if not is_private(str(info[4][0]))]
        if not infos:
            raise AddressForbidden(errno.EACCES, os.strerror(errno.EACCES))
    sock = _race(_interleave(infos, _families.get(host)), end)
    _families[host] = sock.family
    return sock


def _interleave(infos: list[_Info], first: int | None) -> list[_Info]:
    """Return the addresses with alternating families, starting with ``first`` or that of the resolver's first
    address (RFC 8305 4)."""
    unique = list({(info[0], info[4]): info for info in infos}.values())
    first = first if first in {info[0] for info in unique} else unique[0][0]
    ours = [info for info in unique if info[0] == first]
    others = [info for info in unique if info[0] != first]
    pairs = itertools.zip_longest(ours, others)
    return [info for pair in pairs for info in pair if info is not None]


def _race(infos: list[_Info], end: float) -> socket.socket:
    """Return the first socket that connects, in blocking mode; close the others."""
    selector = selectors.DefaultSelector()
    first_error: OSError | None = None
    next_start = time.monotonic()
    try:
        while True:
            now = time.monotonic()
            if infos and (now >= next_start or not selector.get_map()):
                try:
                    selector.register(_start_connecting(infos.pop(0)), selectors.EVENT_WRITE)
                except OSError as error:
                    first_error = first_error or error
                    continue
                next_start = now + STAGGER
            if not infos and not selector.get_map():
                raise first_error or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
            if now >= end:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            pause = min(end - now, max(0.0, next_start - now) if infos else end - now)
            winner, failed = _wait_for_attempts(selector, pause)
            if winner is not None:
                return winner
            if failed is not None:
                first_error = first_error or failed
                next_start = now  # the next one at once
    finally:
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        selector.close()


def _wait_for_attempts(
    selector: selectors.BaseSelector, timeout: float
) -> tuple[socket.socket | None, OSError | None]:
    """Wait for attempts to end; return a socket that is connected, in blocking mode, or the first error."""
    error: OSError | None = None
    for key, _ in selector.select(timeout):
        sock: Any = key.fileobj
        selector.unregister(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not code:
            sock.setblocking(True)
            return sock, None
        error = error or _error(code)
        sock.close()
    return None, error


def _start_connecting(info: _Info) -> socket.socket:
    family, kind, protocol, _, address = info
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR):
            raise _error(code)
    except BaseException:
        sock.close()
        raise
    return sock


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
