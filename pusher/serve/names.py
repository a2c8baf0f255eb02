"""Check names in requests: repositories, tags, digests (distribution-spec, "Pulling manifests")."""

from __future__ import annotations

import re
from typing import Final

from pusher.oci.digest import is_digest
from pusher.serve.errors import ApiError
from pusher.text import quoted

_REPOSITORY: Final = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)
_LONGEST_REPOSITORY: Final = 255
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


def checked_repository(name: str) -> str:
    """Return ``name`` if a repository may be called so; ApiError NAME_INVALID otherwise."""
    if len(name) <= _LONGEST_REPOSITORY and _REPOSITORY.fullmatch(name):
        return name
    raise ApiError(
        400,
        "NAME_INVALID",
        f"{quoted(name)} is not a repository's name: lower-case letters, digits, and between them '.', '_', "
        f"'__', hyphens or slashes, at most {_LONGEST_REPOSITORY} characters",
    )


def checked_digest(text: str | None) -> str:
    """Return ``text`` if it is a sha256 or sha512 digest; ApiError DIGEST_INVALID otherwise."""
    if text is not None and is_digest(text):
        return text
    what = "the digest is missing" if text is None else f"{quoted(text)} is not a sha256 or sha512 digest"
    raise ApiError(400, "DIGEST_INVALID", what)


def checked_tag(text: str) -> str:
    """Return ``text`` if it may be a tag; ApiError MANIFEST_INVALID otherwise."""
    if _TAG.fullmatch(text):
        return text
    raise ApiError(
        400,
        "MANIFEST_INVALID",
        f"{quoted(text)} is not a tag: up to 128 letters, digits, '_', '.' and '-', no '.' or '-' first",
    )


def is_reference_by_digest(reference: str) -> bool:
    """Return whether a manifest is meant by digest, rightly written or not: no tag has a colon."""
    return ":" in reference
