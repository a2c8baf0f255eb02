"""Secrets in use are in no text, however they are written there."""

from __future__ import annotations

import base64
import html
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus, urlencode

import pytest

from pusher.errors import PusherError
from pusher.registry.answers import read_message
from pusher.registry.auth.credentials import Credential
from pusher.registry.auth.tokens import Token
from pusher.registry.http.answer import Answer
from pusher.registry.http.proxies import Proxy
from pusher.registry.http.redaction import for_display, redact, redact_headers
from pusher.secret import note_secret, redact_secrets

PASSWORD: Final = 'p&ss w0rd/"<ü>+~=\\x'
USER: Final = "ann"


def _go(text: str) -> str:
    plain = json.dumps(text, ensure_ascii=False)
    return plain.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


ENCODINGS: Final[dict[str, Callable[[str], str]]] = {
    "plain": str,
    "url": lambda text: quote(text, safe=""),
    "path": quote,
    "form": quote_plus,
    "lower": lambda text: quote(text, safe="").replace("%C3%BC", "%c3%bc").replace("%3D", "%3d"),
    "all lower": lambda text: "".join(
        f"%{byte:02x}" if quote(chr(byte), safe="") != chr(byte) else chr(byte) for byte in text.encode()
    ),
    "twice": lambda text: quote(quote(text, safe=""), safe=""),
    "urlencode": lambda text: urlencode({"password": text}),
    "json": json.dumps,
    "json with its characters": lambda text: json.dumps(text, ensure_ascii=False),
    "php": lambda text: json.dumps(text).replace("/", "\\/"),
    "go": _go,
    "html": html.escape,
    "html, numbers": lambda text: html.escape(text).replace("&#x27;", "&#39;"),
    "python": repr,
    "latin-1": lambda text: text.encode().decode("latin-1"),
    "hex": lambda text: text.encode().hex(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for urls": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 without padding": lambda text: base64.b64encode(text.encode()).decode().rstrip("="),
    "basic": lambda text: base64.b64encode(f"{USER}:{text}".encode()).decode(),
    "inside base64": lambda text: base64.b64encode(
        json.dumps({"p": 1}).encode() + text.encode() + b"}"
    ).decode(),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("password", [PASSWORD, "correct-horse", "x" * 9 + "'\"" + "y" * 200])
def test_every_encoding(encoding: str, password: str) -> None:
    Credential(USER, password, "a file")
    written = ENCODINGS[encoding](password)
    shown = redact_secrets(f"before {written} after")
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert "…" in shown
    assert written not in shown
    assert password not in shown


def test_whatever_comes_from_a_login_is_noted() -> None:
    Credential("ann", "pass-word-1", "a file", identity_token="identity-1", registry_token="bearer-token-1")
    Token("token-of-a-server", 0.0, 1.0)
    Proxy("http://proxyuser:p%40ss-of-proxy@proxy.example:3128", "HTTPS_PROXY")
    text = "pass-word-1 identity-1 bearer-token-1 token-of-a-server p@ss-of-proxy p%40ss-of-proxy"
    assert redact_secrets(text) == "… … … … … …"


def test_a_part_of_a_long_secret_is_seen() -> None:
    token = "".join(chr(33 + (7 * number) % 90) for number in range(900))
    note_secret(token)
    assert redact_secrets(f"bad token {token[:100]}... again {token}!") == "bad token …... again …!"
    assert token[:20] not in for_display(token[:17_000] + "a" * 20_000)


def test_short_ones_are_no_part_of_words() -> None:
    note_secret("ab")
    note_secret("")
    note_secret(" ")
    assert redact_secrets("about ab, (ab) cab") == "about …, (…) cab"


def test_only_the_newest_tokens_are_remembered() -> None:
    note_secret("password-kept")
    for number in range(200):
        note_secret(f"token-number-{number}", passing=True)
    assert redact_secrets("password-kept token-number-0 token-number-199") == "… token-number-0 …"


def test_our_own_sentences() -> None:
    note_secret("registry")
    note_secret("s3cr3t-s3cr3t")
    error = PusherError("the registry says s3cr3t-s3cr3t", hint="not s3cr3t-s3cr3t")
    assert (error.message, error.hint) == ("the registry says …", "not …")


@pytest.mark.parametrize("where", ["message", "plain", "page", "detail"])
def test_answers_that_quote_it(where: str) -> None:
    note_secret(PASSWORD, username=USER)
    error = {"code": "UNAUTHORIZED", "message": f"no: {PASSWORD}", "detail": PASSWORD}
    body = {
        "message": json.dumps({"errors": [error]}),
        "detail": json.dumps({"errors": [{**error, "message": ""}]}),
        "plain": f"bad login {USER}:{PASSWORD}",
        "page": f"<html><title>Denied: {html.escape(PASSWORD)}</title>",
    }[where]
    text = read_message(Answer("GET", "https://r.example/v2/", 401, {}, body.encode())).text
    assert text
    assert "w0rd" not in text


def test_logs() -> None:
    note_secret("s3cr3t/t0ken", username="ann")
    for text in (
        redact("https://r.example/v2/s3cr3t%2Ft0ken/x"),
        *redact_headers(
            {"WWW-Authenticate": 'Basic realm="s3cr3t/t0ken"', "X-Echo": "s3cr3t/t0ken"}
        ).values(),
    ):
        assert "s3cr3t" not in text


def test_it_takes_no_time(tmp_path: Path) -> None:
    for number in range(80):
        note_secret(f"{number}" + "a" * 1000 + "b", passing=True)
    note_secret("a" * 40 + "c")
    began = time.process_time()
    assert redact_secrets("a" * 16_000) != ""
    for_display("a" * 65_536)
    assert time.process_time() - began < 1
