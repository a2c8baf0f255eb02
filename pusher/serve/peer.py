"""Find the user of this machine that opened a connection, by the kernel's table of sockets.

Asked of ``sock_diag`` (man 7 sock_diag), or where that is not to be had read from ``/proc/net/tcp``, which
takes the kernel milliseconds.
"""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path
from typing import Final

CAN_TELL: Final = sys.platform == "linux"
"""Whether this system says it."""

_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20
_ERROR: Final = 2
_REQUEST: Final = 1
_NO_COOKIE: Final = 0xFFFFFFFF
_ESTABLISHED: Final = 1
_TIMEOUT: Final = 1.0

Place = tuple[str, int]


def user_at(client: Place, server: Place) -> int | None:
    """Return the user ID of the owner of the ``client`` end of a connection to ``server``, both as (IP
    address, port); None if no process on this machine has it open now.

    The kernel reports root for a socket that its process has closed: it does not count.
    """
    try:
        return _ask_kernel(client, server)
    except OSError:
        return _read_table(client, server)


def _ask_kernel(client: Place, server: Place) -> int | None:
    """Ask with one message of struct inet_diag_req_v2, answered with struct inet_diag_msg. Raises OSError."""
    family = socket.AF_INET6 if ":" in client[0] else socket.AF_INET
    addresses = [socket.inet_pton(family, host).ljust(16, b"\0") for host in (client[0], server[0])]
    question = (
        struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
        + struct.pack(">HH16s16s", client[1], server[1], *addresses)
        + struct.pack("=III", 0, _NO_COOKIE, _NO_COOKIE)
    )
    header = struct.pack("=IHHII", 16 + len(question), _BY_FAMILY, _REQUEST, 0, 0)
    if sys.platform != "linux":
        raise OSError
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as link:
        link.settimeout(_TIMEOUT)
        link.send(header + question)
        answer = link.recv(8192)
    (kind,) = struct.unpack_from("=H", answer, 4)
    if kind == _ERROR:
        (code,) = struct.unpack_from("=i", answer, 16)
        if code == -2:  # ENOENT: no such socket
            return None
        raise OSError(-code, "sock_diag")
    if kind != _BY_FAMILY:
        raise OSError
    (state,) = struct.unpack_from("=B", answer, 17)
    user, inode = struct.unpack_from("=II", answer, 80)
    return int(user) if state == _ESTABLISHED and inode else None


def _read_table(client: Place, server: Place) -> int | None:
    tables = ("tcp6",) if ":" in client[0] else ("tcp", "tcp6")
    for table in tables:
        ends = [_as_hex(place, table) for place in (client, server)]
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1:4] == [*ends, f"{_ESTABLISHED:02X}"] and fields[9] != "0":
                return int(fields[7])
    return None


def _as_hex(place: Place, table: str) -> str:
    """Return a place as the table has it: words of four bytes as the processor has them, and the port."""
    host = f"::ffff:{place[0]}" if table == "tcp6" and ":" not in place[0] else place[0]
    raw = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    words = [int.from_bytes(raw[at : at + 4], sys.byteorder) for at in range(0, len(raw), 4)]
    return "".join(f"{word:08X}" for word in words) + f":{place[1]:04X}"
