"""Compute digests (image-spec ``descriptor.md``): ``sha256:<64 hex digits>``, ``sha512:<128 hex digits>``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hashlib import _Hash

ALGORITHMS: Final = ("sha256", "sha512")
"""Those that registries know (image-spec ``descriptor.md``, "Registered Algorithms")."""
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_SHA256: Final = re.compile(r"sha256:[0-9a-f]{64}")
_OTHER: Final = re.compile(r"(?!sha(?:256|512):)[a-z0-9]+(?:[+._-][a-z0-9]+)*:[A-Za-z0-9=_-]{32,}")
_PROVISIONAL: Final = "layer "


class UnsupportedDigest(ValueError):
    """A digest that the specification allows, of an algorithm that registries do not support."""


def is_digest(text: str) -> bool:
    """Return whether ``text`` is a sha256 or sha512 digest in its canonical form."""
    return _DIGEST.fullmatch(text) is not None


def is_sha256(text: str) -> bool:
    """Return whether ``text`` is a sha256 digest, as diff IDs and image IDs are."""
    return _SHA256.fullmatch(text) is not None


def check_digest(digest: object, what: str) -> str:
    """Return ``digest`` if it is one. Raises UnsupportedDigest or ValueError, with ``what`` in them."""
    if isinstance(digest, str) and is_digest(digest):
        return digest
    if isinstance(digest, str) and _OTHER.fullmatch(digest):
        algorithm = digest.partition(":")[0]
        raise UnsupportedDigest(f"{what} has a {algorithm} digest, and pusher sends sha256 and sha512 only")
    raise ValueError(f"{what} has no sha256 digest: {digest!r:.100}")


def algorithm_of(digest: str) -> str:
    """Return ``sha256`` or ``sha512``. Raises ValueError for what is not a digest."""
    return _parts(digest)[0]


def hex_of(digest: str) -> str:
    """Return the hex digits of a digest. Raises ValueError for any other text: they become a file name."""
    return _parts(digest)[1]


def of_hex(digits: str) -> str:
    """Return the digest with these hex digits, whose number determines the algorithm."""
    return f"{'sha512' if len(digits) == 128 else 'sha256'}:{digits}"


def hash_for(digest: str) -> _Hash:
    """Return a hash object of this digest's algorithm; ``digest_of_hash`` returns its result."""
    return hashlib.new(algorithm_of(digest))


def digest_of_hash(found: _Hash) -> str:
    """Return the digest of the hashed bytes."""
    return f"{found.name}:{found.hexdigest()}"


def of_bytes(data: bytes, like: str | None = None) -> str:
    """Return the digest of ``data``: sha256, or of the algorithm of the digest ``like``."""
    found = hashlib.sha256() if like is None else hash_for(like)
    found.update(data)
    return digest_of_hash(found)


def contradicts(reported: str, digest: str) -> bool:
    """Return whether ``reported``, a registry's digest, contradicts ``digest``. Some registries return the
    sha256 digest of content that was requested by another algorithm's."""
    other = is_digest(reported) and is_digest(digest) and algorithm_of(reported) != algorithm_of(digest)
    return reported != digest and not other


def short(digest: str) -> str:
    """Return the first 12 hex digits, as docker and skopeo show them."""
    return digest.rpartition(":")[2][:12]


def chain_ids(diff_ids: Iterable[str]) -> Iterator[str]:
    """Yield the chain ID of each layer, lowest first (image-spec ``config.md``, "Layer ChainID")."""
    chain = ""
    for diff_id in diff_ids:
        chain = f"sha256:{hashlib.sha256(f'{chain} {diff_id}'.encode()).hexdigest()}" if chain else diff_id
        yield chain


def provisional_digest(diff_id: str) -> str:
    """Return what stands for the digest of a layer's blob while it is being compressed."""
    return _PROVISIONAL + diff_id


def diff_id_in(digest: str) -> str | None:
    """Return the diff ID in a ``provisional_digest``; None for a digest."""
    return digest.removeprefix(_PROVISIONAL) if digest.startswith(_PROVISIONAL) else None


def _parts(digest: str) -> tuple[str, str]:
    if not is_digest(digest):
        raise ValueError(f"not a digest: {digest!r}")
    algorithm, _, digits = digest.partition(":")
    return algorithm, digits
