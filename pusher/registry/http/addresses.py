"""Distinguish public and private addresses."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

from pusher.reference import is_loopback

_EMBEDDED_IPV4: Final = {
    ipaddress.IPv6Network("64:ff9b::/96"): 0,  # NAT64, RFC 6052
    ipaddress.IPv6Network("::/96"): 0,  # RFC 4291 2.5.5.1
    ipaddress.IPv6Network("2002::/16"): 80,  # 6to4, RFC 3056
}
"""Networks of addresses that contain an IPv4 address, and the bits behind it."""
_NOT_GLOBAL: Final = (
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # NAT64 of one's own, RFC 8215
    ipaddress.IPv6Network("fec0::/10"),  # site-local, RFC 3879
)


def is_private(host: str) -> bool:
    """Return whether a host is ``localhost`` or an address that is not public: private (RFC 1918, RFC 4193),
    loopback, link-local and the like, also inside an IPv6 address. Names are not resolved."""
    bare = host.strip("[]").partition("%")[0].rstrip(".")
    if is_loopback(bare):
        return True
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        try:
            # 127.1, 0x7f000001 and 2130706433 are addresses to the system's resolver
            address = ipaddress.IPv4Address(socket.inet_aton(bare))
        except (OSError, UnicodeError, ValueError):  # a name
            return False
    if isinstance(address, ipaddress.IPv6Address):
        if any(address in network for network in _NOT_GLOBAL):
            return True
        address = _embedded_ipv4(address) or address
    return not address.is_global or address.is_multicast


def _embedded_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    bits = next((bits for network, bits in _EMBEDDED_IPV4.items() if address in network), None)
    return None if bits is None else ipaddress.IPv4Address(int(address) >> bits & 0xFFFFFFFF)
