"""Read ``HttpHeaders`` of Docker's config.json, which a proxy in front of a registry may require."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pusher.errors import CredentialsUnreadable
from pusher.registry.auth.credentials.authfile import AuthFile
from pusher.registry.http.redaction import SECRET_HEADER
from pusher.secret import note_secret

_RESERVED: Final = frozenset(
    {"accept", "accept-encoding", "authorization", "connection", "content-length", "content-range"}
    | {
        "content-type",
        "expect",
        "host",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
"""Headers that pusher sets; as with Docker, the file cannot."""
_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE: Final = r"[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?|"
_SECRET_LENGTH: Final = 20
"""Characters from which a value may be a secret, whatever the header."""


def read_http_headers(path: Path | None) -> Mapping[str, str]:
    """Return the headers of the file, which are sent to registries only.

    Raises CredentialsUnreadable, which never quotes a value.
    """
    if path is None:
        return {}
    file = AuthFile.read(path)
    given = file.content.get("HttpHeaders") or {}
    if not isinstance(given, dict):
        raise _unusable_error(path, "HttpHeaders is not an object")
    found = {}
    for name, value in given.items():
        if not re.fullmatch(_NAME, name):
            raise _unusable_error(path, f"{name!r} in HttpHeaders is not the name of a header")
        if not isinstance(value, str) or not re.fullmatch(_VALUE, value):
            raise _unusable_error(path, f"the value of {name} in HttpHeaders cannot be sent")
        if name.lower() in _RESERVED:
            continue
        if SECRET_HEADER.search(name) or len(value) >= _SECRET_LENGTH:
            note_secret(value)
        found[name] = value
    return found


def _unusable_error(path: Path, why: str) -> CredentialsUnreadable:
    return CredentialsUnreadable(f"{why} ({path})", hint=f"fix it, or remove HttpHeaders from {path}")
