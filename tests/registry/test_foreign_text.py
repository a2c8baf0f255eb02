"""64 KiB of the worst for every reader of what a registry or what stands before it says: never slow."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import pytest

from pusher.errors import PusherError
from pusher.registry.answers import read_message, refusal, retry_after
from pusher.registry.auth.challenge import choose_challenge, missing_scopes, parse_challenges
from pusher.registry.http.answer import Answer
from pusher.registry.http.error_pages import page_text
from pusher.registry.http.redaction import for_display, host_of, one_line, redact, redact_headers
from pusher.registry.http.warnings import read_warnings
from pusher.registry.locations import Origin
from pusher.sources.engine.command import DOCKER, command_error

SIZE: Final = 64 * 1024
URL: Final = "https://r.example/v2/app/blobs/uploads/1?_state=0123456789abcdef"

_PIECES: Final = (
    *(
        "?",
        "?=",
        "a?",
        "=",
        "&",
        "//",
        "//@",
        "/",
        "@",
        "#",
        ",",
        ", ",
        ",\t",
        " ",
        "\\",
        '"',
        "'",
        '\\"',
        "\x00",
    ),
    *(
        "<",
        "<title",
        "<title>",
        "<title> ",
        "<script",
        "<script>",
        "<style ",
        "</script",
        "</title",
        "<a",
        "&amp",
        "&#",
    ),
    *("basic ", "bearer x", "Bearer aaaaaaaa", "eyJ", "eyJaaaaaaaa.", "error code: 1", "error "),
    *(
        "a",
        "a ",
        "a=",
        'a="',
        'a="b",',
        "a =",
        "Bearer realm=",
        "Basic ,",
        "a ==",
        "x\n",
        "\n",
        "\u00e9",
        "%2",
    ),
    *('299 - "', ',299 - "', '299 - "\\', ", 299 -", "299", "sha256:", "sha256:" + "a" * 63 + " ", "ALERT_"),
    *(
        "permission denied ",
        "permission denied docker ",
        "unable to find ",
        "containerd socket",
        "../",
        "[",
        "%",
    ),
)
WORST: Final = {
    **{piece: piece * (SIZE // len(piece)) for piece in _PIECES},
    "a url of ?": "//" + "?" * SIZE,
    "an open title": "<title" + " " * SIZE,
    "a title of blanks": "<title>" + " " * SIZE + "<",
    "an open script": "<script>" + "</scrip" * (SIZE // 7),
    "commas at the end": "Basic realm=x" + "," * SIZE,
    "blanks in a parameter": "a" + " " * SIZE + "!",
}


def _answer(body: bytes = b"", **headers: str) -> Answer:
    return Answer("GET", URL, 500, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def _location(text: str) -> None:
    for value in (text, f"https://{text}", f"/{text}"):
        with suppress(PusherError):
            Origin("r.example", URL).resolve_location(_answer(Location=value))
        with suppress(PusherError):
            Origin("r.example", URL).resolve_realm(value)


READERS: Final[dict[str, Callable[[str], object]]] = {
    "page": lambda text: page_text(text.encode()),
    "message": lambda text: read_message(_answer(text.encode())),
    "error": lambda text: read_message(
        _answer(json.dumps({"errors": [{"code": text, "message": text, "detail": text}]}).encode())
    ),
    "refusal": lambda text: refusal(_answer(text.encode(), Retry_After=text), doing="testing"),
    "retry-after": lambda text: retry_after(_answer(Retry_After=text)),
    "people": lambda text: for_display(text, URL + text[:4096]),
    "line": one_line,
    "url": redact,
    "host": host_of,
    "headers": lambda text: redact_headers({"WWW-Authenticate": text, "Location": text, "Via": text}),
    "challenge": lambda text: choose_challenge(parse_challenges(text)),
    "scopes": lambda text: missing_scopes(text.split(), text.split()),
    "warnings": lambda text: read_warnings({"Warning": text}),
    "location": _location,
    "engine": lambda text: command_error(DOCKER, ("save", "app"), 1, text.encode()),
}


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_is_slow(reader: str) -> None:
    slow = {}
    for name, text in WORST.items():
        began = time.process_time()
        READERS[reader](text)
        if (took := time.process_time() - began) > 0.5:
            slow[name] = took
    assert slow == {}


def test_what_is_read_is_bounded_in_number() -> None:
    assert len(parse_challenges("Basic, " * 1000)) == 16
    (challenge,) = parse_challenges("Bearer " + ", ".join(f"p{number}=v" for number in range(1000)))
    assert len(challenge.parameters) == 16
    assert len(read_warnings({"Warning": ", ".join(f'299 - "{number}"' for number in range(300))})) == 20
    errors = [{"code": str(number), "message": "no"} for number in range(20_000)]
    message = read_message(_answer(json.dumps({"errors": errors}).encode()))
    assert len(message.codes) == 100
    assert message.text == "no"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"plain", "plain"),
        (b"<html><title>502 Bad\nGateway</title><body>x", "502 Bad\nGateway"),
        (b"<TITLE lang=en>\n Blocked &amp; gone </TITLE>", "Blocked & gone"),
        (b"<title> </title><p>Words</p><script>var x = '<p>'</script><style>p{}</style> more", "Words more"),
        (b"<title></title>a<br>b<never closed", "a b"),
        (b"seen<script>never closed", "seen"),
        (b"<title><title>two</title>", "two"),
    ],
)
def test_pages(body: bytes, text: str) -> None:
    assert page_text(body).split() == text.split()
