"""Parse a registry's challenges in its WWW-Authenticate headers (RFC 9110 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Final

from pusher.dataclass import dataclass

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_ITEM: Final = re.compile(
    rf"""[\s,]*+(?:
      (?P<name>{_WORD})\s*=(?!=)\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"?|(?P<plain>[^\s,]*))
    | (?P<scheme>{_WORD})(?:\s+[\w.~+/-]+=*(?=\s*(?:,|$)))?
    | (?P<nonsense>[^\s,]+)
    )""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
"""A parameter, or the start of a challenge. Values may lack their quotes
(https://github.com/cloudflare/serverless-registry/issues/122)."""


_MAX_HEADER: Final = 8 * 1024
"""Characters of the header that are read."""
_MAX_CHALLENGES: Final = 16
"""Challenges, and parameters of one, that are read."""


@dataclass(frozen=True)
class Challenge:
    """One way to log in. ``scheme`` and the names of parameters are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def realm(self) -> str:
        """Return the URL of the token server, for Bearer."""
        return self.parameters.get("realm", "")

    @property
    def service(self) -> str:
        return self.parameters.get("service", "")

    @property
    def scopes(self) -> tuple[str, ...]:
        """Return the scopes that a token needs; separated by spaces in the header (RFC 6750 3)."""
        return tuple(self.parameters.get("scope", "").split())

    @property
    def error(self) -> str:
        """``invalid_token``, ``insufficient_scope`` (RFC 6750 3.1), or ""."""
        return self.parameters.get("error", "").lower()

    def is_equivalent(self, other: Challenge) -> bool:
        """Return whether the same answer fits both; the realm of Basic has no meaning."""
        if self.scheme != other.scheme or self.scheme == "basic":
            return self.scheme == other.scheme
        return (self.realm, self.service) == (other.realm, other.service)


def parse_challenges(header: str) -> list[Challenge]:
    """Return all challenges of a WWW-Authenticate header, or of several joined with commas.

    Never fails: what does not fit the grammar is skipped, and the first of repeated parameters counts.
    """
    challenges: list[Challenge] = []
    parameters: dict[str, str] = {}
    header, at = header[:_MAX_HEADER].rstrip(", \t\r\n"), 0
    while (
        (item := _ITEM.match(header, at))
        and len(challenges) <= _MAX_CHALLENGES
        and len(parameters) < _MAX_CHALLENGES
    ):
        at = item.end()
        if item["scheme"]:
            parameters = {}
            challenges.append(Challenge(item["scheme"].lower(), parameters))
        elif item["name"] and item["quoted"] is not None:
            parameters.setdefault(item["name"].lower(), re.sub(r"(?s)\\(.)", r"\1", item["quoted"]))
        elif item["name"]:
            parameters.setdefault(item["name"].lower(), item["plain"])
    return challenges[:_MAX_CHALLENGES]


def choose_challenge(challenges: Collection[Challenge]) -> Challenge | None:
    """Return the challenge to answer: Bearer that names its token server, else Basic."""
    for challenge in challenges:
        if challenge.scheme == "bearer" and challenge.realm:
            return challenge
    return next((challenge for challenge in challenges if challenge.scheme == "basic"), None)


def missing_scopes(wanted: Collection[str], asked: Collection[str]) -> tuple[str, ...]:
    """Return the scopes of ``wanted`` that ``asked`` do not include: ``repository:a:pull`` is part of
    ``repository:a:pull,push`` (distribution, docs/content/spec/auth/scope.md)."""
    held: dict[str, set[str]] = {}
    for scope in asked:
        resource, _, actions = scope.rpartition(":")
        held.setdefault(resource, set()).update(actions.split(","))
    missing = []
    for scope in wanted:
        resource, _, actions = scope.rpartition(":")
        if resource and not set(actions.split(",")) <= held.get(resource, set()):
            missing.append(scope)
    return tuple(missing)
