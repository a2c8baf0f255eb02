"""Decide whether a response is the registry's own or comes from an intermediary in front of it.

Captive portals, load balancers, firewalls and login pages answer in a registry's place, with any status,
even 200. No list of them is complete. But a registry's own answers can be recognized: errors in the
specification's JSON, challenges, headers of the API, and what this registry has sent before. Any other answer
is an outage: the registry keeps what it has, and the request can be retried.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Final

from pusher.oci.digest import contradicts
from pusher.registry.answers import is_page, outage, read_message, refusal
from pusher.registry.auth.challenge import parse_challenges
from pusher.registry.http.answer import Answer
from pusher.retry import DEFAULT, RetryPolicy

_VERSION_HEADER: Final = "Docker-Distribution-Api-Version"
_REGISTRY_HEADERS: Final = (
    "Docker-Upload-UUID",
    "Docker-Content-Digest",
    "OCI-Subject",
    "OCI-Chunk-Min-Length",
)
CLOSING: Final = "closing an upload"
STATUS: Final = "asking for the state of an upload"
OPENING: Final = "opening an upload"


class AnsweredBy(Enum):
    """The sender of an answer."""

    REGISTRY = "registry"
    INTERMEDIARY = "intermediary"
    UNCLEAR = "unclear"
    UNCONFIRMED = "unconfirmed"
    """A success without what it should contain: whether the blob or manifest exists must be checked."""


def is_stored(answer: Answer, digest: str) -> bool:
    """Return whether an answer to a PUT confirms that the blob or manifest is stored.

    201 with its Location (distribution-spec, end-6 and end-7); all registries seen send its digest as well.
    """
    if answer.status != 201 or is_page(answer):
        return False
    stored = answer.headers.get("Docker-Content-Digest")
    return not contradicts(stored, digest) if stored else bool(answer.headers.get("Location"))


def is_chunk_accepted(answer: Answer) -> bool:
    """Return whether an answer acknowledges a chunk: 202 by the specification, 201 by ECR, with Location or
    Range. Range may be missing (https://github.com/opencontainers/distribution-spec/issues/578)."""
    named = any(answer.headers.get(name) for name in ("Location", "Range", "Docker-Upload-UUID"))
    return answer.status in (201, 202) and named and not is_page(answer)


class IntermediaryDetector:
    """Distinguishes one registry's answers from intermediaries', and times outages. Thread-safe.

    ``known``: the registry accepted uploads before this process started. Requests are distinguished by their
    purpose, the ``doing`` of ``answers.refusal``.
    """

    def __init__(
        self,
        *,
        known: bool = False,
        policy: RetryPolicy = DEFAULT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._known = known
        self._policy = policy
        self._clock = clock
        self._lock = threading.Lock()
        self._answered: set[str] = set()
        self._versioned: set[str] = set()
        self._answered_at: dict[str, set[str]] = {}  # by repository
        self._since: dict[tuple[str, str], float] = {}

    def classify(self, answer: Answer, doing: str) -> AnsweredBy:
        """Return the sender of the answer to a request."""
        codes = read_message(answer).codes if not answer.ok else frozenset()
        if codes and not is_page(answer):
            return AnsweredBy.REGISTRY
        if answer.status == 401:
            challenged = bool(parse_challenges(answer.headers.get("WWW-Authenticate", "")))
            return AnsweredBy.REGISTRY if challenged else AnsweredBy.INTERMEDIARY
        if any(answer.headers.get(name) for name in _REGISTRY_HEADERS):
            return AnsweredBy.REGISTRY
        if is_page(answer) or self._lacks_version_header(answer, doing):
            return AnsweredBy.INTERMEDIARY
        if answer.headers.get(_VERSION_HEADER):
            return AnsweredBy.REGISTRY
        if answer.ok:
            return self._classify_success(answer, doing)
        if answer.method == "HEAD":  # it has no body
            senders = {
                404: AnsweredBy.REGISTRY,
                405: AnsweredBy.REGISTRY,
                400: AnsweredBy.UNCLEAR,
                403: AnsweredBy.UNCLEAR,
            }
            return senders.get(answer.status, AnsweredBy.INTERMEDIARY)
        # serverless-registry answers so for a session that it does not know
        bare = answer.method == "GET" and answer.status in (404, 410) and not answer.body.strip()
        return AnsweredBy.UNCLEAR if bare else AnsweredBy.INTERMEDIARY

    @staticmethod
    def _classify_success(answer: Answer, doing: str) -> AnsweredBy:
        if answer.headers.get("Location") or answer.headers.get("Range"):
            return AnsweredBy.REGISTRY
        if answer.method in ("GET", "HEAD") and doing != STATUS:
            return AnsweredBy.REGISTRY  # its content is verified by its digest
        return AnsweredBy.UNCONFIRMED if answer.method == "PUT" else AnsweredBy.INTERMEDIARY

    def _lacks_version_header(self, answer: Answer, doing: str) -> bool:
        with self._lock:
            always = self._answered == self._versioned and (
                len(self._versioned) > 1 or doing in self._versioned
            )
        return always and not answer.headers.get(_VERSION_HEADER)

    def has_answered(self, url: str, *doings: str) -> bool:
        """Return whether the registry itself has answered such a request about the repository of ``url``."""
        repository = _repository_of(url)
        with self._lock:
            answered = self._answered_at.get(repository, set()) if repository else self._answered
            return not answered.isdisjoint(doings)

    def is_stray_challenge(self, answer: Answer, doing: str) -> bool:
        """Return whether a 401 is an intermediary's: this registry has answered such requests before, and
        otherwise."""
        before = self.has_answered(answer.url, doing, OPENING)
        return before and (is_page(answer) or self._lacks_version_header(answer, doing))

    # --- outages ------------------------------------------------------------------------------------------

    @property
    def is_registry_known(self) -> bool:
        """Return whether the registry itself has answered at least once."""
        with self._lock:
            return self._known or bool(self._answered)

    def record_answer(self, answer: Answer, doing: str) -> None:
        """Record an answer of the registry itself: an outage of such requests is over."""
        repository = _repository_of(answer.url)
        with self._lock:
            for key in ((doing, repository), ("", repository)):
                self._since.pop(key, None)
            self._answered.add(doing)
            self._answered_at.setdefault(repository, set()).add(doing)
            if answer.headers.get(_VERSION_HEADER):
                self._versioned.add(doing)
            else:
                self._versioned.discard(doing)

    def raise_if_recent(self, answer: Answer, doing: str) -> None:
        """Raise RegistryFault for an answer that may be the registry's, until it has lasted for a while."""
        if self._outage_seconds(answer, doing) < self._policy.missing:
            raise outage(answer, doing)

    def _outage_seconds(self, answer: Answer, doing: str) -> float:
        """Return the seconds since the first such answer in a row about the repository: intermediaries have
        rules by path. If the registry never answered about it, any request counts."""
        now, repository = self._clock(), _repository_of(answer.url)
        with self._lock:
            key = (doing if repository in self._answered_at else "", repository)
            return now - self._since.setdefault(key, now)

    def raise_while_passing(
        self, answer: Answer, doing: str, *, greets: Callable[[], bool] = lambda: False
    ) -> None:
        """Raise RegistryFault for an intermediary's answer while the outage may pass, then ``refusal``.

        ``greets`` returns whether the registry answers GET /v2/ meanwhile. Returns if nothing is certain: the
        registry has never answered, or never such a request, or it may be the registry that fails.
        """
        if not self.is_registry_known:
            return
        with self._lock:
            proven = self._known or doing in self._answered
        begun = self._known or self.has_answered(answer.url, OPENING)
        policy, lasts = self._policy, self._outage_seconds(answer, doing)
        patience = policy.outage if proven else policy.outage_unproven
        wrong = not begun and policy.outage_new_repository <= lasts < patience and greets()
        if lasts < patience and not wrong:
            raise outage(answer, doing)
        if proven and answer.status < 500:
            raise refusal(answer, doing=doing)


def _repository_of(url: str) -> str:
    """Return the repository that a request is about; "" if its URL does not show it, as for some uploads."""
    path = url.partition("?")[0].partition("/v2/")[2]
    named = path.partition("/manifests/")[0].partition("/blobs/")[0]
    return named if named != path else ""
