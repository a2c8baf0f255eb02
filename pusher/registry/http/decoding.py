"""What goes into headers, and what comes out of bodies: within what HTTP can carry and memory can hold."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Final

from pusher.errors import RegistryRefused
from pusher.registry.http.answer import Answer
from pusher.registry.http.redaction import for_people, host_of

_UNSENDABLE: Final = re.compile("[^\\t -~\x80-\xff]")
_WINDOWS: Final = {
    "gzip": 16 + zlib.MAX_WBITS,
    "x-gzip": 16 + zlib.MAX_WBITS,
    "deflate": zlib.MAX_WBITS,
}


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises RegistryRefused for what no header can carry: line breaks, and characters beyond latin-1."""
    for name, value in headers.items():
        if found := _UNSENDABLE.search(value):
            raise RegistryRefused(
                f"the header {name} cannot be sent: it would hold the character U+{ord(found[0]):04X}",
                hint="it comes from the image or the login; build the image anew, or store the login again",
            )


def decoded(answer: Answer, raw: bytes, limit: int) -> bytes:
    """A body without its Content-Encoding, of at most ``limit`` bytes however small it was made.

    pusher asks for none, so whoever sends one has added it: gzip and deflate are undone. What is no such
    thing is no body of an error, and for a GET that succeeded raises RegistryRefused.
    """
    encoding = answer.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity") or not raw:
        return raw
    try:
        window = _WINDOWS[encoding]
        if encoding == "deflate" and raw[0] & 0x0F != 8:  # some send it bare, without zlib's header
            window = -zlib.MAX_WBITS
        return zlib.decompressobj(window).decompress(raw, limit)
    except (KeyError, zlib.error):
        if answer.method != "GET" or not answer.ok:
            return b""
    raise RegistryRefused(
        f"{host_of(answer.url)} sends an answer that is not what its Content-Encoding says: "
        f"{for_people(encoding)}",
        hint="pusher asked for none; tell the owner of the registry, or of the proxy before it",
    )
