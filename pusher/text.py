"""Text that others wrote, made fit for a terminal, a log and a command to copy.

What a registry answers and what an image, a file or another user names is foreign: it may hold escape
sequences, characters that turn a line around or are not seen at all, halves of characters, line breaks, and
any amount of it.
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
"""What Python calls printable and nobody sees (Default_Ignorable_Code_Point; Braille's blank)."""


def printable(text: str, limit: int = LONGEST) -> str:
    """``text`` as one line that a terminal shows and does not obey, of at most ``limit`` characters.

    Control characters, line breaks, marks of direction, what has no width, and lone surrogates are written as
    Python would write them: ``\\x1b``, ``\\u202e``.
    """
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    shown = "".join(char if _is_seen(char) else _escaped(char) for char in text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def printable_lines(text: str) -> str:
    """The same for a text of our own that has several lines: only ``\\n`` divides them."""
    return "\n".join(map(printable, text.split("\n")))


def quoted(text: object, limit: int = _LONGEST_WORD) -> str:
    """A foreign word inside a sentence: in quotes, as one line, and not longer than ``limit``."""
    return f"'{printable(str(text), limit)}'"


def suggest(command: str, *words: object) -> str:
    """A command to copy: each ``{}`` of ``command`` becomes a word, quoted for the shell.

    "" where a word cannot be copied from a terminal as it is, or would be taken for an option: then nothing
    is suggested, and an error falls back to the advice of its kind.
    """
    texts = [str(word) for word in words]
    if any(not text or text.startswith("-") or printable(text) != text for text in texts):
        return ""
    return command.format(*map(shlex.quote, texts))


def as_json(value: object, *, indent: int | None = None) -> str:
    """JSON in ASCII. A lone surrogate, which no program could read, is written as ``printable`` writes it."""
    return json.dumps(_readable(value), indent=indent, default=str)


def _readable(value: object) -> object:
    if isinstance(value, str):
        return value if _has_whole_characters(value) else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_readable(name): _readable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(inner) for inner in value]
    return value


def _has_whole_characters(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_seen(char: str) -> bool:
    # Python's "printable" leaves out the categories Cc, Cf (directions, joiners), Cs, Co, Cn, Zl, Zp and Zs.
    return char.isprintable() and char not in _INVISIBLE and not "\U000e0100" <= char <= "\U000e01ef"


def _escaped(char: str) -> str:
    return " " if unicodedata.category(char) == "Zs" else char.encode("unicode_escape").decode()
