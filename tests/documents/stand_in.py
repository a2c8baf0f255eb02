"""pusher with a registry on loopback in place of those in the documents: ``stand_in.py PORT ARGUMENT...``."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Any

from pusher.cli import main

_NAMED = ("registry.example.com", "registry.example.workers.dev", "localhost")


def names_of(port: int) -> Callable[..., Any]:
    """Return a ``socket.getaddrinfo`` that knows these names alone: all are at this port of loopback."""
    look_up = socket.getaddrinfo

    def known(host: Any, service: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in _NAMED:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up("127.0.0.1", port, *arguments, **options)

    return known


if __name__ == "__main__":
    socket.getaddrinfo = names_of(int(sys.argv[1]))
    main(sys.argv[2:])
