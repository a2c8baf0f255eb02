"""Extract the text of a response that is not JSON: an intermediary's HTML page or plain text."""

from __future__ import annotations

from typing import Final

from pusher.secret import redact_secrets

_MAX_READ: Final = 64 * 1024
"""Bytes of the page that are read, each once or twice."""
_INVISIBLE: Final = (b"script", b"style")


def page_text(body: bytes) -> str:
    """Return the title of a page, else its text without tags; any other text unchanged."""
    # before tags are removed: a secret may look like one
    page = redact_secrets(body[:_MAX_READ].decode("utf-8", errors="replace")).encode()
    if b"<" not in page:
        return page.decode("utf-8", errors="replace")
    import html  # has a table of 2000 names

    lower = page.lower()
    words = _title(page, lower) or _visible_text(page, lower)
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


def _visible_text(page: bytes, lower: bytes) -> bytes:
    parts, at = [], 0
    while (tag := lower.find(b"<", at)) >= 0:
        parts.append(page[at:tag])
        hidden = next((name for name in _INVISIBLE if lower.startswith(name, tag + 1)), None)
        end = lower.find(b"</" + hidden, tag) if hidden else tag
        at = lower.find(b">", end) + 1 if end >= 0 else 0
        if not at:  # a tag or an element without end
            return b" ".join(parts)
    return b" ".join([*parts, page[at:]])
