"""urllib3's connections, dialed as ``happy_eyeballs`` does."""

from __future__ import annotations

import socket
from typing import Any

from urllib3.exceptions import (
    ConnectTimeoutError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
)

from pusher.registry.http.happy_eyeballs import LookupTimeout, dial
from pusher.registry.http.watchdog import current


class Dialled:
    """Mixed into urllib3's connections: which then raise the errors that urllib3 has."""

    host: str
    port: int
    proxy: Any
    timeout: Any
    socket_options: Any

    def _new_conn(self) -> socket.socket:
        wait = current()
        try:
            sock = dial(
                self.host.strip("[]"),
                self.port,
                self.timeout,
                options=self.socket_options or (),
                only_public=wait is not None and wait.only_public and self.proxy is None,
            )
        except (socket.gaierror, LookupTimeout) as error:
            raise NameResolutionError(self.host, self, error) from error  # type: ignore[arg-type]
        except UnicodeError as error:
            raise LocationParseError(f"{self.host!r}, {error}") from None
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "timed out") from error
        except OSError as error:
            raise NewConnectionError(self, "failed") from error  # type: ignore[arg-type]
        if wait:
            wait.begin(sock.fileno())
        return sock
