"""Content digests (image-spec ``descriptor.md``): ``sha256:<64 hex digits>``."""

from __future__ import annotations

import hashlib
import re
from typing import Final

_OTHER: Final = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[A-Za-z0-9=_-]{32,}")
_SHA256: Final = re.compile(r"sha256:[0-9a-f]{64}")


class UnsupportedDigest(ValueError):
    """A digest that the specification allows, and that is of another algorithm than sha256."""


def is_digest(text: str) -> bool:
    """Whether ``text`` is a sha256 digest in its canonical form."""
    return _SHA256.fullmatch(text) is not None


def checked(digest: object, what: str) -> str:
    """``digest`` if it is one; UnsupportedDigest, ValueError with ``what`` in them."""
    if isinstance(digest, str) and is_digest(digest):
        return digest
    if isinstance(digest, str) and not digest.startswith("sha256:") and _OTHER.fullmatch(digest):
        algorithm = digest.partition(":")[0]
        raise UnsupportedDigest(f"{what} has a {algorithm} digest, and pusher sends sha256 only")
    raise ValueError(f"{what} has no sha256 digest: {digest!r:.100}")


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
