"""Connect to Docker's API and switch a connection to gRPC, as ``docker build`` does."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from functools import cached_property
from typing import Final

from pusher.errors import PusherError, SourceError
from pusher.sources.engine.command import DOCKER, CommandOutput, Daemon, run_command
from pusher.sources.engine.grpc import Duplex, GrpcBroken, GrpcClient
from pusher.text import printable
from pusher.waiting import SilenceReporter

_UPGRADE: Final = (
    b"POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n"
)
_LARGEST_HEAD: Final = 64 << 10
_UNIX: Final = "unix://"


class DockerApi:
    """The API of one Docker daemon: over its socket if that is on this machine, else through `docker`, which
    knows ssh and TLS."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    @cached_property
    def _socket_path(self) -> str | None:
        """The daemon's Unix socket, None for one that is reached in another way."""
        host = self._daemon.get("DOCKER_HOST")
        if not host:
            asked = ("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
            try:
                host = run_command(DOCKER, *asked, daemon=self._daemon).strip()
            except SourceError:
                return None
        return host.removeprefix(_UNIX) if host.startswith(_UNIX) else None

    def open_grpc(self, check_stop: Callable[[], None] | None) -> GrpcConnection:
        """Open a connection. ``check_stop`` is called each second while Docker is silent.

        Raises GrpcBroken, SourceError, OSError, and what ``check_stop`` raises.
        """
        path = self._socket_path
        if path is not None:
            return GrpcConnection(_Socket(path, check_stop or SilenceReporter(DOCKER.title)))
        return GrpcConnection(_Command(self._daemon, check_stop))


class GrpcConnection:
    """A connection to Docker's API that was switched to gRPC."""

    def __init__(self, connection: _Socket | _Command) -> None:
        self._connection = connection
        try:
            connection.write(_UPGRADE)
            self.client = GrpcClient(connection, received=self._read_head())
        except BaseException:
            connection.close()
            raise

    def _read_head(self) -> bytes:
        """Read the response to the upgrade; return what follows it."""
        received, buffer = b"", memoryview(bytearray(_LARGEST_HEAD))
        while b"\r\n\r\n" not in received:
            count = self._connection.read_into(buffer)
            if not count:
                raise self._connection.error()
            received += buffer[:count]
            if len(received) > _LARGEST_HEAD:
                raise GrpcBroken("what came is not HTTP")
        head, _, rest = received.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise GrpcBroken("it is not offered")
        return rest

    def close(self) -> None:
        """Close the connection; another thread that reads from it gets an error."""
        self._connection.close()


class _Socket(Duplex):
    """A connection over a Unix socket."""

    def __init__(self, path: str, check_stop: Callable[[], None]) -> None:
        self._check_stop = check_stop
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise GrpcBroken(f"cannot connect to {printable(path)}: {error.strerror or error}") from error
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def read_into(self, buffer: memoryview) -> int:
        while not self._poll.poll(1000):
            self._check_stop()
        return self._socket.recv_into(buffer)

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def error(self) -> Exception:
        return GrpcBroken("the connection was closed")

    def close(self) -> None:
        self._socket.close()


class _Command(Duplex):
    """A connection through `docker system dial-stdio`, which is there for connections over ssh."""

    def __init__(self, daemon: Daemon, check_stop: Callable[[], None] | None) -> None:
        self._process = CommandOutput(
            DOCKER, "system", "dial-stdio", daemon=daemon, check_stop=check_stop, takes_input=True
        )

    def read_into(self, buffer: memoryview) -> int:
        return self._process.read_into(buffer)

    def write(self, data: bytes) -> None:
        self._process.write(data)

    def error(self) -> PusherError:
        return self._process.error()

    def close(self) -> None:
        self._process.__exit__(None, None, None)
