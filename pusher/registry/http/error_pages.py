"""The words of an answer that is no JSON: the HTML page or plain text of what stands before a registry."""

from __future__ import annotations

import html
from typing import Final

from pusher.secret import without_secrets

_LOOKED_AT: Final = 64 * 1024
"""Bytes of the page that are looked at, each of them once or twice."""
_NO_WORDS: Final = (b"script", b"style")


def page_text(body: bytes) -> str:
    """The title of a page, or else its text without tags; any other text as it is."""
    # before the tags are gone: a secret may look like one
    page = without_secrets(body[:_LOOKED_AT].decode("utf-8", errors="replace")).encode()
    if b"<" not in page:
        return page.decode("utf-8", errors="replace")
    lower = page.lower()
    words = _title(page, lower) or _words(page, lower)
    return html.unescape(words.decode("utf-8", errors="replace"))


def _title(page: bytes, lower: bytes) -> bytes:
    at = 0
    while (at := lower.find(b"<title", at)) >= 0:
        begin = lower.find(b">", at) + 1
        end = lower.find(b"<", begin)
        if not begin or end < 0:
            break
        if lower.startswith(b"</title", end) and (title := page[begin:end].strip()):
            return title
        at = end
    return b""


def _words(page: bytes, lower: bytes) -> bytes:
    parts, at = [], 0
    while (tag := lower.find(b"<", at)) >= 0:
        parts.append(page[at:tag])
        hidden = next((name for name in _NO_WORDS if lower.startswith(name, tag + 1)), None)
        end = lower.find(b"</" + hidden, tag) if hidden else tag
        at = lower.find(b">", end) + 1 if end >= 0 else 0
        if not at:  # a tag, or what it begins, that never ends
            return b" ".join(parts)
    return b" ".join([*parts, page[at:]])
