"""Who answered: the registry, or something in front of it.

Portals, balancers, firewalls and login pages answer in a registry's place, with any status, 200 among them.
No list of them is ever complete. What can be known is what a registry's own answers look like (errors in the
specification's JSON, challenges, headers of the API) and what this one has sent before. An answer that looks
otherwise is an outage: what the registry holds stays there, and the same request is worth another try.
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

_SIGN: Final = "Docker-Distribution-Api-Version"
_OWN_HEADERS: Final = ("Docker-Upload-UUID", "Docker-Content-Digest", "OCI-Subject", "OCI-Chunk-Min-Length")
CLOSING: Final = "closing an upload"
STATUS: Final = "asking for the state of an upload"
OPENING: Final = "opening an upload"


class Voice(Enum):
    """Whose an answer is."""

    REGISTRY = "registry"
    FRONT = "front"
    UNCLEAR = "unclear"
    DOUBTFUL = "doubtful"
    """A success without what should be in it: a look for what should be there now tells."""


def stores(answer: Answer, digest: str) -> bool:
    """Whether an answer to a PUT says that the blob or manifest is there (distribution-spec, end-6 and end-7:
    201 with its Location; all registries seen give its digest as well)."""
    if answer.status != 201 or is_page(answer):
        return False
    told = answer.headers.get("Docker-Content-Digest")
    return not contradicts(told, digest) if told else bool(answer.headers.get("Location"))


def takes_bytes(answer: Answer) -> bool:
    """Whether an answer to a chunk acknowledges it: 202 by the specification, 201 by ECR, with its Location
    or Range. Range may lack (https://github.com/opencontainers/distribution-spec/issues/578)."""
    named = any(answer.headers.get(name) for name in ("Location", "Range", "Docker-Upload-UUID"))
    return answer.status in (201, 202) and named and not is_page(answer)


class Recognition:
    """What the answers of one registry look like, and for how long something else has answered. Thread-safe.

    ``known``: it has taken uploads before this process began. Requests are told apart by what they are for,
    the ``doing`` of ``answers.refusal``.
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
        self._heard: set[str] = set()
        self._signed: set[str] = set()
        self._places: dict[str, set[str]] = {}  # what was heard about each repository
        self._since: dict[tuple[str, str], float] = {}

    def judge(self, answer: Answer, doing: str) -> Voice:
        """Whose an answer to a request is."""
        codes = read_message(answer).codes if not answer.ok else frozenset()
        if codes and not is_page(answer):
            return Voice.REGISTRY
        if answer.status == 401:
            challenged = bool(parse_challenges(answer.headers.get("WWW-Authenticate", "")))
            return Voice.REGISTRY if challenged else Voice.FRONT
        if any(answer.headers.get(name) for name in _OWN_HEADERS):
            return Voice.REGISTRY
        if is_page(answer) or self._lacks_sign(answer, doing):
            return Voice.FRONT
        if answer.headers.get(_SIGN):
            return Voice.REGISTRY
        if answer.ok:
            return self._judge_success(answer, doing)
        if answer.method == "HEAD":  # there is no body to tell more by
            voices = {404: Voice.REGISTRY, 405: Voice.REGISTRY, 400: Voice.UNCLEAR, 403: Voice.UNCLEAR}
            return voices.get(answer.status, Voice.FRONT)
        # serverless-registry says nothing more of a session that it does not know
        bare = answer.method == "GET" and answer.status in (404, 410) and not answer.body.strip()
        return Voice.UNCLEAR if bare else Voice.FRONT

    @staticmethod
    def _judge_success(answer: Answer, doing: str) -> Voice:
        if answer.headers.get("Location") or answer.headers.get("Range"):
            return Voice.REGISTRY
        if answer.method in ("GET", "HEAD") and doing != STATUS:
            return Voice.REGISTRY  # what was asked for is compared with its digest
        return Voice.DOUBTFUL if answer.method == "PUT" else Voice.FRONT

    def _lacks_sign(self, answer: Answer, doing: str) -> bool:
        with self._lock:
            always = self._heard == self._signed and (len(self._signed) > 1 or doing in self._signed)
        return always and not answer.headers.get(_SIGN)

    def has_done(self, url: str, *doings: str) -> bool:
        """Whether the registry itself has answered any such request about the repository of ``url``."""
        place = _place(url)
        with self._lock:
            heard = self._places.get(place, set()) if place else self._heard
            return not heard.isdisjoint(doings)

    def is_stray(self, answer: Answer, doing: str) -> bool:
        """Whether a demand for a login is a front's: no registry asks so for what it has done before."""
        before = self.has_done(answer.url, doing, OPENING)
        return before and (is_page(answer) or self._lacks_sign(answer, doing))

    # --- outages ------------------------------------------------------------------------------------------

    @property
    def trusted(self) -> bool:
        """Whether the registry itself has ever answered."""
        with self._lock:
            return self._known or bool(self._heard)

    def heard(self, answer: Answer, doing: str) -> None:
        """The registry itself answered: an outage of such requests is over."""
        place = _place(answer.url)
        with self._lock:
            for key in ((doing, place), ("", place)):
                self._since.pop(key, None)
            self._heard.add(doing)
            self._places.setdefault(place, set()).add(doing)
            if answer.headers.get(_SIGN):
                self._signed.add(doing)
            else:
                self._signed.discard(doing)

    def wait_briefly(self, answer: Answer, doing: str) -> None:
        """The registry may have said this itself: raise RegistryFault until it has said so for a while."""
        if self._lasts(answer, doing) < self._policy.missing:
            raise outage(answer, doing)

    def _lasts(self, answer: Answer, doing: str) -> float:
        """Seconds since the first such answer in a row about the repository: rules of fronts go by paths.
        Where nothing was ever heard about it, any request counts."""
        now, place = self._clock(), _place(answer.url)
        with self._lock:
            key = (doing if place in self._places else "", place)
            return now - self._since.setdefault(key, now)

    def wait_for_registry(
        self, answer: Answer, doing: str, *, greets: Callable[[], bool] = lambda: False
    ) -> None:
        """Something else answered: raise RegistryFault while that may pass, and what it is once it lasts.

        ``greets`` tells whether the registry answers other requests meanwhile. Returns where there is no
        telling: the registry has never answered, never to such a request, or it may be what fails.
        """
        if not self.trusted:
            return
        with self._lock:
            proven = self._known or doing in self._heard
        begun = self._known or self.has_done(answer.url, OPENING)
        policy, lasts = self._policy, self._lasts(answer, doing)
        patience = policy.outage if proven else policy.outage_unproven
        wrong = not begun and policy.outage_new_repository <= lasts < patience and greets()
        if lasts < patience and not wrong:
            raise outage(answer, doing)
        if proven and answer.status < 500:
            raise refusal(answer, doing=doing)


def _place(url: str) -> str:
    """The repository that a request was about; "" where its URL does not show it, as of some uploads."""
    path = url.partition("?")[0].partition("/v2/")[2]
    named = path.partition("/manifests/")[0].partition("/blobs/")[0]
    return named if named != path else ""
