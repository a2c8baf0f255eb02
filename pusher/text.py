"""Escape foreign text for a terminal, a log or a command to copy.

Text from a registry, an image, a file or another user is foreign: it may contain escape sequences,
bidirectional or invisible characters, lone surrogates and line breaks, and may have any length.
"""

from __future__ import annotations

import json
import shlex
import unicodedata
from typing import Final

LONGEST: Final = 4000
"""Characters of one line that are shown: more than a path can have."""
_LONGEST_WORD: Final = 200
_INVISIBLE: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10)))
)
"""Invisible characters that Python calls printable (Default_Ignorable_Code_Point; Braille's blank)."""


def printable(text: str, limit: int = LONGEST) -> str:
    """Return ``text`` as one line of at most ``limit`` characters that is safe for a terminal.

    Control characters, line breaks, marks of direction, characters without width and lone surrogates are
    escaped as in Python: ``\\x1b``, ``\\u202e``.
    """
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    shown = "".join(char if _is_visible(char) else _escape(char) for char in text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def printable_lines(text: str) -> str:
    """Escape each line of pusher's own text in the same way; only ``\\n`` separates lines."""
    return "\n".join(map(printable, text.split("\n")))


def quoted(text: object, limit: int = _LONGEST_WORD) -> str:
    """Return foreign text for use inside a sentence: in quotes, on one line, at most ``limit`` long."""
    return f"'{printable(str(text), limit)}'"


def suggest(command: str, *words: object) -> str:
    """Return a command to copy: each ``{}`` of ``command`` becomes a word, quoted for the shell.

    Return "" if a word cannot be copied from a terminal as it is, or would be taken for an option; an error
    then has the advice of its class.
    """
    texts = [str(word) for word in words]
    if any(not text or text.startswith("-") or printable(text) != text for text in texts):
        return ""
    return command.format(*map(shlex.quote, texts))


def as_json(value: object, *, indent: int | None = None) -> str:
    """Return JSON in ASCII. Lone surrogates, which no program can read, are escaped as by ``printable``."""
    text = json.dumps(value, indent=indent, default=str)
    if "\\ud" not in text:  # no surrogate, not even half of a pair
        return text
    return json.dumps(_escape_surrogates(value), indent=indent, default=str)


def _escape_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value if _has_whole_characters(value) else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_escape_surrogates(name): _escape_surrogates(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_escape_surrogates(inner) for inner in value]
    return value


def _has_whole_characters(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_visible(char: str) -> bool:
    # Python's "printable" leaves out the categories Cc, Cf (directions, joiners), Cs, Co, Cn, Zl, Zp and Zs.
    return char.isprintable() and char not in _INVISIBLE and not "\U000e0100" <= char <= "\U000e01ef"


def _escape(char: str) -> str:
    return " " if unicodedata.category(char) == "Zs" else char.encode("unicode_escape").decode()
