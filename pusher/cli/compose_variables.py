"""Read the variables of compose files: ``.env`` files, and ``${...}`` in texts
(https://docs.docker.com/reference/compose-file/interpolation/).

Docker compose refuses a ``.env`` file of which it cannot read a line
(https://github.com/compose-spec/compose-go/blob/main/dotenv/parser.go); python-dotenv leaves such lines out.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from pusher.errors import InvalidOption
from pusher.text import quoted

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BRACED: Final = re.compile(r"\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<operator>:?[-?+])?")
_SKIPPED: Final = re.compile(r"(?:\s+|#[^\n]*)*")
_HEAD: Final = re.compile(r"(?:export\s+)?(?P<name>[^=:\n]*)(?P<end>[=:][^\S\n]*|\n|\Z)")
"""The beginning of a line of ``.env``: ``NAME=``, ``NAME:``, or NAME alone, which the environment sets."""
_FOREIGN: Final = re.compile(r"[^\w.\-\[\]\s]")
"""What cannot be in a name."""
_VALUE: Final = re.compile(r"""\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|(?![\"'])[^\n]*""", re.DOTALL)
_DEEPEST: Final = 20
"""Defaults inside of defaults."""


class VariableError(Exception):
    """A text cannot be interpolated; the message says why."""


def read_env_files(files: Iterable[Path], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of ``.env`` files, later ones first, and over them the environment.

    Raises InvalidOption.
    """
    from dotenv import dotenv_values

    own: dict[str, str | None] = {}
    for file in files:
        try:
            lines = _read_lines(file.read_text(encoding="utf-8-sig"))
            own |= dotenv_values(stream=io.StringIO("\n".join(lines)))
        except VariableError as error:
            raise InvalidOption(
                f"the file of variables {file}, {error}",
                hint="docker compose refuses it, too; write NAME=VALUE in each line, and comments after a #",
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise InvalidOption(
                f"the file of variables {file} cannot be read: {why}",
                hint="check it with: docker compose config",
            ) from None
    return {name: value for name, value in own.items() if value is not None} | dict(environment)


def _read_lines(text: str) -> list[str]:
    """Return the lines of a ``.env`` file that set a variable, as NAME=VALUE.

    Raises VariableError, which quotes no value.
    """

    def refuse(why: str) -> VariableError:
        return VariableError(f"line {text.count(chr(10), 0, begin) + 1}: {why}")

    lines: list[str] = []
    begin = _skip_comments(text, 0)
    while begin < len(text):
        head = _HEAD.match(text, begin)
        assert head is not None  # noqa: S101 - it matches anything
        name, position = head["name"].strip(), head.end()
        if foreign := _FOREIGN.search(name):
            raise refuse(f"{quoted(foreign[0])} cannot be in the name of a variable")
        if " " in name:
            raise refuse("the name of a variable cannot have a space")
        if head["end"].startswith(("=", ":")):
            value = _VALUE.match(text, position)
            if value is None:
                raise refuse("a quote is not closed")
            lines.append(f"{name}={value[0]}")
            position = value.end()
        begin = _skip_comments(text, position)
    return lines


def _skip_comments(text: str, start: int) -> int:
    """Return where the next line begins that is neither empty nor a comment."""
    skipped = _SKIPPED.match(text, start)
    return start if skipped is None else skipped.end()


class Interpolation:
    """Replaces ``$NAME``, ``${NAME}`` and its forms with ``-``, ``?`` and ``+`` in texts."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.unset: set[str] = set()
        """Variables that were needed and are not set; they count as empty, as in compose."""

    def interpolate(self, text: str, depth: int = 0) -> str:
        """Return the text with the values of its variables. Raises VariableError."""
        if depth > _DEEPEST:
            raise VariableError(f"{quoted(text)} has too many defaults inside of defaults")
        parts, position = [], 0
        while (dollar := text.find("$", position)) >= 0:
            parts.append(text[position:dollar])
            start = dollar + 1
            if text.startswith("$", start):
                parts.append("$")
                position = start + 1
            elif plain := _NAME.match(text, start):
                parts.append(self._value(plain[0]))
                position = plain.end()
            elif braced := _BRACED.match(text, start):
                end = _find_closing_brace(text, braced.end())
                word = text[braced.end() : end]
                if end < 0 or (word and braced["operator"] is None):
                    raise VariableError(f"{quoted(text)} has no valid variable after a $; $$ stands for a $")
                parts.append(self._replace(braced["name"], braced["operator"] or "", word, depth))
                position = end + 1
            else:
                raise VariableError(f"{quoted(text)} has no valid variable after a $; $$ stands for a $")
        return "".join([*parts, text[position:]])

    def _value(self, name: str) -> str:
        value = self._variables.get(name)
        if value is None:
            self.unset.add(name)
        return value or ""

    def _replace(self, name: str, operator: str, word: str, depth: int) -> str:
        """Return what stands for ``${name<operator>word}``."""
        value = self._variables.get(name)
        is_set = value is not None and (value != "" or not operator.startswith(":"))
        if operator.endswith("+"):
            return self.interpolate(word, depth + 1) if is_set else ""
        if is_set or not operator:
            return self._value(name)
        word = self.interpolate(word, depth + 1)
        if operator.endswith("-"):
            return word
        raise VariableError(f"the variable {name} is not set{f': {word}' if word else ''}")


def _find_closing_brace(text: str, start: int) -> int:
    """Return where the brace that is open at ``start`` is closed, or -1."""
    depth = 1
    for match in re.compile(r"\$\{|\}").finditer(text, start):
        depth += 1 if match[0] == "${" else -1
        if depth == 0:
            return match.start()
    return -1
