"""What a registry's error answer means: one of our errors, with the registry's own words in it."""

from __future__ import annotations

import email.utils
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pusher.errors import (
    PermissionDenied,
    PusherError,
    RegistryBusy,
    RegistryFault,
    RegistryRefused,
    RepositoryUnknown,
)
from pusher.oci.bounded_json import load_json
from pusher.registry.http.answer import Answer
from pusher.registry.http.error_pages import page_text
from pusher.registry.http.redaction import for_people, host_of, redacted, shortened

_BUSY: Final = frozenset({408, 429, 503})
LEFT_ALONE: Final = frozenset({408, 413, 429, 503, 504, 524})
"""Statuses whose meaning is the same whoever says them: wait, be smaller, it may still be at work."""
_MOST_ERRORS: Final = 100
"""Errors of one answer that are read."""
_LONGEST_CODE: Final = 100
_LONGEST_PAUSE: Final = 24 * 3600.0
_LONGEST_PATH: Final = 100
"""Characters of a request's path that are shown."""
_LONGEST_NAME: Final = 60
"""Characters of a server's name that are shown."""
_PAGES: Final = ("text/html", "application/xhtml+xml")
_QUOTA: Final = re.compile(
    r"(?i)\bquota|storage (?:limit|space|resource|capacity|is full)|insufficient storage|"
    r"exceed\w* .{0,80}\b(?:storage|upper limit|plan)|(?:out of|not enough|no) (?:disk |storage )?space"
)
"""How registries say that there is no room for more."""
_FINAL_CODES: Final = frozenset({"DENIED", "NAME_UNKNOWN", "NAME_INVALID", "UNAUTHORIZED"})
"""Codes that speak of the request, and of no upload's state: it will be refused again."""
_CLOUDFLARE: Final = {
    520: "got an answer from it that makes no sense (520)",
    521: "is refused by it (521)",
    522: "cannot connect to it (522)",
    523: "finds no way to it (523)",
    524: "waited 100 seconds for its answer (524)",
    525: "cannot agree on TLS with it (525)",
    526: "does not trust its certificate (526)",
    1006: "blocks this address (error code 1006)",
    1010: "blocks this client (error code 1010)",
    1015: "lets no more requests through for now (error code 1015)",
    1020: "blocks this request (error code 1020)",
    1101: "runs it as a Worker that failed (error code 1101)",
    1102: "runs it as a Worker that used up its time (error code 1102)",
}
"""https://developers.cloudflare.com/support/troubleshooting/http-status-codes/: statuses 52x, and the numbers
of its error pages."""


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
        errors = load_json(answer.body)["errors"]
        entries = [entry for entry in errors[:_MOST_ERRORS] if isinstance(entry, dict)]
    except (ValueError, KeyError, TypeError):
        return RegistryMessage(frozenset(), for_people(page_text(answer.body), answer.url))
    texts = [str(entry.get("message") or entry.get("code") or "") for entry in entries]
    details = json.dumps([entry.get("detail") for entry in entries])
    codes = (entry.get("code") for entry in entries)
    return RegistryMessage(
        codes=frozenset(code[:_LONGEST_CODE] for code in codes if isinstance(code, str) and code),
        text=for_people("; ".join(dict.fromkeys(text for text in texts if text)), answer.url),
        digests=tuple(dict.fromkeys(re.findall(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", details))),
    )


def is_page(answer: Answer) -> bool:
    """Whether an answer is a page for people, which no registry gives: HTML, or XML of a storage."""
    media_type = str(answer.headers.get("Content-Type", "")).partition(";")[0].strip().lower()
    if media_type in _PAGES:
        return True
    content = answer.ok and answer.method in ("GET", "HEAD")  # what was asked for may begin with anything
    return not content and answer.body.lstrip()[:1] == b"<"


def tells_quota(answer: Answer) -> bool:
    """Whether a registry says that it has no room for more, with whatever status: a pause mends nothing."""
    message = read_message(answer)
    if answer.ok or answer.status in _BUSY or not message.codes:
        return False
    if answer.status == 507 or (answer.status == 413 and _has(message.codes, {"DENIED"})):
        return True
    return answer.status < 500 and bool(_QUOTA.search(message.text))


def is_temporary(answer: Answer) -> bool:
    """Return whether the same request may succeed later: 408, 429 and 5xx, but for a quota."""
    return (answer.status in _BUSY or answer.status >= 500) and not tells_quota(answer)


def refuses_size(answer: Answer) -> bool:
    """Whether an answer is a 413 about the body's size, and not a quota that is told with this status."""
    return answer.status == 413 and not tells_quota(answer)


def is_final(answer: Answer) -> bool:
    """Whether a registry's own words say no to more than this one upload."""
    own_no = 400 <= answer.status < 500 and _has(read_message(answer).codes, _FINAL_CODES)
    return tells_quota(answer) or (own_no and answer.status not in _BUSY)


def refusal(answer: Answer, *, doing: str) -> PusherError:
    """The error for an answer that was not expected; ``doing`` completes "while ..."."""
    message = read_message(answer)
    front = _front(answer, message)
    words = ": " + (front or message.text) if front or message.text else ""
    request = _asked(answer) + _who(answer)
    what = f"{host_of(answer.url)} answered {answer.status} while {doing}{words} ({request})"
    if answer.status in _BUSY:
        return RegistryBusy(what, hint="pusher waits and goes on", retry_after=retry_after(answer))
    if is_temporary(answer):
        return RegistryFault(what, hint="the fault is on the registry's side; pusher waits and goes on")
    if tells_quota(answer):
        return RegistryRefused(
            what,
            hint="make room at the registry (delete old images, collect its garbage) or have its quota "
            "raised; then: pusher retry JOB, which goes on where it was",
        )
    if front and answer.status == 403:
        return PermissionDenied(
            what, hint="ask the registry's owner to let this network through Cloudflare's firewall"
        )
    if is_page(answer):
        kind = PermissionDenied if answer.status == 403 else RegistryRefused
        return kind(
            what,
            hint="this is a page, and no answer of a registry: ask who runs what stands in front of it (a "
            f"proxy, a firewall, this network's login page) to let pusher through to {host_of(answer.url)}",
        )
    if answer.status == 403 or _has(message.codes, {"DENIED"}):
        return PermissionDenied(
            what, hint="ask the registry's owner for the right to push to this repository"
        )
    if _has(message.codes, {"NAME_UNKNOWN", "REPOSITORY_NOT_FOUND"}):
        return RepositoryUnknown(what, hint="create the repository at the registry first, or check its name")
    if not message.codes and answer.status in (404, 405):
        return RegistryRefused(
            what,
            hint="a registry says why it refuses, and this does not: check the name of registry and "
            "repository, or ask who runs what stands in front of the registry",
        )
    return RegistryRefused(what, hint="the registry will say the same again; mend what it names first")


def outage(answer: Answer, doing: str) -> PusherError:
    """The error for an answer that is not the registry's and may soon give way to one that is."""
    said = refusal(answer, doing=doing)
    return RegistryFault(
        said.message,
        hint="this is not the registry's own answer: what it holds is kept, and pusher waits and goes on; if "
        "it lasts, ask who runs what stands in front of it (a proxy, a firewall, a login page)",
        retry_after=said.retry_after,
    )


def said(answer: Answer) -> str:
    """What an answer says and who gave it, to be put behind its status; "" if it says nothing."""
    text, who = read_message(answer).text, _who(answer).removeprefix(", ")
    return (f": {text}" if text else "") + (f" ({who})" if who else "")


def _who(answer: Answer) -> str:
    """Who says that it answered, where it does not speak as a registry."""
    if read_message(answer).codes:
        return ""
    names = [
        f"{title} {shortened(for_people(str(answer.headers[header])), _LONGEST_NAME)}"
        for title, header in (("answered by", "Server"), ("through", "Via"))
        if answer.headers.get(header)
    ]
    return "".join(f", {name}" for name in names)


def _asked(answer: Answer) -> str:
    """The request: method and path, without the host, which the sentence begins with, and without query."""
    path = redacted(answer.url.partition("?")[0]).partition("//")[2].partition("/")[2]
    if len(path) > _LONGEST_PATH:
        path = f"{path[: _LONGEST_PATH // 2]}…{path[-_LONGEST_PATH // 2 :]}"
    return f"{answer.method} /{path}"


def retry_after(answer: Answer) -> float | None:
    """Seconds of a Retry-After header (a number or a date, RFC 9110 10.2.3), if there is a usable one; a
    day at most."""
    value = answer.headers.get("Retry-After", "")[:100].strip()
    if value.isdecimal():
        return min(float(value), _LONGEST_PAUSE)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(0.0, seconds), _LONGEST_PAUSE)


def _has(codes: Collection[str], wanted: Collection[str]) -> bool:
    return any(code.upper() in wanted for code in codes)


def _front(answer: Answer, message: RegistryMessage) -> str:
    """What Cloudflare means by a bare number, "" where somebody else speaks."""
    if message.codes:
        return ""
    said = re.search(r"(?i)\berror (?:code:? )?(1\d{3})\b", message.text)
    meaning = _CLOUDFLARE.get(int(said[1]) if said else answer.status)
    return f"Cloudflare, in front of the registry, {meaning}" if meaning else ""
