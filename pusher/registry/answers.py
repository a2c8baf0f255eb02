"""Translate an error response of a registry to a PusherError that quotes it."""

from __future__ import annotations

import email.utils
import json
import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

from pusher.dataclass import dataclass
from pusher.errors import (
    IntermediaryFault,
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
from pusher.registry.http.redaction import for_display, host_of, redact, shorten

_BUSY: Final = frozenset({408, 429, 503})
UNAMBIGUOUS: Final = frozenset({408, 413, 429, 503, 504, 524})
"""Statuses that mean the same from a registry and an intermediary: wait, send less, it may still be busy."""
_MAX_ERRORS: Final = 100
"""Errors of one answer that are read."""
_LONGEST_CODE: Final = 100
_LONGEST_PAUSE: Final = 24 * 3600.0
_LONGEST_PATH: Final = 100
"""Characters of a request's path that are shown."""
_LONGEST_NAME: Final = 60
"""Characters of a server's name that are shown."""
_PAGES: Final = ("text/html", "application/xhtml+xml")
_QUOTA: Final = (
    r"(?i)\bquota|storage (?:limit|space|resource|capacity|is full)|insufficient storage|"
    r"exceed\w* .{0,80}\b(?:storage|upper limit|plan)|(?:out of|not enough|no) (?:disk |storage )?space"
)
"""How registries report that a quota or their storage is used up."""
_FINAL_CODES: Final = frozenset({"DENIED", "NAME_UNKNOWN", "NAME_INVALID", "UNAUTHORIZED"})
"""Codes about the request rather than the state of an upload: it will be refused again."""
_CLOUDFLARE: Final = {
    520: "got an invalid answer from it (520)",
    521: "cannot connect to it: connection refused (521)",
    522: "cannot connect to it: timed out (522)",
    523: "cannot reach it (523)",
    524: "waited 100 seconds for its answer (524)",
    525: "cannot agree on TLS with it (525)",
    526: "does not trust its certificate (526)",
    1006: "blocks this address (error code 1006)",
    1010: "blocks this client (error code 1010)",
    1015: "limits the rate of requests (error code 1015)",
    1020: "blocks this request (error code 1020)",
    1101: "runs it as a Worker that failed (error code 1101)",
    1102: "runs it as a Worker that exceeded its time limit (error code 1102)",
}
"""https://developers.cloudflare.com/support/troubleshooting/http-status-codes/: statuses 52x, and the numbers
of its error pages."""


@dataclass(frozen=True)
class RegistryMessage:
    """The errors in a body (distribution-spec, "Error Codes"), or the text of an intermediary."""

    codes: frozenset[str]
    text: str
    digests: tuple[str, ...] = ()
    """Digests that the errors name in their details."""


def read_message(answer: Answer) -> RegistryMessage:
    """Read an error body: the specification's JSON, or the HTML or plain text of an intermediary."""
    try:
        errors = load_json(answer.body)["errors"]
        entries = [entry for entry in errors[:_MAX_ERRORS] if isinstance(entry, dict)]
    except (ValueError, KeyError, TypeError):
        return RegistryMessage(frozenset(), for_display(page_text(answer.body), answer.url))
    texts = [str(entry.get("message") or entry.get("code") or "") for entry in entries]
    details = json.dumps([entry.get("detail") for entry in entries])
    codes = (entry.get("code") for entry in entries)
    return RegistryMessage(
        codes=frozenset(code[:_LONGEST_CODE] for code in codes if isinstance(code, str) and code),
        text=for_display("; ".join(dict.fromkeys(text for text in texts if text)), answer.url),
        digests=tuple(dict.fromkeys(re.findall(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", details))),
    )


def is_page(answer: Answer) -> bool:
    """Return whether an answer is HTML, or a storage backend's XML, which no registry sends."""
    media_type = str(answer.headers.get("Content-Type", "")).partition(";")[0].strip().lower()
    if media_type in _PAGES:
        return True
    content = answer.ok and answer.method in ("GET", "HEAD")  # whose beginning varies
    return not content and answer.body.lstrip()[:1] == b"<"


def reports_quota(answer: Answer) -> bool:
    """Return whether the registry reports an exceeded quota, with any status: a retry does not help."""
    message = read_message(answer)
    if answer.ok or answer.status in _BUSY or not message.codes:
        return False
    if answer.status == 507 or (answer.status == 413 and _has(message.codes, {"DENIED"})):
        return True
    return answer.status < 500 and bool(re.search(_QUOTA, message.text))


def is_temporary(answer: Answer) -> bool:
    """Return whether the same request may succeed later: after 408, 429 and 5xx, except for a quota."""
    return (answer.status in _BUSY or answer.status >= 500) and not reports_quota(answer)


def is_size_refusal(answer: Answer) -> bool:
    """Return whether an answer is a 413 about the size of the body, and not about a quota."""
    return answer.status == 413 and not reports_quota(answer)


def is_final(answer: Answer) -> bool:
    """Return whether the registry refuses more than this one upload, by its own error codes."""
    refused = 400 <= answer.status < 500 and _has(read_message(answer).codes, _FINAL_CODES)
    return reports_quota(answer) or (refused and answer.status not in _BUSY)


def refusal(answer: Answer, *, doing: str) -> PusherError:
    """Return the error for an unexpected answer; ``doing`` completes "while ..."."""
    message = read_message(answer)
    cloudflare = _cloudflare_meaning(answer, message)
    words = ": " + (cloudflare or message.text) if cloudflare or message.text else ""
    request = _describe_request(answer) + _describe_sender(answer)
    what = f"{host_of(answer.url)} answered {answer.status} while {doing}{words} ({request})"
    if answer.status in _BUSY:
        return RegistryBusy(what, hint="pusher waits and continues", retry_after=retry_after(answer))
    if is_temporary(answer):
        return RegistryFault(what, hint="the registry failed; pusher waits and continues")
    if reports_quota(answer):
        return RegistryRefused(
            what,
            hint="free space at the registry (delete old images, collect garbage) or have its quota raised; "
            "the push continues where it stopped",
        )
    if cloudflare and answer.status == 403:
        return PermissionDenied(
            what, hint="ask the registry's administrator to let this network through Cloudflare's firewall"
        )
    if is_page(answer):
        kind = PermissionDenied if answer.status == 403 else RegistryRefused
        return kind(
            what,
            hint="this is a web page, not a registry's answer: ask the owner of what is in front of it (a "
            f"proxy, a firewall, this network's login page) to let pusher through to {host_of(answer.url)}",
        )
    if answer.status == 403 or _has(message.codes, {"DENIED"}):
        return PermissionDenied(
            what, hint="ask the registry's administrator for permission to push to this repository"
        )
    if _has(message.codes, {"NAME_UNKNOWN", "REPOSITORY_NOT_FOUND"}):
        return RepositoryUnknown(what, hint="create the repository at the registry first, or check its name")
    if not message.codes and answer.status in (404, 405):
        return RegistryRefused(
            what,
            hint="a registry would say why: check the names of registry and repository, or ask the owner of "
            "what is in front of the registry",
        )
    return RegistryRefused(what, hint="the registry will refuse it again; fix what it names first")


def outage(answer: Answer, doing: str) -> IntermediaryFault:
    """Return the error for an intermediary's answer, after which the registry itself may answer again."""
    error = refusal(answer, doing=doing)
    fault = IntermediaryFault(
        error.message,
        hint="this is not the registry's own answer: nothing it stores is lost, and pusher waits and "
        "continues; if it lasts, ask the owner of what is in front of the registry (a proxy, a firewall, a "
        "login page)",
        retry_after=error.retry_after,
    )
    fault.meaning = error
    return fault


def describe_answer(answer: Answer) -> str:
    """Return the text of an answer and its sender, to follow the status; "" if it has no text."""
    text, sender = read_message(answer).text, _describe_sender(answer).removeprefix(", ")
    return (f": {text}" if text else "") + (f" ({sender})" if sender else "")


def _describe_sender(answer: Answer) -> str:
    """Return what the Server and Via headers name, unless the answer has a registry's error codes."""
    if read_message(answer).codes:
        return ""
    names = [
        f"{title} {shorten(for_display(str(answer.headers[header])), _LONGEST_NAME)}"
        for title, header in (("answered by", "Server"), ("through", "Via"))
        if answer.headers.get(header)
    ]
    return "".join(f", {name}" for name in names)


def _describe_request(answer: Answer) -> str:
    """Return method and path, without the host, with which the message begins, and without the query."""
    path = redact(answer.url.partition("?")[0]).partition("//")[2].partition("/")[2]
    if len(path) > _LONGEST_PATH:
        path = f"{path[: _LONGEST_PATH // 2]}…{path[-_LONGEST_PATH // 2 :]}"
    return f"{answer.method} /{path}"


def retry_after(answer: Answer) -> float | None:
    """Return the seconds of a valid Retry-After (a number or a date, RFC 9110 10.2.3), at most a day."""
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


def _cloudflare_meaning(answer: Answer, message: RegistryMessage) -> str:
    """Return what a status or number of Cloudflare means, "" for an answer that is not Cloudflare's."""
    if message.codes:
        return ""
    number = re.search(r"(?i)\berror (?:code:? )?(1\d{3})\b", message.text)
    meaning = _CLOUDFLARE.get(int(number[1]) if number else answer.status)
    return f"Cloudflare, in front of the registry, {meaning}" if meaning else ""
