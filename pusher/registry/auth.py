"""Proving who we are: the challenge of a registry answered with a credential.

Basic for now; a token scheme slots in as another way to answer a challenge.
"""

from __future__ import annotations

import base64
import re
import threading
from typing import Final

from pusher.errors import AuthenticationUnsupported, CredentialsMissing, CredentialsRejected
from pusher.registry.answers import read_message
from pusher.registry.credentials import Credential
from pusher.registry.transport import Answer

_SCHEME: Final = re.compile(r"(?:^|,)\s*([A-Za-z][A-Za-z0-9_-]*)(?=\s+[A-Za-z0-9_-]+\s*=|\s*,|\s*$)")


def schemes(header: str) -> list[str]:
    """The authentication schemes that a WWW-Authenticate header offers, in lower case (RFC 9110 11.6.1)."""
    unquoted = re.sub(r'"(?:[^"\\]|\\.)*"', '""', header)
    return [name.lower() for name in _SCHEME.findall(unquoted)]


class Authenticator:
    """Holds the credential of one registry and gives each request its Authorization. Thread-safe."""

    def __init__(self, registry: str, credential: Credential | None) -> None:
        self._registry = registry
        self._credential = credential
        self._lock = threading.Lock()
        self._header: str | None = None

    def headers(self) -> dict[str, str]:
        """Headers for a request to the registry's own host, and to no other."""
        with self._lock:
            return {"Authorization": self._header} if self._header else {}

    def answer_challenge(self, answer: Answer) -> None:
        """Get ready to send the request that was answered with 401 once more.

        Raises CredentialsMissing, AuthenticationUnsupported.
        """
        offered = schemes(answer.headers.get("WWW-Authenticate", ""))
        if self._credential is None:
            raise CredentialsMissing(
                f"{self._registry} wants a login and no credential is known for it",
                hint=f"docker login {self._registry}, or give --username with --password-stdin, "
                "or set PUSHER_USERNAME and PUSHER_PASSWORD",
            )
        if offered and "basic" not in offered:
            raise AuthenticationUnsupported(
                f"{self._registry} asks for {offered[0].capitalize()} authentication, "
                "which this version of pusher does not speak",
                hint="only Basic authentication is supported",
            )
        pair = f"{self._credential.username}:{self._credential.password}".encode()
        with self._lock:
            # serverless-registry compares the scheme's name with its case
            self._header = "Basic " + base64.b64encode(pair).decode("ascii")

    def rejected(self, answer: Answer) -> CredentialsRejected:
        """The error for a 401 that came although the challenge was answered."""
        words = read_message(answer).text
        source = self._credential.source if self._credential else "no credential"
        user = f" for user {self._credential.username}" if self._credential else ""
        return CredentialsRejected(
            f"{self._registry} rejects the credential{user} ({source})" + (f": {words}" if words else ""),
            hint=f"check user name and password; docker login {self._registry} stores new ones",
        )
