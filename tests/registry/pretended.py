"""Clients without a registry: a transport that pretends to reach any host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pusher.registry.auth.authenticator import Authenticator
from pusher.registry.auth.credentials import Credential
from pusher.registry.client import RegistryClient
from pusher.registry.http.answer import Answer
from pusher.registry.http.body import Body
from pusher.registry.http.transport import ANSWER_LIMIT, Receiver, Transport
from tests.support.quick import AT_ONCE

LOGIN: Final = ("ann", "s3cr3t")


class Pretended(Transport):
    """A transport to any host: ``answers`` maps "METHOD url" to status, headers and body."""

    def __init__(self, answers: Mapping[str, tuple[int, dict[str, str]]]) -> None:
        self.answers = answers
        self.sent: list[tuple[str, str, dict[str, str]]] = []

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | bytes | None = None,
        answer_timeout: float | None = None,
        receiver: Receiver | None = None,
        limit: int = ANSWER_LIMIT,
        sent_by: str = "",
    ) -> Answer:
        self.sent.append((method, url, dict(headers or {})))
        found = self.answers.get(f"{method} {url}")
        if found is None and url.endswith("/v2/"):
            found = (200, {}) if "Authorization" in (headers or {}) else (401, {})
        assert found is not None, f"not expected: {method} {url}"
        return Answer(method, url, *found)

    @property
    def logins(self) -> dict[str, bool]:
        """Whether the last request to each "METHOD url" carried the login."""
        return {f"{method} {url}": "Authorization" in headers for method, url, headers in self.sent}


def client_over(
    transport: Transport,
    registry: str = "r.example",
    *,
    login: tuple[str, str] | None = LOGIN,
    plain_http: bool = False,
) -> RegistryClient:
    credential = Credential(*login, "a test") if login else None
    return RegistryClient(
        registry, transport, Authenticator(registry, credential), plain_http=plain_http, policy=AT_ONCE
    )
