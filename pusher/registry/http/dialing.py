"""Connect urllib3's connections by ``happy_eyeballs``."""

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
from pusher.registry.http.watchdog import current_request


class HappyEyeballsMixin:
    """Connects urllib3's connections. Raises urllib3's errors."""

    host: str
    port: int
    proxy: Any
    timeout: Any
    socket_options: Any

    def _new_conn(self) -> socket.socket:
        request = current_request()
        try:
            sock = dial(
                self.host.strip("[]"),
                self.port,
                self.timeout,
                options=self.socket_options or (),
                only_public=request is not None and request.only_public and self.proxy is None,
            )
        except (socket.gaierror, LookupTimeout) as error:
            raise NameResolutionError(self.host, self, error) from error  # type: ignore[arg-type]
        except UnicodeError as error:
            raise LocationParseError(f"{self.host!r}, {error}") from None
        except TimeoutError as error:
            raise ConnectTimeoutError(self, "timed out") from error
        except OSError as error:
            raise NewConnectionError(self, "failed") from error  # type: ignore[arg-type]
        if request:
            request.wait_at(sock.fileno())
        return sock
