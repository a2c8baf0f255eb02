"""What a registry's error answer means: one of our errors, with the registry's own words in it."""

from __future__ import annotations

import email.utils
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote, urlsplit

from pusher.errors import (
    PermissionDenied,
    PusherError,
    RegistryBusy,
    RegistryFault,
    RegistryRefused,
    RepositoryUnknown,
)
from pusher.registry.transport import Answer, host_of

_BUSY: Final = frozenset({408, 429, 503})
_WORDS: Final = 300
"""Characters of a registry's own message that are shown."""
_LEAST_SECRET: Final = 8
"""Characters; shorter values of a query are none."""


@dataclass(frozen=True)
class RegistryMessage:
    """The first error of a body (distribution-spec, "Error Codes"), or what a front said instead."""

    codes: frozenset[str]
    text: str
    digests: tuple[str, ...] = ()
    """Digests that the errors name in their details."""


def read_message(answer: Answer) -> RegistryMessage:
    """Read an error body: the specification's JSON, or the HTML or plain text of a front."""
    try:
        errors = json.loads(answer.body)["errors"]
        entries = [entry for entry in errors if isinstance(entry, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return RegistryMessage(frozenset(), _for_people(_plain(answer.body), answer.url))
    texts = [str(entry.get("message") or entry.get("code") or "") for entry in entries]
    details = json.dumps([entry.get("detail") for entry in entries])
    return RegistryMessage(
        codes=frozenset(str(entry.get("code", "")) for entry in entries),
        text=_for_people("; ".join(dict.fromkeys(text for text in texts if text)), answer.url),
        digests=tuple(dict.fromkeys(re.findall(r"sha256:[0-9a-f]{64}", details))),
    )


def refusal(answer: Answer, *, doing: str) -> PusherError:
    """The error for an answer that was not expected; ``doing`` completes "while ..."."""
    host = host_of(answer.url)
    message = read_message(answer)
    words = f": {message.text}" if message.text else ""
    what = f"{host} answered {answer.status} while {doing}{words}"
    if answer.status in _BUSY:
        return RegistryBusy(what, hint="pusher waits and goes on", retry_after=retry_after(answer))
    if answer.status >= 500:
        return RegistryFault(what, hint="the fault is on the registry's side; pusher waits and goes on")
    if answer.status == 403 or _has(message.codes, {"DENIED"}):
        return PermissionDenied(
            what, hint="ask the registry's owner for the right to push to this repository"
        )
    if _has(message.codes, {"NAME_UNKNOWN", "REPOSITORY_NOT_FOUND"}):
        return RepositoryUnknown(what, hint="create the repository at the registry first, or check its name")
    return RegistryRefused(what, hint="the registry will say the same again; mend what it names first")


def retry_after(answer: Answer) -> float | None:
    """Seconds of a Retry-After header (a number or a date, RFC 9110 10.2.3), if there is a usable one."""
    value = answer.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _has(codes: Collection[str], wanted: Collection[str]) -> bool:
    return any(code.upper() in wanted for code in codes)


def _plain(body: bytes) -> str:
    text = body[: 64 * 1024].decode("utf-8", errors="replace")
    if "<" in text:
        text = re.sub(r"(?s)<(script|style)\b.*?</\1>|<[^>]*>", " ", text)
    return text


def _for_people(text: str, url: str) -> str:
    """One short printable line, without what an echo of the request would give away."""
    text = re.sub(r"\b((?i:basic|bearer)) (?=\S{8})\S[a-z]*[^a-z\s]\S*", r"\1 …", text)
    text = re.sub(r"\?[^\s\"'<>]*=[^\s\"'<>]*", "?…", re.sub(r"//[^/\s]*@", "//", text))
    for pair in urlsplit(url).query.split("&"):
        name, _, value = pair.partition("=")
        if name != "digest" and len(value) >= _LEAST_SECRET:
            text = text.replace(value, "…").replace(unquote(value), "…")
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= _WORDS else text[: _WORDS - 1] + "…"
