"""Remove the secrets in use from texts.

Passwords and tokens are recorded here when they are read. They are removed from responses before
these are shown, logged or stored: some servers quote requests, sometimes in another encoding.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections import OrderedDict
from typing import Final
from urllib.parse import quote, quote_plus

_MARK: Final = "…"
_WORD: Final = 4
"""Characters; a shorter secret is only found as a whole word."""
_DISTINCT: Final = 12
"""Characters from which on a secret cannot be a word of our own messages."""
_RECOGNIZED: Final = 16
"""Characters at the beginning of a long secret by which also a part of it is seen: some quote 100 of 1000."""
SHORT: Final = 2 * _RECOGNIZED
"""Characters; shorter secrets are not seen by a part of them."""
_MAX_PASSING: Final = 64

_lock: Final = threading.Lock()
_kept: Final[dict[str, tuple[str, ...]]] = {}
_passing: Final[OrderedDict[str, tuple[str, ...]]] = OrderedDict()


def note_secret(secret: str | None, *, username: str = "", passing: bool = False) -> None:
    """Remove this secret from every text from now on, and ``username:secret`` in base64.

    ``passing``: a token that expires soon; only the newest of those are remembered.
    """
    if not secret or not secret.strip():
        return
    with _lock:
        known = _passing if passing else _kept
        key = f"{username}:{secret}"
        if key not in known:
            forms = _forms(secret) | _forms(secret.strip())
            if username:
                forms |= _base64(raw(f"{username}:{secret}"))
            known[key] = tuple(sorted(forms, key=len, reverse=True))
        if passing:
            _passing.move_to_end(key)
            if len(_passing) > _MAX_PASSING:
                _passing.popitem(last=False)


def raw(text: str) -> bytes:
    """Return the bytes of a secret as they were given; those not in UTF-8 are surrogates in ``text``."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that encodes no byte
        return text.encode("utf-8", "surrogatepass")


def redact_secrets(text: str, *, distinct: bool = False) -> str:
    """Return ``text`` without the secrets in use, in any encoding; linear in its length.

    ``distinct``: remove only what cannot be a word by chance, for messages of our own.
    """
    with _lock:
        known = [*_kept.values(), *_passing.values()]
    for forms in known:
        long = [form for form in forms if len(form) >= SHORT]
        for head in dict.fromkeys(form[:_RECOGNIZED] for form in long):
            text = _redact_parts(text, head, [form for form in long if form.startswith(head)])
        for form in forms[len(long) :]:
            if len(form) < _WORD:
                text = text if distinct else re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", _MARK, text)
            elif not distinct or len(form) >= _DISTINCT:
                text = text.replace(form, _MARK)
    return text


def _redact_parts(text: str, head: str, forms: list[str]) -> str:
    """Remove what starts with ``head``, as far as it continues like one of the ``forms``."""
    parts, at = [], 0
    while (found := text.find(head, at)) >= 0:
        parts += [text[at:found], _MARK]
        at = found + max(_common_length(text[found : found + len(form)], form) for form in forms)
    return "".join([*parts, text[at:]])


def _common_length(one: str, other: str) -> int:
    """Return the length of the common prefix."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _forms(secret: str) -> frozenset[str]:
    """Return the secret as URLs, forms, JSON (of Python, Go, PHP), HTML, headers, base64 and hex write it."""
    sent = raw(secret)
    in_json = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    in_json |= {text.replace("/", "\\/") for text in in_json}
    in_json |= {
        text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e") for text in in_json
    }
    in_url = {quote(sent, safe=""), quote(sent), quote_plus(sent)}
    in_url |= {re.sub("%..", lambda found: found[0].lower(), text) for text in in_url}
    in_url |= {quote(text, safe="") for text in in_url}
    import html

    in_html = {
        html.escape(secret),
        html.escape(secret, quote=False),
        html.escape(secret).replace("&#x27;", "&#39;"),
    }
    forms = {secret, sent.decode("latin-1"), repr(secret)[1:-1], sent.hex(), *in_json, *in_url, *in_html}
    return frozenset(forms) | _base64(sent)


def _base64(sent: bytes) -> frozenset[str]:
    """Return ``sent`` in base64 at every position in what was encoded; only as a whole if it is short."""
    found = {base64.b64encode(sent), base64.urlsafe_b64encode(sent)}
    if len(sent) >= 2 * _WORD:
        for before in range(3):
            whole = base64.b64encode(b"\0" * before + sent)
            inner = whole[-(-before * 8 // 6) : (before + len(sent)) * 8 // 6]
            found |= {inner, inner.translate(bytes.maketrans(b"+/", b"-_"))}
    return frozenset(text.decode("ascii").rstrip("=") for text in found)
