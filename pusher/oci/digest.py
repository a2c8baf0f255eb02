"""Content digests (image-spec ``descriptor.md``): ``sha256:<64 hex digits>``."""

from __future__ import annotations

import hashlib
import re
from typing import Final

_SHA256: Final = re.compile(r"sha256:[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether ``text`` is a sha256 digest in its canonical form."""
    return _SHA256.fullmatch(text) is not None


def hex_of(digest: str) -> str:
    """The 64 hex digits of ``digest``; ValueError if it is none (a digest becomes a file name)."""
    if not is_digest(digest):
        raise ValueError(f"not a sha256 digest: {digest!r}")
    return digest.removeprefix("sha256:")


def of_bytes(data: bytes) -> str:
    """The digest of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def short(digest: str) -> str:
    """The first 12 hex digits, as docker and skopeo show them."""
    return digest.removeprefix("sha256:")[:12]
