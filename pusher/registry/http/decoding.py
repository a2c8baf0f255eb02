"""Check request headers, and decode bodies within a limit."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Final

from pusher.errors import RegistryRefused
from pusher.registry.http.answer import Answer
from pusher.registry.http.redaction import for_display, host_of

_UNSENDABLE: Final = re.compile("[^\\t -~\x80-\xff]")
_WINDOWS: Final = {
    "gzip": 16 + zlib.MAX_WBITS,
    "x-gzip": 16 + zlib.MAX_WBITS,
    "deflate": zlib.MAX_WBITS,
}


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise RegistryRefused for characters that a header cannot have: line breaks, and beyond latin-1."""
    for name, value in headers.items():
        if found := _UNSENDABLE.search(value):
            raise RegistryRefused(
                f"the header {name} cannot be sent: it would hold the character U+{ord(found[0]):04X}",
                hint="it comes from the image or the login; build the image again, or store the login again",
            )


def decode_body(answer: Answer, raw: bytes, limit: int) -> bytes:
    """Return a body without its Content-Encoding, at most ``limit`` bytes however well it is compressed.

    pusher accepts no encoding, but intermediaries add gzip and deflate. The body of an error in any other
    encoding is dropped. Raises RegistryRefused if it is the body of a successful GET.
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
        f"{host_of(answer.url)} sent an answer that does not match its Content-Encoding: "
        f"{for_display(encoding)}",
        hint="pusher accepts none; report it to the owner of the registry, or of the proxy in front of it",
    )
